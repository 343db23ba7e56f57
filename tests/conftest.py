"""The real systems that several test files share; see tests/support/machine.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import machine


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[machine.Engine]:
    with machine.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def kubernetes_node() -> Iterator[machine.Node]:
    with machine.kubernetes_node() as node:
        yield node
