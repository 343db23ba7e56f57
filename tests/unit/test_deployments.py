"""What follows from the revisions of a release: which deploy made them, what to mend after one that
died, what to go back to; and what of a rendering people may see.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from pipeline_steps.clusters import lease
from pipeline_steps.clusters.releases import Release
from pipeline_steps.config.language import Cluster, Config, Deployment
from pipeline_steps.deployments import package, place, revisions
from pipeline_steps.deployments.changes import hide_secrets
from pipeline_steps.deployments.revisions import LABEL, DeployNotes, Repair, Revision
from pipeline_steps.toolbox import redact
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError


def release(number: int, status: str, deploy: str = "", description: str = "") -> Release:
    labels = {LABEL: deploy} if deploy else {}
    return Release(number, status, "web", "1.0.0", "", description, labels, "")


def made(deploy: str, result: str = "passed", **more: object) -> DeployNotes:
    fields = {
        "id": deploy,
        "deployment": "web-a",
        "by": "alice@laptop",
        "started": "",
        "chart": "web",
        "version": "1.0.0",
        "tar": "sha256:1",
        "source": "git 4c1f",
        "result": result,
    }
    return DeployNotes(**{**fields, **more})  # type: ignore[arg-type]


def history(*releases: Release, **notes: DeployNotes) -> list[Revision]:
    """notes: v1=…, v2=…"""
    return revisions.with_notes(releases, {int(name[1:]): each for name, each in notes.items()})


def test_notes_of_a_deploy_that_died_before_helm_began_are_of_no_revision() -> None:
    """Somebody then made revision 2 by hand, which keeps the label of revision 1."""
    first, second = history(
        release(1, "superseded", "a"), release(2, "deployed", "a"), v1=made("a"), v2=made("b")
    )
    assert first.notes and first.notes.id == "a"
    assert second.notes is None and str(second) == "revision 2 (web 1.0.0, by hand)"


def test_a_rollback_stands_for_the_revision_that_it_goes_back_to() -> None:
    revision = history(
        release(1, "superseded", "a"),
        release(2, "superseded", "b"),
        release(3, "superseded", "a", "Rollback to 1"),
        release(4, "deployed", "a", "Rollback to 3"),
        v1=made("a"),
        v2=made("b"),
    )[-1]
    assert revision.notes == made("a") and revision.origin == 1


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], None),
        (["deployed"], None),
        (["failed"], None),
        (["uninstalled"], None),
        (["pending-install"], Repair(None, "pending-install")),
        (["uninstalling"], Repair(None, "uninstalling")),
        (["superseded", "deployed", "pending-upgrade"], Repair(2, "pending-upgrade")),
        (["superseded", "deployed", "failed", "pending-upgrade"], Repair(2, "pending-upgrade")),
        # helm died after it marked the former revision, before it marked the new one
        (["superseded", "superseded", "pending-upgrade"], Repair(2, "pending-upgrade")),
        (["superseded", "pending-upgrade", "pending-rollback"], Repair(1, "pending-rollback")),
        (["failed", "pending-upgrade"], Repair(1, "pending-upgrade")),
    ],
)
def test_what_a_dead_helm_left_is_mended_from_what_was_deployed(
    statuses: list[str], expected: Repair | None
) -> None:
    found = history(*(release(number, status) for number, status in enumerate(statuses, 1)))
    assert revisions.plan_repair(found) == expected


def test_only_what_a_deploy_left_is_mended() -> None:
    ours = history(release(1, "pending-install", "a"), v1=made("a", "started"))
    by_hand = history(release(1, "deployed", "a"), release(2, "pending-upgrade", "a"), v1=made("a"))
    rollback = history(
        release(1, "superseded", "a"),
        release(2, "pending-rollback", "a", "Rollback to 1"),
        v1=made("a"),
    )
    assert revisions.was_left_by_deploy(ours, unfinished=False)
    assert not revisions.was_left_by_deploy(by_hand, unfinished=False)
    assert not revisions.was_left_by_deploy(by_hand, unfinished=True), (
        "it began after the one that died"
    )
    assert not revisions.was_left_by_deploy(rollback, unfinished=False), (
        "somebody rolls back by hand"
    )
    assert revisions.was_left_by_deploy(rollback, unfinished=True), "its lease says that it died"


def test_what_failed_or_was_not_finished_is_nothing_to_go_back_to() -> None:
    found = history(
        release(1, "superseded", "a"),
        release(2, "superseded", "b"),
        release(3, "superseded", "c"),
        release(4, "failed", "d"),
        v1=made("a"),
        v2=made("b", "failed"),
        v3=made("c", "started"),
        v4=made("d", "failed"),
    )
    assert [each.is_good for each in found] == [True, False, False, False]
    good = revisions.last_good(found)
    assert good and good.number == 1
    previous = revisions.previous_good(found)
    assert previous and previous.number == 1, "what runs is 3"
    assert revisions.previous_good(found[:1]) is None and revisions.previous_good([]) is None


def test_the_same_again_is_already_deployed_unless_it_failed_or_was_changed() -> None:
    inputs = {"values:env/a.yaml": "sha256:2"}
    notes = made("a", inputs=inputs)
    found = history(release(1, "deployed", "a"), v1=notes)
    assert revisions.find_unchanged(found, "sha256:1", inputs) == found[0]
    assert revisions.find_unchanged(found, "sha256:1", {}) is None
    assert revisions.find_unchanged(found, "sha256:3", inputs) is None
    failed = history(release(1, "deployed", "a"), v1=made("a", "failed", inputs=inputs))
    assert revisions.find_unchanged(failed, "sha256:1", inputs) is None
    by_hand = history(release(1, "superseded", "a"), release(2, "deployed", "a"), v1=notes)
    assert revisions.find_unchanged(by_hand, "sha256:1", inputs) is None


SECRET = """\
---
# Source: web/templates/secret.yaml
kind: Secret
metadata: {name: web}
stringData: {key: KEY, empty: ""}
---
# Source: web/templates/list.yaml
kind: List
items:
  - kind: Secret
    data: {inner: KEY}
