"""Programs that bring real systems onto one machine, for `make demo` and the tests.

Not part of the wheel: nothing here imports `pipeline_steps`, nothing there imports this, and only Python's own
library is used, because these run before anything is installed.
"""
