"""What is built and packed: recipes of images, the files of a chart's archive, records of both,
channels.
"""
