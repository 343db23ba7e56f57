"""Composable CI steps that carry Helm charts and their images from a push to a released chart.

A module directly inside this package is a step: one verb, one process, one Python function. The
folders contain what steps are built from. Importing the package has no side effect, with one
exception: started as ``python -m pipeline_steps…`` it removes the working directory from
``sys.path``, because a ``yaml.py`` in the checkout under test must not be imported.
"""

import sys

__version__ = "0.1.0"

# Only `python -m` sets sys.argv to "-m" while packages are imported (CPython, Modules/main.c and
# runpy), so programs that import the library keep their path. With PYTHONSAFEPATH the entry is not
# there in the first place.
if sys.argv[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]
