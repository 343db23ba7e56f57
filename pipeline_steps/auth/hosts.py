"""What the configuration says about a host: credentials, trust, plain HTTP. Longest prefix wins."""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
import msgspec


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


def of(hosts: dict[str, Host], reference: str) -> tuple[str, Host]:
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
