"""What the configuration says about a host: credentials, trust, plain HTTP. Longest prefix wins."""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
from collections.abc import Mapping

import msgspec

from pipeline_steps.auth.reference import Reference


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `hosts`; its key is a host with optional port and path prefix, like registry.example.com/team.

    password: "${NAME}" (already expanded here) or "file:PATH". ca_file: PEM. pull_as: the prefix under which
    clusters see what we push here.
    """

    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    plain_http: bool = False
    pull_as: str | None = None


def of(hosts: Mapping[str, Host], reference: str) -> tuple[str, Host]:
    """The longest configured prefix of `reference` (host[:port]/path, without scheme) and its entry.

    >>> of({"a.example.com": Host(), "a.example.com/prod": Host(username="p")}, "a.example.com/prod/web")[0]
    'a.example.com/prod'
    >>> of({"a.example.com/prod": Host()}, "a.example.com/production/web")[0]
    ''
    """
    best = max(
        (prefix for prefix in hosts if f"{reference}/".startswith(f"{prefix.rstrip('/')}/")), key=len, default=""
    )
    return best, hosts.get(best, Host())


def pulled(reference: Reference, hosts: Mapping[str, Host]) -> Reference:
    """What clusters pull for an image that was pushed as `reference`: its name in charts, and whose login they need.

    The longest prefix with `pull_as` counts; a longer one that only has a login says nothing about it.

    >>> hosts = {"r.example.com/prod": Host(pull_as="mirror.example.com/p"), "r.example.com/prod/team": Host("ci", "…")}
    >>> str(pulled(Reference.parse("r.example.com/prod/team/web:1"), hosts))
    'mirror.example.com/p/team/web:1'
    """
    prefix, entry = of({name: host for name, host in hosts.items() if host.pull_as}, reference.repository)
    if not entry.pull_as:
        return reference
    name = entry.pull_as.rstrip("/") + reference.repository.removeprefix(prefix.rstrip("/"))
    there = Reference.parse(name, where=f"hosts.{prefix}.pull_as")
    return there._replace(tag=reference.tag, digest=reference.digest)
