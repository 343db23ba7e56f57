"""The bundle of a failed scenario, collected before anything is cleaned up: the cause first, then
all that tells.

    failures/<chart>-<scenario>-<id>/cause.txt  helm.txt  events.txt  pods.json  logs/<pod>-<container>[-previous].log

Environment variables of containers are left out, because they carry secrets; all texts are
redacted.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline_steps.clusters.cause import Cause, Observed, Phase, classify
from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.clusters.watch import Watcher, statuses
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import PipelineError
from pipeline_steps.toolbox.redact import printable, redact

#: Bytes of one log that are kept, its end.
LOG_BYTES = 1 << 20
#: Events that are kept, the newest.
LAST_EVENTS = 2000
#: How much of the log of a failed hook stands in the reason.
LAST_LINES, LAST_CHARACTERS = 5, 500
_NO_LOG = "no log: "


def observe(
    api: Api, namespace: str, watcher: Watcher, *, phase: Phase, helm_error: str
) -> Observed:
    """What the cluster shows now of a failed install or test. Raises Temporary when its API does
    not answer.
    """
    # First of all: what cleaning up does to the pods must not count as what happened to them. @2 if
    # error.exit_code == 75: The API itself is in trouble (EX_TEMPFAIL), which is a cause of its
    # own. An account that may not list nodes only makes the judgement poorer.
    watcher.stop()
    return Observed(phase, helm_error, watcher.pods, _events(api, namespace), _nodes(api))


def find_cause(observed: Observed, log: Callable[[str, str], str]) -> Cause:
    """The cause: one line, and of a hook that failed the end of its log. log: of a pod and its
    container.
    """
    cause = classify(observed)
    end = log_tail(log(*cause.ended)) if cause.ended else ""
    return cause._replace(words=f"{cause.words}; its log ends:\n{end}") if end else cause


def log_tail(log: str) -> str:
    r"""The last lines of a log, redacted and cut at their beginning to what a reason has room for.

    >>> log_tail("starting\n\n\x1b[31mno such page\n")
    '  starting\n   [31mno such page'
    """
    lines = [line for line in redact(log).splitlines() if line.strip()][-LAST_LINES:]
    shown = "\n".join(
        "  " + "".join(c if c.isprintable() else " " for c in line.rstrip()) for line in lines
    )
    return shown[-LAST_CHARACTERS:]


def container_log(api: Api, namespace: str, watcher: Watcher, pod: str, container: str) -> str:
    """The log of a container, from the cluster or as it was followed; "" when there is none."""
    text = _log(api, namespace, watcher, pod, container)
    if text.startswith(_NO_LOG):
        return (watcher.logged(pod, container) or b"").decode(errors="replace")
    return text


def write_bundle(
    api: Api, namespace: str, watcher: Watcher, observed: Observed, cause: Cause, folder: Path
) -> list[Path]:
    """Write the bundle into `folder` and return its files; a log that cannot be had is replaced by
    why.
    """
    for place in (folder.parent, folder, folder / "logs"):
        files.created_folder(place)
    texts = {
        "cause.txt": f"{cause}\n",
        "helm.txt": f"{observed.helm_error}\n",
        "events.txt": "".join(f"{_event_line(event)}\n" for event in observed.events),
        "pods.json": json.dumps([_pod_summary(pod) for pod in observed.pods], indent=1) + "\n",
        **dict(_logs(api, namespace, watcher)),
    }
    return [_write(folder / name, text) for name, text in texts.items()]


def _events(api: Api, namespace: str) -> list[Object]:
    """The last events, oldest first."""
    try:
        newest = heapq.nlargest(
            LAST_EVENTS, api.items(api.core.list_namespaced_event, namespace), key=_time
        )
    except PipelineError as error:
        if error.exit_code == 75:
            raise
        return [{"reason": "NotVisible", "message": str(error)}]
    return sorted(newest, key=_time)


def _time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _nodes(api: Api) -> list[Object] | None:
    """What is judged of each node; all of it is 20 KiB and more."""
    try:
        return [
            {
                "metadata": {"name": node["metadata"]["name"]},
                "status": {"conditions": node["status"].get("conditions")},
            }
            for node in api.items(api.core.list_node)
        ]
    except PipelineError as error:
        if error.exit_code == 75:
            raise
        return None


def _logs(api: Api, namespace: str, watcher: Watcher) -> Iterator[tuple[str, str]]:
    for pod in watcher.pods:
        name = pod["metadata"]["name"]
        for status in statuses(pod):
            container = status["name"]
            text = _log(api, namespace, watcher, name, container)
            if text:
                yield f"logs/{_slug(name)}-{_slug(container)}.log", text
            if status.get("restartCount"):
                before = _read_log(api, namespace, name, container, previous=True)
                yield f"logs/{_slug(name)}-{_slug(container)}-previous.log", before or ""


def _log(api: Api, namespace: str, watcher: Watcher, pod: str, container: str) -> str:
    text = _read_log(api, namespace, pod, container)
    if text:
        return text
    return (watcher.logged(pod, container) or b"").decode(errors="replace")


def _read_log(
    api: Api, namespace: str, pod: str, container: str, *, previous: bool = False
) -> str | None:
    try:
        # limit_bytes counts from where the output begins: without tail_lines a long log would lose
        # its end.
        return api.text(
            api.core.read_namespaced_pod_log, pod, namespace, container=container, tail_lines=5000,
            limit_bytes=LOG_BYTES, previous=previous,
        )  # fmt: skip
    except PipelineError as error:
        # Status 400 "container … is waiting to start": there is no log yet, which is no failure.
        return None if "waiting to start" in str(error) else f"{_NO_LOG}{error}\n"


def _pod_summary(pod: Object) -> Object:
    """What `kubectl describe` would show, without the environment."""
    meta, spec = pod["metadata"], pod["spec"]
    return {
        "name": meta["name"],
        "labels": meta.get("labels"),
        "owners": [
            f"{owner['kind']}/{owner['name']}" for owner in meta.get("ownerReferences") or ()
        ],
        "node": spec.get("nodeName"),
        "restartPolicy": spec.get("restartPolicy"),
        "containers": [
            _container_summary(c)
            for c in (*(spec.get("initContainers") or ()), *spec["containers"])
        ],
        "status": pod.get("status"),
    }


def _container_summary(container: Object) -> Object:
    shown = (
        "name",
        "image",
        "command",
        "resources",
        "readinessProbe",
        "livenessProbe",
        "startupProbe",
        "ports",
    )
    return {key: container[key] for key in shown if key in container}


def _event_line(event: Object) -> str:
    involved = event.get("involvedObject", {})
    object_name = f"{involved.get('kind', '')}/{involved.get('name', '')}"
    return (
        f"{_time(event)} {event.get('type', '')} {event.get('reason')} {object_name}: "
        f"{event.get('message')}"
    )


def _write(path: Path, text: str) -> Path:
    files.write(path, printable(text).encode())
    return path


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)
