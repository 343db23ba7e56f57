"""Repeat recorded steps and compare the results: the work of `reproduce`."""
