"""The build that a process runs in, as CI systems describe it. Reporting to them does not belong
here.
"""
