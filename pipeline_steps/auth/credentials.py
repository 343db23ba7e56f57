"""Logins for registries: `hosts` of the configuration, else docker's credentials, else helm's.

Docker's are in $DOCKER_CONFIG/config.json: credHelpers, credsStore, auths (docker.com, "docker
login" reference). helm's registry file has the same format. Every secret read here is registered
with the redactor.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import DOCKER_HUB
from pipeline_steps.toolbox import files, json_reader, process
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError
from pipeline_steps.toolbox.redact import register

#: What docker's helpers print when they have no login (docker-credential-helpers,
#: credentials/error.go).
_NO_LOGIN = "credentials not found in native keychain"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


class Login(NamedTuple):
    """Username and password, or an identity token that OAuth2 registries exchange for access
    tokens.
    """

    username: str
    password: str
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"


def login_for(
    host: str, path: str, hosts: Mapping[str, Host], environ: Mapping[str, str] | None = None
) -> Login | None:
    """The login for host/path; None when there is none, then requests are anonymous.

    Raises:
        ConfigurationError: `hosts` has only half a login, needs an unset variable, or names an
            unreadable password file.
        MachineError: a credential store is unreadable.
    """
    hosts_login = from_hosts(host, path, hosts)
    if hosts_login:
        return hosts_login
    for file in credential_files(os.environ if environ is None else environ):
        login = _login_from_file(file, host, path)
        if login:
            return login
    return None


def from_hosts(host: str, path: str, hosts: Mapping[str, Host]) -> Login | None:
    """The login at the longest matching prefix in `hosts`, or None.

    Raises ConfigurationError for half a login, and for a variable that is not set.
    """
    prefix, entry = _entry_with_login(host, path, hosts)
    if not prefix:
        return None
    entry.require("username", "password")
    if not entry.username or not entry.password:
        raise ConfigurationError(
            "a login needs both username and password",
            where=f"hosts.{prefix}",
            advice="set both variables, or neither",
        )
    return Login(entry.username, _password(entry.password, prefix))


def login_problem(host: str, path: str, hosts: Mapping[str, Host]) -> ConfigurationError | None:
    """The error of the login in `hosts` for host/path when a variable that it needs is not set;
    None when it can be used. Callers that can do without a login go on without.
    """
    try:
        _entry_with_login(host, path, hosts)[1].require("username", "password")
    except ConfigurationError as error:
        return error
    return None


def _entry_with_login(host: str, path: str, hosts: Mapping[str, Host]) -> tuple[str, Host]:
    """The longest prefix that has a login, and its entry."""
    with_login = {
        prefix: entry for prefix, entry in hosts.items() if entry.has("username", "password")
    }
    return table.entry_for(with_login, f"{host}/{path}")


def pull_login(host: str, path: str, hosts: Mapping[str, Host]) -> Login | None:
    """The login for pulls at the longest prefix with `pull`, or None. Raises like `from_hosts`."""
    prefix, entry = table.entry_for(
        {name: each for name, each in hosts.items() if each.has("pull")}, f"{host}/{path}"
    )
    if entry.pull is None:
        return None
    entry.require("pull.username", "pull.password")
    if not entry.pull.username or not entry.pull.password:
        raise ConfigurationError(
            "the login for pulling needs both username and password",
            where=f"hosts.{prefix}.pull",
            advice="give both, or neither",
        )
    return Login(entry.pull.username, _password(entry.pull.password, f"{prefix}.pull"))


def _password(text: str, prefix: str) -> str:
    if not text.startswith("file:"):
        return register(text)
    file = Path(text.removeprefix("file:"))
    try:
        return register(file.read_text().rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"this account cannot read the password: {error}",
            where=f"hosts.{prefix}.password",
            advice="give the file to this account, or run as the one that owns it",
        ) from error


def credential_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The credential files in their order of precedence: docker's, then helm's."""
    home = Path(environ.get("HOME") or "/")
    yield docker_folder(environ) / "config.json"
    if registry_config := environ.get("HELM_REGISTRY_CONFIG"):
        yield Path(registry_config)
    else:
        config = (
            environ.get("HELM_CONFIG_HOME")
            or f"{environ.get('XDG_CONFIG_HOME') or home / '.config'}/helm"
        )
        yield Path(config) / "registry" / "config.json"


