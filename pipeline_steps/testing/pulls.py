"""Images that clusters pull: the logins for pull secrets, the digests that nodes report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline_steps.auth.credentials import Login, login_for, pull_login
from pipeline_steps.auth.hosts import Host, pulled
from pipeline_steps.auth.reference import Reference
from pipeline_steps.config.language import TEST_DEFAULTS, Config, merge_tests
from pipeline_steps.oci.registry import connect


def pull_credentials(
    images: Iterable[str], hosts: Mapping[str, Host]
) -> dict[str, tuple[str, str]]:
    """The content of a pull secret: registry host → (user, password) for the hosts of `images`.

    When images of one host need different logins, the further ones are keyed by the whole
    repository: the kubelet takes the longest match. Hosts without a login are left out.
    https://kubernetes.io/docs/concepts/containers/images/#config-json

    Raises ConfigurationError when a login of `hosts` needs an environment variable that is not set.
    """
    logins: dict[str, tuple[str, str]] = {}
    for image in images:
        reference, login = _pull_login(Reference.parse(image), hosts)
        if login and login.username:
            pair = (login.username, login.password)
            # One entry for a host is what every container runtime understands; paths only where
            # they differ.
            if logins.setdefault(reference.host, pair) != pair:
                logins[reference.repository] = pair
    return logins


def _pull_login(pushed: Reference, hosts: Mapping[str, Host]) -> tuple[Reference, Login | None]:
    """The reference under which pods pull `pushed`, and the login for it.

    First choice: the `pull` login of the host they pull from, or of the host it was pushed to.
    Otherwise: the ordinary login of the host they pull from.
    """
    reference = pulled(pushed, hosts)
    login = pull_login(reference.host, reference.path, hosts) or pull_login(
        pushed.host, pushed.path, hosts
    )
    return reference, login or login_for(reference.host, reference.path, hosts)


def push_login_warning(config: Config) -> str:
    """A warning when the pull secret contains the login that pushes snapshots, "" when not.

    A chart under test can read the secret and could push. Raises MachineError when the store of
    logins is broken.
    """
    hosts, images = config.hosts, config.channels.snapshot.images
    if not images or merge_tests(TEST_DEFAULTS, config.tests).pull_secret is False:
        return ""
    pushed = Reference.parse(
        f"{images.rstrip('/')}/image", where=config.where("channels.snapshot.images")
    )
    reference = pulled(pushed, hosts)
    if reference.repository != pushed.repository or any(
        entry.has("pull") for entry in _host_entries(pushed, hosts)
    ):
        return ""
    has_login = any(entry.has("username", "password") for entry in _host_entries(pushed, hosts))
    if not has_login and login_for(pushed.host, pushed.path, hosts) is None:
        return ""
    advice = f'name one that only reads in hosts."{images}".pull'
    return f"charts under test can read the login that pushes to {images}: {advice}"


def _host_entries(reference: Reference, hosts: Mapping[str, Host]) -> list[Host]:
    """Every entry of `hosts` whose prefix covers the repository."""
    return [
        host
        for name, host in hosts.items()
        if f"{reference.repository}/".startswith(f"{name.rstrip('/')}/")
    ]


def manifests_name_image(image: str, manifests: str, hosts: Mapping[str, Host]) -> bool:
    """Whether rendered manifests name an image by its digest, its repository or its key tag.

    image: reference with digest.

    >>> image = "localhost:5000/snapshot/web:k-0123456789ab"
    >>> manifests_name_image(image, "image: mirror/web:k-0123456789ab", {})
    True
    >>> manifests_name_image(image, "image: localhost:5000/snapshot/webby:1", {})
    False
    """
    # A mirror in the cluster may serve the image under another host, but not another tag or digest.
    reference = pulled(Reference.parse(image), hosts)
    tag = f":{reference.tag}" if re.fullmatch("k-[0-9a-f]{12}", reference.tag or "") else None
    if any(text in manifests for text in (reference.digest, tag) if text):
        return True
    return bool(re.search(rf"{re.escape(reference.repository)}(?![\w./-])", manifests))


def image_digests(image: str, hosts: Mapping[str, Host]) -> set[str]:
    """Digests of all manifests and configurations of an image (reference with digest).

    A node reports one of these, depending on its container runtime. Raises MachineError or
    Temporary when the registry gives no answer: that is no failure of the chart.
    """
    reference = Reference.parse(image)
    digests: set[str] = set()
    waiting = [reference.digest or reference.name]
    registry = connect(reference, hosts)
    while waiting:
        manifest = registry.manifest(reference.path, waiting.pop())
        # Children of an index may have been left out of the registry on purpose (a platform less).
        if manifest is None:
            continue
        waiting += [child.digest for child in manifest.children]
        config = manifest.content.get("config")
        digests |= {manifest.digest, *([config["digest"]] if config else [])}
    return digests
