"""A port that was given to one caller of `free_ports` is given to no other, bound or not."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tools import environment
from tools.machine import free_ports


class Unlucky:
    """Chance that names a given port first each time."""

    def __init__(self, port: int) -> None:
        self.port = port

    def sample(self, ports: range, count: int) -> list[int]:
        return [self.port, *(port for port in ports if port != self.port)][:count]


IN_ANOTHER_PROCESS = """\
import random, sys
from tests.unit.test_machine_ports import Unlucky
from tools.machine import free_ports
random.SystemRandom = lambda: Unlucky(int(sys.argv[1]))
print(*free_ports(2))
"""


def test_no_two_callers_get_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(port)]
    ran = subprocess.run(command, cwd=environment.ROOT, capture_output=True, text=True, check=True)
    monkeypatch.setattr(random, "SystemRandom", lambda: Unlucky(port))
    here, there = free_ports(2), [int(word) for word in ran.stdout.split()]
    assert port not in {*here, *there}