---
# Source: web/templates/map.yaml
kind: ConfigMap
data: {shown: value}  # with its comment
---
# Source: web/templates/broken.yaml
kind: Secret
data: {broken: KEY
"""


def test_values_of_secrets_are_hidden_wherever_they_stand() -> None:
    one, same, other = (
        hide_secrets(SECRET.replace("KEY", value), b"k") for value in ("s3cret", "s3cret", "0ther")
    )
    assert one == same and "s3cret" not in one
    assert "data: {shown: value}  # with its comment" in one
    differing = [
        line
        for line, changed in zip(one.splitlines(), other.splitlines(), strict=True)
        if line != changed
    ]
    assert [line.split(":")[0].strip(" -") for line in differing] == ["key", "inner", "unreadable"]
    assert hide_secrets(SECRET, b"k") != hide_secrets(SECRET, b"other")


def test_a_diff_of_modifications_has_no_secrets_and_no_end() -> None:
    redact.register("hunter2hunter2")
    text = package.diff(
        {"a.yaml": b"api_key: 1\nx: hunter2hunter2\n", "b.bin": b"\0", "gone": b"g\n"},
        {"a.yaml": b"api_key: 2\nx: 3\ntokens:\n  - left\n", "b.bin": b"\1", "new": b"n\n"},
    )
    assert "hunter2" not in text and not re.search(r"api_key: \d", text)
    assert "+x: 3" in text and "b.bin: binary files differ" in text
    assert "+++ /dev/null" in text and "--- /dev/null" in text
    long = package.diff({}, {"a": b"line\n" * package.MAX_DIFF})
    assert long.endswith("more characters") and len(long) < package.MAX_DIFF + 100


def config(**deployments: Deployment) -> Config:
    return Config(
        charts=(),
        root=Path("/checkout"),
        clusters={"k131": Cluster(kubeconfig="ci/config", context="c")},
        deployments=deployments,
    )


WEB = Deployment(chart="web", cluster="k131", namespace="team-a")


def test_a_deployment_is_found_by_name_or_as_the_only_one() -> None:
    found = place.find(config(web_a=WEB, **{"web-b": WEB}), "web-b")
    assert str(found) == "k131/team-a/web-b" and found.target.kubeconfig == Path(
        "/checkout/ci/config"
    )
    assert place.find(config(web=WEB), None).name == "web"


@pytest.mark.parametrize(
    ("given", "name", "error", "words"),
    [
        ({}, None, ConfigurationError, "no deployment is configured"),
        (
            {"a": WEB, "b": WEB},
            None,
            UsageError,
            r"2 deployments are configured, and none is named \(name one: a, b",
        ),
        ({"web": WEB}, "wab", UsageError, "there is no deployment 'wab'.*web"),
        ({"Web": WEB}, None, ConfigurationError, "'Web' is no name of a release"),
        (
            {"a": Deployment(chart="web", cluster="k132", namespace="n")},
            None,
            ConfigurationError,
            "deployment a: there is no cluster 'k132'.*k131",
        ),
    ],
)
def test_a_deployment_that_cannot_be_found_is_said(
    given: dict[str, Deployment], name: str | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        place.find(config(**given), name)


def test_the_age_of_a_lease_is_a_matter_of_the_servers_clock() -> None:
    """Whatever its holder wrote as the time of its renewal."""
    held = {
        "metadata": {
            "creationTimestamp": "2026-11-29T10:00:00Z",
            "managedFields": [{"time": "2026-11-29T12:00:00Z"}, {"time": "2026-11-29T11:00:00Z"}],
        },
        "spec": {"renewTime": "2030-01-01T00:00:00.000000Z"},
    }
    now = datetime(2026, 11, 29, 12, 0, 30, tzinfo=timezone.utc)
    assert lease._age(held, now) == 30
