"""The real systems that several test files share; see tests/support/machine.py."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from pipeline_steps.toolbox import redact
from tests.support import busybox, gerrits, giteas, lp_projects, machine
from tests.support.examples import EXAMPLES, FULL
from tests.support.registries import Running

# The tests mean the same at a desk and in CI; those about a CI system set its variables themselves.
_OF_A_BUILD = ("GITHUB_", "GITEA_", "GITLAB_", "GERRIT_", "JENKINS_", "BUILD_")
for _name in list(os.environ):
    if _name == "CI" or _name.startswith(_OF_A_BUILD):
        del os.environ[_name]

# The lanes of every change try the same examples each time, so that a change is not refused for what
# was wrong before it; the full size draws new ones. Neither judges how long an example takes: on a
# machine where three lanes run on two cores, that says nothing of the code.
hypothesis.settings.register_profile(
    "lane",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("full", max_examples=EXAMPLES, deadline=None)
hypothesis.settings.load_profile("full" if FULL else "lane")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[machine.Engine]:
    with machine.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def kubernetes_node() -> Iterator[machine.Node]:
    with machine.kubernetes_node() as node:
        yield node


@pytest.fixture(scope="session")
def gerrit() -> Iterator[gerrits.Gerrit]:
    with gerrits.gerrit() as running:
        yield running


@pytest.fixture(scope="session")
def forge() -> Iterator[giteas.Forge]:
    """A Gitea with people in it; tests that stop it start it again."""
    with giteas.serving() as serving:
        yield serving


@pytest.fixture(scope="session")
def lp_project(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], lp_projects.LpProject]]:
    """The project on Launchpad with the branches of a source system, started when asked for."""
    with contextlib.ExitStack() as ends:

        @functools.cache
        def start(system: str) -> lp_projects.LpProject:
            folder = tmp_path_factory.mktemp(f"launchpad-{system}")
            project = ends.enter_context(lp_projects.SYSTEMS[system](folder))
            project.commit("trunk", {"README": "charts\n"})
            return project

        yield start


@pytest.fixture
def buildkit(docker_engine: machine.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine as the current one, with the builder that its environment names."""
    for name, value in docker_engine.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def registry() -> Iterator[Running]:
    """A registry that the engine reaches."""
    with machine.registry() as running:
        yield running


@pytest.fixture(scope="module")
def images() -> Iterator[str]:
    """host:port of a registry that has the image web:k-1."""
    with machine.registry() as running:
        busybox.push(running.host)
        yield running.host


@pytest.fixture(scope="module")
def node(images: str) -> Iterator[machine.Node]:
    """A node that pulls from the registry of `images`."""
    with machine.kubernetes_node(images) as running_node:
        yield running_node


@pytest.fixture(autouse=True)
def _talk_as_before() -> Iterator[None]:
    """A step called in this process sets up its talk: the next test finds the logger as it was."""
    logger = logging.getLogger("pipeline_steps")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture(autouse=True)
def _secrets_as_before() -> Iterator[None]:
    """What one test's login hides, like "wrong", may be an ordinary word of the next one's
    messages.
    """
    every = (redact._forms, redact._base64_forms, redact._forms_of_lines)
    before = [(forms, set(forms)) for forms in every]
    yield
    for forms, kept in before:
        forms.clear()
        forms.add_all(kept)
