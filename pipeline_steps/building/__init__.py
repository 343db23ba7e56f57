"""What is built and packed: build definitions, files of archives, records of both, channels."""
