"""Programs that bring real systems onto one machine, for `make demo` and the tests.

Not part of the wheel: nothing there imports this. But for `reference`, which writes docs/reference,
nothing here imports `pipeline_steps` and only Python's own library is used, because these run
before anything is installed.
"""
