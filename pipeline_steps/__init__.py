"""Composable CI steps that carry Helm charts and their images from a push to a released chart.

A module directly inside this package is a step: one verb, one process, one Python function. A
folder is what steps stand on, named after a thing of the domain. Importing the package changes
nothing, with one exception: started as ``python -m pipeline_steps…`` the working directory leaves
``sys.path``, because it holds the checkout under test and a ``yaml.py`` in it must not run.
"""

import sys

__version__ = "0.1.0"

# Only `python -m` leaves "-m" here while packages are imported (CPython, Modules/main.c and runpy):
# a program that imports the library as a package keeps its own path. PYTHONSAFEPATH has taken the
# entry off already.
if sys.argv[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]