def docker_folder(environ: Mapping[str, str]) -> Path:
    """Docker's configuration folder: $DOCKER_CONFIG, else ~/.docker."""
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "/") / ".docker")


def _login_from_file(file: Path, host: str, path: str) -> Login | None:
    config = read_credential_file(file)
    # Docker stores the login of Docker Hub under its old index URL.
    names = (*_HUB_KEYS, host) if host == DOCKER_HUB else (host, f"https://{host}")
    helpers: Mapping[str, str] = config.get("credHelpers") or {}
    program = next((helpers[name] for name in names if name in helpers), None) or config.get(
        "credsStore"
    )
    if program:
        for name in names:
            login = _ask_helper(program, name, file)
            if login:
                return login
    auths: Mapping[str, Any] = config.get("auths") or {}
    repository = f"{host}/{path}"
    prefixes = [key for key in auths if f"{repository}/".startswith(f"{_repository_prefix(key)}/")]
    # The longest matching key wins, as in docker's "auths" with repository paths (podman writes
    # them).
    for key in sorted(prefixes, key=lambda each: len(_repository_prefix(each)), reverse=True):
        login = _login_of_entry(auths[key], f"{file}: auths.{key}")
        if login:
            return login
    return None


def read_credential_file(file: Path) -> dict[str, Any]:
    """The JSON object in a credential file, {} when there is no such file. Raises MachineError."""
    try:
        return json_reader.decode_as(dict[str, Any], file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # the latter where HOME is /dev/null
        return {}
    except OSError as error:
        raise files.unreadable(error, file) from error
    except ValueError as error:
        raise MachineError(
            f"the file is not a JSON object: {error}",
            where=str(file),
            advice="correct the file, or log in again: docker login",
        ) from error


def _repository_prefix(key: str) -> str:
    """A key of `auths` as host/path: old docker versions wrote URLs."""
    if key in _HUB_KEYS:
        return DOCKER_HUB
    name = key.partition("://")[2] or key
    return name.rstrip("/").removesuffix("/v1").removesuffix("/v2")


def _login_of_entry(entry: Any, where: str) -> Login | None:
    if not isinstance(entry, dict):
        raise MachineError(
            "the entry is not an object",
            where=where,
            advice="correct the file, or log in again: docker login",
        )
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            # "auth" is base64 of name:password; it overrides separate fields, as in
            # docker's own code.
            username, _, password = (
                base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            )
        except ValueError as error:
            raise MachineError(
                "auth is not base64 of name:password",
                where=where,
                advice="log in again: docker login HOST",
            ) from error
        register(entry["auth"])
    token = str(entry.get("identitytoken") or "")
    if not token and not username:
        return None
    return Login(username, register(password), register(token))


def _ask_helper(program: str, name: str, file: Path) -> Login | None:
    """The login from docker-credential-PROGRAM, None when it has none for `name`.

    The server's name goes to standard input, as the helper protocol demands.
    """
    command = f"docker-credential-{program}"
    path = process.require(command, advice=f"{file} names it: install it, or remove it there")
    # Cloud helpers read their own login from various variables, so they get the whole environment.
    completed = process.run([path, "get"], env=os.environ, stdin=name.encode(), timeout=30)
    if not completed.ok:
        output = (completed.stdout + completed.stderr).decode(errors="replace")
        if _NO_LOGIN in output:
            return None
        raise MachineError(
            f"{command} fails for {name}: {completed.tail(5)}",
            where=str(file),
            advice="run the program by hand; it must print the login",
        )
    try:
        answer = json_reader.decode(completed.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(
            f"{command} returned no login for {name}",
            where=str(file),
            advice="log in with that program: docker login HOST",
        ) from error
    register(secret)
    # Helpers use the user name <token> for an identity token (docker-credential-helpers).
    return Login("", "", secret) if username == "<token>" else Login(username, secret)
