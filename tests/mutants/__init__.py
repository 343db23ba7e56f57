"""The guards of this project, broken one by one: `python -m tests.mutants`."""
