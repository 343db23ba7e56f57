"""What clusters pull: the logins they need for it, and the digests under which nodes report an
image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline_steps.auth.credentials import Login, login_for, pull_login
from pipeline_steps.auth.hosts import Host, pulled
from pipeline_steps.auth.reference import Reference
from pipeline_steps.config.language import TEST_DEFAULTS, Config, merged
from pipeline_steps.oci.registry import connect


def credentials(images: Iterable[str], hosts: Mapping[str, Host]) -> dict[str, tuple[str, str]]:
    """What a pull secret holds: registry host → (user, password) for all that `images` (references)
    are pulled from.

    Where images of one host need different logins, further ones stand under the whole repository,
    which the kubelet prefers. Hosts without a known login are left out. Raises ConfigurationError
    when the login that `hosts` names needs a variable that is not set.
    """
    logins: dict[str, tuple[str, str]] = {}
    for image in images:
        reference, login = _login(Reference.parse(image), hosts)
        if login and login.username:
            pair = (login.username, login.password)
            if logins.setdefault(reference.host, pair) != pair:
                logins[reference.repository] = pair
    return logins


def _login(pushed: Reference, hosts: Mapping[str, Host]) -> tuple[Reference, Login | None]:
    """Where pods pull what was pushed as `pushed`, and with which login: `pull` of where they pull
    from, or of where it was pushed, else the login for where they pull from."""
    reference = pulled(pushed, hosts)
    login = pull_login(reference.host, reference.path, hosts) or pull_login(
        pushed.host, pushed.path, hosts
    )
    return reference, login or login_for(reference.host, reference.path, hosts)


def login_that_pushes(config: Config) -> str:
    """What to tell people when charts under test can read, in their pull secret, the login that
    snapshots are pushed with; "" when they cannot. Raises MachineError for a store of logins that
    is broken."""
    hosts, images = config.hosts, config.channels.snapshot.images
    if not images or merged(TEST_DEFAULTS, config.tests).pull_secret is False:
        return ""
    pushed = Reference.parse(
        f"{images.rstrip('/')}/image", where=config.where("channels.snapshot.images")
    )
    reference = pulled(pushed, hosts)
    if reference.repository != pushed.repository or any(
        each.has("pull") for each in _entries(pushed, hosts)
    ):
        return ""
    has_login = any(each.has("username", "password") for each in _entries(pushed, hosts))
    if not has_login and login_for(pushed.host, pushed.path, hosts) is None:
        return ""
    advice = f'name one that only reads in hosts."{images}".pull'
    return f"charts under test can read the login that pushes to {images}: {advice}"


def _entries(reference: Reference, hosts: Mapping[str, Host]) -> list[Host]:
    """Every entry about a repository."""
    return [
        host
        for name, host in hosts.items()
        if f"{reference.repository}/".startswith(f"{name.rstrip('/')}/")
    ]


def named(image: str, manifests: str, hosts: Mapping[str, Host]) -> bool:
    """Whether rendered manifests name an image (reference with digest), by its digest, its
    repository or its key tag.

    >>> named("localhost:5000/snapshot/web:k-0123456789ab", "image: mirror/web:k-0123456789ab", {})
    True
    >>> named("localhost:5000/snapshot/web:k-0123456789ab", "image: localhost:5000/snapshot/webby:1", {})
    False
    """
    reference = pulled(Reference.parse(image), hosts)
    tag = f":{reference.tag}" if re.fullmatch("k-[0-9a-f]{12}", reference.tag or "") else None
    if any(way in manifests for way in (reference.digest, tag) if way):
        return True
    return bool(re.search(rf"{re.escape(reference.repository)}(?![\w./-])", manifests))


def parts(image: str, hosts: Mapping[str, Host]) -> set[str]:
    """Digests of the manifests and configurations that the image (reference with digest) consists
    of.

    Raises MachineError, Temporary when the registry does not say: nothing is known of the chart
    then.
    """
    reference = Reference.parse(image)
    digests: set[str] = set()
    waiting = [reference.digest or reference.name]
    registry = connect(reference, hosts)
    while waiting:
        manifest = registry.manifest(reference.path, waiting.pop())
        if manifest is None:
            continue
        waiting += [child.digest for child in manifest.children]
        config = manifest.content.get("config")
        digests |= {manifest.digest, *([config["digest"]] if config else [])}
    return digests
