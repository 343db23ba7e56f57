"""What clusters pull: the logins they need for it, and the digests under which nodes report an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline_steps.auth.credentials import login_for
from pipeline_steps.auth.hosts import Host, pulled
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.registry import connect


def credentials(images: Iterable[str], hosts: Mapping[str, Host]) -> dict[str, tuple[str, str]]:
    """What a pull secret holds: registry host → (user, password) for all that `images` (references) are pulled from.

    Where images of one host need different logins, further ones stand under the whole repository, which the kubelet
    prefers. Hosts without a known login are left out.
    """
    logins: dict[str, tuple[str, str]] = {}
    for image in images:
        reference = pulled(Reference.parse(image), hosts)
        login = login_for(reference.host, reference.path, hosts)
        if login and login.username:
            pair = (login.username, login.password)
            if logins.setdefault(reference.host, pair) != pair:
                logins[reference.repository] = pair
    return logins


def named(image: str, manifests: str, hosts: Mapping[str, Host]) -> bool:
    """Whether rendered manifests name an image (reference with digest), by its digest, its repository or its key tag.

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
    """Digests of the manifests and configurations that the image (reference with digest) consists of.

    Raises MachineError, Temporary when the registry does not say: nothing is known of the chart then.
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
