"""What happened to the pods of a namespace, also to those that are gone: seen as it happens, in a thread.

Hooks with a delete policy vanish with their logs and image ids before anybody can ask, so pods that end by
themselves (tests, jobs) have their logs followed, and every pod's last state is kept.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.toolbox.errors import MachineError, PipelineError

log = logging.getLogger(__name__)

#: Lines kept of one container's log.
KEPT_LINES = 5000
#: How often a log is asked for while the container is still being created.
TRIES = 20


class Ran(NamedTuple):
    """A container that was started: its pod, name, image as written, and the digest of what the node ran."""

    pod: str
    container: str
    image: str
    digest: str


class Watcher:
    """Watches from construction on; `stop` takes a last look. Pods that were there before do not count."""

    def __init__(self, api: Api, namespace: str, *, seconds: float) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._seconds = seconds
        self._pods: dict[str, Object] = {}
        self._logs: dict[tuple[str, str], deque[bytes]] = {}
        self._stopped = threading.Event()
        first = api.get(self._path) or {}
        self._before = {pod["metadata"]["uid"] for pod in first.get("items", ())}
        self._since = str(first.get("metadata", {}).get("resourceVersion", ""))
        threading.Thread(target=self._watch, name=f"watch {namespace}", daemon=True).start()

    def stop(self) -> None:
        """Take over the last state of the pods that are still there; nothing changes here afterwards."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._take((self._api.get(self._path) or {}).get("items", ()))

    @property
    def pods(self) -> list[Object]:
        """The last known state of every pod, gone ones included, oldest first."""
        return sorted(self._pods.values(), key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    @property
    def ran(self) -> tuple[Ran, ...]:
        """Every container that was started, init containers among them."""
        return tuple(
            Ran(pod["metadata"]["name"], status["name"], _image(pod, status), status["imageID"].rpartition("@")[2])
            for pod in self.pods
            for status in statuses(pod)
            if status.get("imageID") and "waiting" not in status.get("state", {})
        )

    def logged(self, pod: str, container: str) -> bytes | None:
        """What a container that ends by itself has said, None when nothing was followed."""
        lines = self._logs.get((pod, container))
        return None if lines is None else b"\n".join([*lines, b""])

    def _watch(self) -> None:
        query = {"watch": "1", "resourceVersion": self._since, "allowWatchBookmarks": "true"}
        while not self._stopped.is_set():
            try:
                for line in self._api.lines(self._path, seconds=self._seconds, **query):
                    if self._stopped.is_set():
                        return
                    query["resourceVersion"] = self._event(json.loads(line)) or query["resourceVersion"]
            except (PipelineError, ValueError, KeyError) as error:
                log.debug("watching pods: %s", error)
                if isinstance(error, MachineError):
                    return  # without the right to watch there is still the last look of `stop`
                query["resourceVersion"] = ""
                self._stopped.wait(0.5)

    def _event(self, event: Object) -> str | None:
        if event["type"] == "ERROR":
            raise ValueError(str(event["object"].get("message")))
        if event["type"] != "BOOKMARK":
            self._take([event["object"]])
        version = event["object"]["metadata"].get("resourceVersion")
        return None if version is None else str(version)

    def _take(self, pods: Iterable[Object]) -> None:
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid in self._before:
                continue
            self._pods[uid] = pod
            if pod["spec"].get("restartPolicy") in ("Never", "OnFailure"):
                self._follow(pod)

    def _follow(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        for status in statuses(pod):
            key = (name, status["name"])
            if key not in self._logs and "waiting" not in status.get("state", {"waiting": {}}):
                kept = self._logs[key] = deque(maxlen=KEPT_LINES)
                threading.Thread(target=self._read, args=(*key, kept), name=f"log of {name}", daemon=True).start()

    def _read(self, pod: str, container: str, kept: deque[bytes]) -> None:
        for _ in range(TRIES):
            try:
                path = f"{self._path}/{pod}/log"
                for line in self._api.lines(path, seconds=self._seconds, container=container, follow="true"):
                    kept.append(line)
                return
            except PipelineError as error:
                log.debug("following %s of %s: %s", container, pod, error)
                if self._stopped.wait(0.1):
                    return


def statuses(pod: Object) -> list[Object]:
    """The status of every container of `pod` that has one, init containers first."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _image(pod: Object, status: Object) -> str:
    """The image of a container as its pod was written; a status has what the runtime makes of it."""
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        if container["name"] == status["name"]:
            return str(container["image"])
    return str(status["image"])
