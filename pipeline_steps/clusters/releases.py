"""The revisions of a helm release, read where helm keeps them: in Secrets of the namespace.

Helm's own commands do not print the labels of a release, by which a deploy knows its own.
https://helm.sh/docs/topics/advanced/#storage-backends
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline_steps.clusters.helm import release_manifests
from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.toolbox import json_reader
from pipeline_steps.toolbox.errors import MachineError

TYPE = "helm.sh/release.v1"
#: Bytes of a release that are unpacked; a Secret holds 1 MiB packed.
MAX_BYTES = 64 * 2**20


class Release(NamedTuple):
    """One revision of a release.

    status: helm's word: deployed, superseded, failed, uninstalled, uninstalling, pending-install,
    pending-upgrade, pending-rollback. updated: RFC 3339. labels: those that its deployer gave it
    (and helm's own). uid: of its Secret. stored: all that helm keeps of it.
    """

    revision: int
    status: str
    chart: str
    version: str
    updated: str
    description: str
    labels: Mapping[str, str]
    uid: str
    stored: Mapping[str, Any] = {}

    @property
    def manifests(self) -> str:
        """What it consists of, hooks last, as `helm template` prints it. It holds secrets."""
        return release_manifests(self.stored)


def history(api: Api, namespace: str, release: str) -> list[Release]:
    """The revisions of a release that helm keeps, oldest first; [] when there is none.

    Raises MachineError for a Secret that is no release, and the errors of the cluster.
    """
    secrets = api.items(
        api.core.list_namespaced_secret, namespace, label_selector=f"owner=helm,name={release}"
    )
    releases = [_release(secret) for secret in secrets if secret.get("type") == TYPE]
    return sorted(releases, key=lambda each: each.revision)


def _release(secret: Object) -> Release:
    name = secret["metadata"]["name"]
    try:
        stored = _unpacked(str(secret["data"]["release"]))
        info, metadata = stored["info"], stored["chart"]["metadata"]
        return Release(
            revision=int(stored["version"]),
            status=str(info["status"]),
            chart=str(metadata["name"]),
            version=str(metadata["version"]),
            updated=str(info.get("last_deployed") or ""),
            description=str(info.get("description") or ""),
            labels=dict(secret["metadata"].get("labels") or {}),
            uid=str(secret["metadata"]["uid"]),
            stored=stored,
        )
    except (ValueError, KeyError, TypeError, zlib.error, binascii.Error) as error:
        raise MachineError(
            f"the Secret {name} in {secret['metadata']['namespace']} is no helm release",
            advice="run helm history on the release of its name, and repair that by hand",
        ) from error


def _unpacked(data: str) -> dict[str, Any]:
    """The JSON of a release: gzip in base64, in a Secret's own base64."""
    packed = base64.b64decode(base64.b64decode(data))
    unpacker = zlib.decompressobj(wbits=31)
    text = unpacker.decompress(packed, MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError("it is too large")
    release: dict[str, Any] = json_reader.decode(text)
    return release
