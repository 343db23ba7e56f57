"""Login and errors of Launchpad's web service, against a double of it."""

from __future__ import annotations

import builtins
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.services.launchpad import Launchpad, read_token
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
    Temporary,
    ToolMissing,
    Unreachable,
)
from pipeline_steps.toolbox.redact import redact
from tests.support import launchpads
from tests.support.registries import free_port


@pytest.fixture(scope="module")
def hub() -> Iterator[launchpads.Launchpad]:
    with launchpads.launchpad() as running:
        running.new_person("alice")
        yield running


@pytest.fixture
def token(hub: launchpads.Launchpad, tmp_path: Path) -> Path:
    return write_token(tmp_path / "token", hub.token(hub.people["alice"]))


def write_token(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[str] = []
    for name in ("open", "open_new", "open_new_tab", "get"):
        monkeypatch.setattr(webbrowser, name, lambda *words, **_: opened.append(str(words)))
    yield
    assert not opened


def test_a_token_is_somebody(hub: launchpads.Launchpad, token: Path) -> None:
    by_option = Launchpad(hub.root, str(token), environ={})
    by_variable = Launchpad(hub.root, environ={"LP_CREDENTIALS_FILE": str(token)})
    for service in (by_option, by_variable):
        service.require_token()
        with service.errors():
            assert service.service.me.name == "alice"
    assert "secret-of-alice" not in redact("the token is key-of-alice and secret-of-alice")


def test_without_a_token_what_is_public_can_be_read(hub: launchpads.Launchpad) -> None:
    anonymous = Launchpad(hub.root, environ={})
    assert anonymous.is_anonymous
    with anonymous.errors():
        assert anonymous.service.branches.getByUniqueName(unique_name="~alice/none/here") is None
    with pytest.raises(AccessRefused, match="no token for Launchpad"):
        anonymous.require_token()


@pytest.mark.parametrize(
    ("text", "mode", "kind", "words"),
    [
        (None, 0o600, ConfigurationError, "cannot be read"),
        ("[1]\naccess_token = a\n", 0o640, AccessRefused, "mode 0640.*chmod 600"),
        ("[1]\naccess_token = canary-of-a-token\n", 0o600, ConfigurationError, "needs the section"),
        ("canary-of-a-token", 0o600, ConfigurationError, "needs the section"),
    ],
)
def test_files_that_are_no_token(
    tmp_path: Path, text: str | None, mode: int, kind: type[PipelineError], words: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(kind, match=words) as raised:
        read_token(path)
    assert "canary-of-a-token" not in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ((401, "Expired token (key-of-alice)."), AccessRefused),
        ((403, "no"), AccessRefused),
        ((404, "no such thing"), AccessRefused),
        ((400, "name: Required"), MachineError),
        ((500, "OOPS-1"), Temporary),
        ((503, "Timeout"), Temporary),
        ((None, ""), Temporary),
    ],
)
def test_errors_of_the_service(
    hub: launchpads.Launchpad,
    token: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[int | None, str],
    kind: type[PipelineError],
) -> None:
    service = Launchpad(hub.root, str(token))
    assert service.service
    monkeypatch.setattr("lazr.restfulclient._browser.sleep", lambda _: None)
    monkeypatch.setattr(hub, "fault", lambda _: fault)
    with pytest.raises(kind) as raised, service.errors("~alice"):
        _ = service.service.me.name
    assert raised.value.where == "~alice" and "key-of-alice" not in str(raised.value)


def test_nobody_there(token: Path) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        _ = Launchpad(f"http://127.0.0.1:{free_port()}/", str(token)).service


@pytest.mark.parametrize("root", ["http://lp.example.com/", "lp.example.com", "ftp://127.0.0.1/"])
def test_addresses_without_tls(root: str) -> None:
    with pytest.raises(ConfigurationError, match="no https:// URL"):
        Launchpad(root)


def test_without_the_extra(
    hub: launchpads.Launchpad, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = builtins.__import__

    def missing(name: str, *more: Any) -> Any:
        if name.startswith("launchpadlib"):
            raise ImportError(f"No module named {name!r}")
        return genuine(name, *more)

    for name in [each for each in sys.modules if each.startswith("launchpadlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ToolMissing, match=r"pip install .*\[launchpad\]'"):
        _ = Launchpad(hub.root, str(token)).service
