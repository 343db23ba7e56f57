"""Why an install or a test failed, in one line: pure, from what helm said and what the cluster
shows.

The cluster's own trouble (API, nodes, a registry or webhook that does not answer) is told apart
from the chart's: it says nothing about the chart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pipeline_steps.clusters.kubernetes import Object
from pipeline_steps.clusters.watch import statuses
from pipeline_steps.toolbox.wording import counted

Phase = Literal["install", "test"]


class Observed(NamedTuple):
    """What a failed install or test is judged by. helm_error: what helm printed. nodes: None when this account
    may not list them.
    """

    phase: Phase
    helm_error: str
    pods: Sequence[Object]
    events: Sequence[Object]
    nodes: Sequence[Object] | None


class Cause(NamedTuple):
    """kind: one of the words below. infrastructure: the cluster's own trouble.

    ended: (pod, container) of a hook that failed, whose log says more.
    """

    kind: str
    words: str
    infrastructure: bool = False
    ended: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


# Helm exits with 1 whatever happened, so only words tell: those of Go's net, http2 and TLS
# packages, of client-go, of etcd and of an API server whose webhooks do not answer.
_CLUSTER_GONE = re.compile(
    r"cluster unreachable|connection refused|connection reset|client connection lost"
    r"|TLS handshake timeout"
    r"|no route to host|i/o timeout|etcdserver:|currently unable to handle the request|http2: "
    r"|unexpected EOF"
    r"|failed calling webhook|the server was unable to return a response|Too Many Requests"
)
# Kubelet's reasons for a container that waits (pkg/kubelet/images, pkg/kubelet/kuberuntime). They
# are no part of the API's promise; one that is not here ends as a timeout.
PULL_WAITS = (
    "ImagePullBackOff",
    "ErrImagePull",
    "ImageInspectError",
    "ErrImageNeverPull",
    "InvalidImageName",
)
# "not found" and "unauthorized" are left out on purpose: the registry answered, and asking it again
# would change nothing.
REGISTRY_GONE = re.compile(
    r"i/o timeout|connection refused|connection reset|TLS handshake timeout|no route to host"
    r"|server misbehaving"
    r"|toomanyrequests|Too Many Requests|\b(429|500|502|503|504)\b|unexpected EOF"
    r"|context deadline exceeded"
)
_CONFIG_WAITS = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
)
_ADMISSION = re.compile(
    r"admission webhook|violates PodSecurity|exceeded quota|is forbidden|is invalid"
    r"|denied the request"
)
_PRESSURE = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def classify(observed: Observed) -> Cause:
    """The most telling cause; first the cluster's own trouble, then what stops a pod earliest in
    its life.
    """
    for judge in (
        _cluster,
        _nodes,
        _evicted,
        _images,
        _containers,
        _unschedulable,
        _admission,
        _tests,
        _readiness,
    ):
        cause = judge(observed)
        if cause is not None:
            return cause
    if re.search(r"timed out|deadline exceeded|not ready|did not end", observed.helm_error):
        return Cause("timeout", observed.helm_error)
    return Cause(
        "install failed" if observed.phase == "install" else "test failed", observed.helm_error
    )


def _cluster(observed: Observed) -> Cause | None:
    if not _CLUSTER_GONE.search(observed.helm_error):
        return None
    return Cause(
        "cluster", f"the cluster itself failed: {observed.helm_error}", infrastructure=True
    )


def _nodes(observed: Observed) -> Cause | None:
    """Nodes in trouble count when our pods are on them, or wait for a node and none is well."""
    if not observed.nodes:
        return None
    trouble = {
        node["metadata"]["name"]: words for node in observed.nodes if (words := _node_trouble(node))
    }
    used = {pod["spec"].get("nodeName") for pod in observed.pods}
    # Pods without a node wait for the scheduler; without any pod, helm got stuck before it made
    # one.
    waiting = None in used or not observed.pods
    hit = [
        name
        for name in trouble
        if name in used or (waiting and len(trouble) == len(observed.nodes))
    ]
    if not hit:
        return None
    return Cause(
        "node", "; ".join(f"node {name} {trouble[name]}" for name in hit), infrastructure=True
    )


def _node_trouble(node: Object) -> str:
    state = {c["type"]: c for c in node.get("status", {}).get("conditions") or ()}
    ready = state.get("Ready", {})
    if ready and ready.get("status") != "True":
        return f"is not ready: {ready.get('message') or ready.get('reason')}"
    return ", ".join(
        f"has {name}" for name in _PRESSURE if state.get(name, {}).get("status") == "True"
    )


def _evicted(observed: Observed) -> Cause | None:
    for pod in observed.pods:
        status = pod.get("status", {})
        # The node gave the pod up; kubelet and the node controller set these, never the chart.
        if status.get("reason") in (
            "Evicted",
            "NodeLost",
            "NodeShutdown",
            "Terminated",
            "UnexpectedAdmissionError",
        ):
            return Cause(
                "evicted",
                f"{_describe_pod(pod)}: {status.get('message') or status['reason']}",
                infrastructure=True,
            )
    return None


def _images(observed: Observed) -> Cause | None:
    for pod, container in _waiting_containers(observed, PULL_WAITS):
        waiting = container["state"]["waiting"]
        message = (
            _newest_event(observed, pod, "Failed", "pull")
            or waiting.get("message")
            or waiting["reason"]
        )
        words = f"{_describe_pod(pod)} cannot get {container['image']}: {message}"
        if REGISTRY_GONE.search(message):
            return Cause("registry", words, infrastructure=True)
        return Cause("image pull", words)
    return None


def _containers(observed: Observed) -> Cause | None:
    for pod, container in _waiting_containers(observed, _CONFIG_WAITS):
        waiting = container["state"]["waiting"]
        return Cause(
            "container",
            f"{_describe_container(pod, container)} cannot start: "
            f"{waiting.get('message', waiting['reason'])}",
        )
    for pod in observed.pods:
        # Left to `_tests`, which knows whether it was a hook or a job.
        if observed.phase == "test" and _ends_by_itself(pod):
            continue
        for container in statuses(pod):
            terminated = _terminated_state(container)
            if terminated and terminated.get("exitCode") != 0:
                words = (
                    f"{_describe_container(pod, container)} {_describe_exit(terminated)}"
                    f"{_describe_restarts(container)}"
                )
                if _ends_by_itself(pod):
                    return Cause("hook failed", words, ended=_pod_and_container(pod, container))
                return Cause("crash loop", words)
    return None


def _unschedulable(observed: Observed) -> Cause | None:
    for pod in observed.pods:
        for condition in pod.get("status", {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return Cause(
                    "unschedulable",
                    f"{_describe_pod(pod)}: {condition.get('message', 'no node takes it')}",
                )
    return None


def _admission(observed: Observed) -> Cause | None:
    if _ADMISSION.search(observed.helm_error):
        return Cause("admission", observed.helm_error)
    for event in observed.events:
        if event.get("reason") == "FailedCreate":
            involved = event.get("involvedObject", {})
            return Cause(
                "admission",
                f"{involved.get('kind')} {involved.get('name')}: {event.get('message')}",
            )
    return None


def _tests(observed: Observed) -> Cause | None:
    if observed.phase != "test":
        return None
    for pod in observed.pods:
        for container in statuses(pod) if _ends_by_itself(pod) else ():
            terminated = _terminated_state(container)
            if terminated and terminated.get("exitCode") != 0:
                kind = "test job failed" if _owner(pod) == "Job" else "test hook failed"
                return Cause(
                    kind,
                    f"{_describe_container(pod, container)} {_describe_exit(terminated)}",
                    ended=_pod_and_container(pod, container),
                )
    return None


def _readiness(observed: Observed) -> Cause | None:
    for pod in observed.pods:
        for container in statuses(pod):
            if "running" in container.get("state", {}) and not container.get("ready"):
                if _ends_by_itself(pod):
                    return Cause(
                        "timeout",
                        f"{_describe_container(pod, container)} was still running: {observed.helm_error}",
                    )
                message = (
                    _newest_event(observed, pod, "Unhealthy", "") or "its events give no reason"
                )
                return Cause(
                    "readiness",
                    f"{_describe_container(pod, container)} runs and did not become ready: "
                    f"{message}",
                )
    return None


def _waiting_containers(
    observed: Observed, reasons: Sequence[str]
) -> Iterator[tuple[Object, Object]]:
    for pod in observed.pods:
        for container in statuses(pod):
            if container.get("state", {}).get("waiting", {}).get("reason") in reasons:
                yield pod, container


def _terminated_state(container: Object) -> Object | None:
    # A container in a crash loop is waiting: how it ended is in its last state.
    for state in ("state", "lastState"):
        terminated = container.get(state, {}).get("terminated")
        if isinstance(terminated, dict):
            return terminated
    return None


def _newest_event(observed: Observed, pod: Object, reason: str, word: str) -> str:
    """The message of the newest fitting event of `pod`."""
    fitting = [
        str(event.get("message"))
        for event in observed.events
        if event.get("involvedObject", {}).get("name") == pod["metadata"]["name"]
        and event.get("reason") == reason
        and word in str(event.get("message"))
    ]
    return fitting[-1] if fitting else ""


def _ends_by_itself(pod: Object) -> bool:
    # Kubernetes takes nothing but Always for Deployments, StatefulSets and DaemonSets.
    return pod["spec"].get("restartPolicy") in ("Never", "OnFailure")


def _owner(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("kind", ""))


def _describe_pod(pod: Object) -> str:
    return f"pod {pod['metadata']['name']}"


def _describe_container(pod: Object, container: Object) -> str:
    return f"container {container['name']} of {_describe_pod(pod)}"


def _pod_and_container(pod: Object, container: Object) -> tuple[str, str]:
    return str(pod["metadata"]["name"]), str(container["name"])


def _describe_exit(terminated: Object) -> str:
    if terminated.get("reason") == "OOMKilled":
        return "was killed: it used more memory than its limit"
    message = f": {terminated['message'].strip()}" if terminated.get("message") else ""
    return f"ended with exit code {terminated.get('exitCode')}{message}"


def _describe_restarts(container: Object) -> str:
    count = container.get("restartCount", 0)
    return f", restarted {counted(count, 'time')}" if count else ""
