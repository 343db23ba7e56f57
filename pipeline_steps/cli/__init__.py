"""A function becomes a process: options, the selection of charts, exit codes, signals."""
