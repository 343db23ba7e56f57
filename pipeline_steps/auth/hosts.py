"""What the configuration says about a host: credentials, trust, plain HTTP. Longest prefix wins."""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
from collections.abc import Mapping

import msgspec

from pipeline_steps.auth.reference import Reference
from pipeline_steps.toolbox.errors import ConfigurationError


class Pull(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The login that the namespaces of tests get, where charts under test can read it: one that
    only reads.
    """

    username: str
    """The account. Example: `username: "${PULL_USR}"`"""

    password: str
    """Its password, as in the entry itself. Example: `password: "${PULL_PSW}"`"""


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `hosts`; its key is a host with optional port and path prefix, like
    registry.example.com/team.
    """

    username: str | None = None
    """The account; without one, docker's, helm's and svn's own logins are used, and git's for
    repositories at `git+https://`. In the checkout git and brz use their own logins always.
    Example: `username: "${PROD_USR}"`"""

    password: str | None = None
    """`"${NAME}"` or `file:PATH`; a password that is written here is refused.
    Example: `password: "${PROD_PSW}"`"""

    ca_file: str | None = None
    """A PEM file with the certificates to trust. Example: `ca_file: /etc/ssl/corp.pem`"""

    plain_http: bool = False
    """Whether to talk HTTP, without TLS. Example: `plain_http: true`"""

    pull_as: str | None = None
    """The prefix under which clusters see what is pushed here.
    Example: `pull_as: mirror.example.com/production`"""

    pull: Pull | None = None
    """The login that test namespaces get for this address: charts under test can read it.
    Example: `pull: {username: "${PULL_USR}", password: "${PULL_PSW}"}`"""

    def has(self, *fields: str) -> bool:
        """Whether any of these fields is written."""
        return any(getattr(self, field) for field in fields)

    def require(self, *fields: str) -> None:
        """Raise ConfigurationError when one of these fields, like "pull.password", needs a variable
        that is not set.
        """


class IncompleteHost(Host, frozen=True, kw_only=True):
    """A host of which some fields cannot be used here, mostly for a variable that is not set: all
    others can.

    A stage that does not push to production runs without production's login. unset: field → the
    error that says so.
    """

    unset: dict[str, ConfigurationError]

    def has(self, *fields: str) -> bool:
        return super().has(*fields) or any(field in self.unset for field in fields)

    def require(self, *fields: str) -> None:
        for field in fields:
            if field in self.unset:
                raise self.unset[field]


def entry_for(hosts: Mapping[str, Host], reference: str) -> tuple[str, Host]:
    """The longest configured prefix of `reference` (host[:port]/path, without scheme) and its
    entry.

    Raises ConfigurationError when its ca_file needs a variable that is not set.

    >>> hosts = {"a.example.com": Host(), "a.example.com/prod": Host(username="p")}
    >>> entry_for(hosts, "a.example.com/prod/web")[0]
    'a.example.com/prod'
    >>> entry_for({"a.example.com/prod": Host()}, "a.example.com/production/web")[0]
    ''
    """
    # Longest prefix wins, so that one team's part of a registry can have its own login.
    best = max(
        (prefix for prefix in hosts if f"{reference}/".startswith(f"{prefix.rstrip('/')}/")),
        key=len,
        default="",
    )
    entry = hosts.get(best, Host())
    entry.require("ca_file")
    return best, entry


def pulled(reference: Reference, hosts: Mapping[str, Host]) -> Reference:
    """What clusters pull for an image that was pushed as `reference`: its name in charts, and whose
    login they need.

    The longest prefix with `pull_as` counts; a longer one that only has a login says nothing about
    it.

    >>> mirrored = Host(pull_as="mirror.example.com/p")
    >>> hosts = {"r.example.com/prod": mirrored, "r.example.com/prod/team": Host("ci", "…")}
    >>> str(pulled(Reference.parse("r.example.com/prod/team/web:1"), hosts))
    'mirror.example.com/p/team/web:1'
    """
    prefix, entry = entry_for(
        {name: host for name, host in hosts.items() if host.has("pull_as")}, reference.repository
    )
    entry.require("pull_as")
    if not entry.pull_as:
        return reference
    name = entry.pull_as.rstrip("/") + reference.repository.removeprefix(prefix.rstrip("/"))
    mirror = Reference.parse(name, where=f"hosts.{prefix}.pull_as")
    return mirror._replace(tag=reference.tag, digest=reference.digest)
