"""Causes told apart from what helm says and the cluster shows; objects are cut down from real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.clusters import diagnosis
from pipeline_steps.clusters.cause import Observed, Phase, classify
from pipeline_steps.state.state import State
from pipeline_steps.testing import install_and_test, pulls, scenario_runs
from pipeline_steps.toolbox import redact
from pipeline_steps.toolbox.errors import Unreachable
from tests.support.registries import free_port


def pod(*containers: dict[str, Any], restart: str = "Always", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-1", "uid": "1"},
        "spec": {"restartPolicy": restart, "nodeName": "n1"},
        "status": {"containerStatuses": list(containers), **status},
    }


def container(ready: bool = False, **state: Any) -> dict[str, Any]:
    return {
        "name": "web",
        "image": "example.com/web:1",
        "ready": ready,
        "state": state,
        "restartCount": 0,
    }


def event(reason: str, message: str, kind: str = "Pod", name: str = "web-1") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"kind": kind, "name": name}}


def node(name: str = "n1", **conditions: str) -> dict[str, Any]:
    listed = [
        {"type": kind, "status": status, "reason": "Why"} for kind, status in conditions.items()
    ]
    return {"metadata": {"name": name}, "status": {"conditions": listed}}


def seen(
    helm_error: str = "context deadline exceeded", phase: Phase = "install", **shown: Any
) -> Observed:
    pods, events = shown.get("pods", []), shown.get("events", [])
    return Observed(phase, helm_error, pods, events, shown.get("nodes"))


PENDING = {
    "type": "PodScheduled",
    "status": "False",
    "message": "0/1 nodes are available: Insufficient cpu",
}


@pytest.mark.parametrize(
    ("shown", "kind", "words"),
    [
        (seen(pods=[pod(container(waiting={"reason": "ImagePullBackOff"}))],
              events=[event("Failed", "Failed to pull image: not found")]),
         "image pull", "pod web-1 cannot get example.com/web:1: Failed to pull image: not found"),
        (seen(pods=[pod(container(waiting={"reason": "CreateContainerConfigError", "message": "no secret s"}))]),
         "container", "container web of pod web-1 cannot start: no secret s"),
        (seen(pods=[pod(container(terminated={"exitCode": 137, "reason": "OOMKilled"}))]),
         "crash loop", "container web of pod web-1 was killed: it used more memory than its limit"),
        (seen(pods=[pod(container(terminated={"exitCode": 2}), restart="Never")]),
         "hook failed", "container web of pod web-1 ended with exit code 2"),
        (seen(pods=[pod(conditions=[PENDING])]),
         "unschedulable", "pod web-1: 0/1 nodes are available: Insufficient cpu"),
        (seen(events=[event("FailedCreate", "exceeded quota: q", "ReplicaSet", "web")]),
         "admission", "ReplicaSet web: exceeded quota: q"),
        (seen("admission webhook x denied the request"), "admission", "admission webhook x denied the request"),
        (seen(pods=[pod(container(running={}))], events=[event("Unhealthy", "Readiness probe failed: 503")]),
         "readiness", "container web of pod web-1 runs and did not become ready: Readiness probe failed: 503"),
        (seen("timed out waiting for the condition"), "timeout", "timed out waiting for the condition"),
        (seen("Deployment cannot be handled"), "install failed", "Deployment cannot be handled"),
        (seen("pod failed", phase="test", pods=[pod(container(terminated={"exitCode": 3}), restart="Never")]),
         "test hook failed", "container web of pod web-1 ended with exit code 3"),
    ],
)  # fmt: skip
def test_the_charts_own_causes(shown: Observed, kind: str, words: str) -> None:
    cause = classify(shown)
    assert (cause.kind, cause.words, cause.infrastructure) == (kind, words, False)


@pytest.mark.parametrize("phase", ["install", "test"])
def test_a_failed_hook_is_told_with_the_end_of_its_log(phase: Phase) -> None:
    redact.register("hunter2-secret")
    lines = [f"line {number}" for number in range(9)] + [
        "GET /page with hunter2-secret",
        "",
        "wanted 200, got 503",
    ]
    failed = seen(
        "failed", phase=phase, pods=[pod(container(terminated={"exitCode": 3}), restart="Never")]
    )
    asked = []

    def log(*names: str) -> str:
        asked.append(names)
        return "\n".join(lines)

    words = diagnosis.find_cause(failed, log).words
    assert asked == [("web-1", "web")]
    assert words == (
        "container web of pod web-1 ended with exit code 3; its log ends:\n"
        "  line 6\n  line 7\n  line 8\n  GET /page with [redacted]\n  wanted 200, got 503"
    )
    lines.append("x" * 5000)
    long = diagnosis.find_cause(failed, log).words
    assert long.endswith("x" * 500) and "x" * 501 not in long
    lines.clear()
    assert (
        diagnosis.find_cause(failed, log).words
        == "container web of pod web-1 ended with exit code 3"
    )


def test_what_is_recorded_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    state = State(tmp_path / ".pipeline/state.jsonl")
    bundle = state.folder / "failures/install-0123abcd"
    outcome = install_and_test.TestOutcome(
        cause=classify(seen("no")), bundle=(bundle / "cause.txt",)
    )
    text = str(scenario_runs.failed_test_error(outcome, "web install on ci", bundle, state))
    assert text == "web install on ci: install failed: no (see .pipeline/failures/install-0123abcd)"


def test_a_registry_that_does_not_answer_says_nothing_about_the_chart() -> None:
    with pytest.raises(Unreachable):
        pulls.image_digests(f"127.0.0.1:{free_port()}/snap/web@sha256:{'0' * 64}", {})


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        (seen("Kubernetes cluster unreachable: dial tcp: connection refused"), "cluster"),
        (seen('failed calling webhook "w": i/o timeout'), "cluster"),
        (seen(pods=[pod(container(running={}))], nodes=[node(Ready="Unknown")]), "node"),
        (seen(pods=[pod(container(running={}))], nodes=[node(Ready="True", DiskPressure="True")]), "node"),
        (seen(pods=[pod(container(), reason="Evicted", message="low on memory")]), "evicted"),
        (seen(pods=[pod(container(waiting={"reason": "ErrImagePull"}))],
              events=[event("Failed", "Failed to pull image: 503 Service Unavailable")]), "registry"),
    ],
)  # fmt: skip
def test_the_clusters_own_trouble(shown: Observed, kind: str) -> None:
    cause = classify(shown)
    assert (cause.kind, cause.infrastructure) == (kind, True)


def test_a_sick_node_elsewhere_excuses_nothing() -> None:
    crashed = pod(container(terminated={"exitCode": 1}))
    nodes = [node("n1", Ready="True"), node("n2", Ready="Unknown")]
    assert classify(seen(pods=[crashed], nodes=nodes)).kind == "crash loop"
