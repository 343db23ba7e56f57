"""What clusters pull: the logins they need for it, and the digests under which nodes report an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import login_for
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.registry import connect


def credentials(images: Iterable[str], hosts: Mapping[str, Host]) -> dict[str, tuple[str, str]]:
    """Registry host → (user, password) for every registry that `images` (references) are pulled from, where known."""
    found: dict[str, tuple[str, str]] = {}
    for image in images:
        pushed = Reference.parse(image).repository
        prefix, entry = table.of(dict(hosts), pushed)
        pulled = f"{entry.pull_as}{pushed.removeprefix(prefix)}" if entry.pull_as else pushed
        host, _, path = pulled.partition("/")
        login = login_for(host, path, hosts)
        if login and login.username:
            found[host] = (login.username, login.password)
    return found


def named(image: str, manifests: str) -> bool:
    """Whether rendered manifests name an image (reference with digest), by its digest, its repository or its key tag.

    >>> named("localhost:5000/snapshot/web:k-0123456789ab", "image: mirror/web:k-0123456789ab")
    True
    >>> named("localhost:5000/snapshot/web:k-0123456789ab", "image: localhost:5000/snapshot/webby:1")
    False
    """
    reference = Reference.parse(image)
    tag = f":{reference.tag}" if re.fullmatch("k-[0-9a-f]{12}", reference.tag or "") else None
    if any(way in manifests for way in (reference.digest, tag) if way):
        return True
    return bool(re.search(rf"{re.escape(reference.repository)}(?![\w./-])", manifests))


def parts(image: str, hosts: Mapping[str, Host]) -> set[str]:
    """Digests of the manifests and configurations that the image (reference with digest) consists of.

    Raises MachineError, Temporary when the registry does not say: nothing is known of the chart then.
    """
    reference = Reference.parse(image)
    found: set[str] = set()
    waiting = [reference.digest or reference.name]
    registry = connect(reference, hosts)
    while waiting:
        manifest = registry.manifest(reference.path, waiting.pop())
        if manifest is None:
            continue
        waiting += [child.digest for child in manifest.children]
        config = manifest.content.get("config")
        found |= {manifest.digest, *([config["digest"]] if config else [])}
    return found
