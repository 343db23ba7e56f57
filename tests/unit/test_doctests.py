"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pipeline_steps

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(pipeline_steps.__path__, "pipeline_steps.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_give_the_stated_results(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), verbose=False)
    assert result.failed == 0
