"""What a deploy leaves beside the release: who deployed what, from which revision, and how it went.

A Secret for each revision of the release, `pipeline-steps.RELEASE.vN`, written before helm makes
that revision and owned by helm's own Secret of it: whatever removes that, `helm uninstall` or the
limit of its history, removes this. A Secret, because a diff of values may show what others must not
read. The revision has the label `pipeline-steps/deploy` with the same id: so notes of a deploy that
died before helm began are told from a revision that somebody made by hand.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline_steps.clusters import releases
from pipeline_steps.clusters.helm import Target
from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.clusters.namespaces import MANAGED
from pipeline_steps.clusters.releases import Release
from pipeline_steps.deployments.revisions import DeployNotes, Revision, with_notes
from pipeline_steps.toolbox import json_reader
from pipeline_steps.toolbox.errors import Conflict

FILE = "deploy.json"
RELEASE_LABEL = "pipeline-steps/release"
REVISION_LABEL = "pipeline-steps/revision"


def read(api: Api, target: Target) -> list[Revision]:
    """The revisions of a release with their notes, oldest first."""
    namespace, release = target.namespace, target.release
    secrets = api.items(
        api.core.list_namespaced_secret, namespace, label_selector=f"{RELEASE_LABEL}={release}"
    )
    notes = {}
    for secret in secrets:
        number = str((secret["metadata"].get("labels") or {}).get(REVISION_LABEL) or "")
        read_notes = _notes(secret)
        if number.isdigit() and read_notes:
            notes[int(number)] = read_notes
    return with_notes(releases.history(api, namespace, release), notes)


def write(api: Api, target: Target, number: int, notes: DeployNotes, owner: Release | None) -> None:
    """Write the notes of a revision, instead of earlier ones. owner: the revision, once it exists.

    Raises the errors of the cluster.
    """
    labels = {**MANAGED, RELEASE_LABEL: target.release, REVISION_LABEL: str(number)}
    name = f"pipeline-steps.{target.release}.v{number}"
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "pipeline-steps/deploy",
        "metadata": {"name": name, "labels": labels, "ownerReferences": _owners(target, owner)},
        "data": {FILE: base64.b64encode(msgspec.json.encode(notes)).decode()},
    }
    create: Any = api.core.create_namespaced_secret
    replace: Any = api.core.replace_namespaced_secret
    try:
        api.once(create, target.namespace, body)
    except Conflict:
        api.once(replace, name, target.namespace, body)


def _owners(target: Target, owner: Release | None) -> Sequence[Object]:
    if owner is None:
        return []
    name = f"sh.helm.release.v1.{target.release}.v{owner.revision}"
    return [{"apiVersion": "v1", "kind": "Secret", "name": name, "uid": owner.uid}]


def _notes(secret: Object) -> DeployNotes | None:
    """The notes in a Secret; None where somebody has put something else there."""
    try:
        return json_reader.decode_as(DeployNotes, base64.b64decode(secret["data"][FILE]))
    except (KeyError, TypeError, ValueError):  # ValueError: of base64, too
        return None
