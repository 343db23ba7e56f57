"""Stores of the records of all builds, found by what they are about. Which store counts when stands in core."""
