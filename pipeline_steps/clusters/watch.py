"""What happened to the pods of a namespace, also to those that are gone: seen as it happens, in a
thread.

Hooks with a delete policy vanish with their logs and image ids before anybody can ask, so pods that
end by themselves (tests, jobs) have their logs followed, and every pod's last state is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import NamedTuple

from pipeline_steps.clusters.kubernetes import CONNECT_SECONDS, Api, Expired, NotFound, Object
from pipeline_steps.toolbox.errors import MachineError, PipelineError

log = logging.getLogger(__name__)

#: Bytes kept of one container's log, its end.
MAX_LOG_BYTES = 1 << 20
#: How often a log is asked for while the container is still being created.
MAX_ATTEMPTS = 20


class StartedContainer(NamedTuple):
    """A container that was started: its pod, name, image as written, and the digest of what the
    node ran.
    """

    pod: str
    container: str
    image: str
    digest: str


class Watcher:
    """Watches from construction on; `stop` takes a last look. Pods that were there before do not
    count.
    """

    def __init__(self, api: Api, namespace: str, *, seconds: float) -> None:
        from kubernetes.watch import Watch

        self._api = api
        self._namespace = namespace
        self._patience = (CONNECT_SECONDS, seconds)
        self._pods: dict[str, Object] = {}
        self._logs: dict[tuple[str, str], bytearray] = {}
        self._stopped = threading.Event()
        self._watch = Watch()  # type: ignore[no-untyped-call]
        # By uid: a hook's pod of the next run may have the name of one that was there before.
        self._before = {pod["metadata"]["uid"] for pod in self._list()}
        threading.Thread(target=self._follow_pods, name=f"watch {namespace}", daemon=True).start()

    def stop(self) -> None:
        """Take over the last state of the pods that are still there; nothing changes here
        afterwards.
        """
        if not self._stopped.is_set():
            self._stopped.set()
            self._watch.stop()  # type: ignore[no-untyped-call]
            self._take(self._list())

    @property
    def pods(self) -> list[Object]:
        """The last known state of every pod, gone ones included, oldest first."""
        return sorted(
            self._pods.values(), key=lambda pod: str(pod["metadata"].get("creationTimestamp"))
        )

    @property
    def ran(self) -> tuple[StartedContainer, ...]:
        """Every container that was started, init containers among them."""
        return tuple(
            StartedContainer(
                pod["metadata"]["name"],
                status["name"],
                _image(pod, status),
                status["imageID"].rpartition("@")[2],
            )
            for pod in self.pods
            for status in statuses(pod)
            # A container that waits may name the image of its last start already.
            if status.get("imageID") and "waiting" not in status.get("state", {})
        )

    def logged(self, pod: str, container: str) -> bytes | None:
        """The end of the log of a container that ends by itself; None when it was not followed."""
        log = self._logs.get((pod, container))
        return None if log is None else bytes(log)

    def _list(self) -> list[Object]:
        """The pods that there are now; the watch goes on from here."""
        pods = self._api.ask(self._api.core.list_namespaced_pod, self._namespace) or {}
        self._watch.resource_version = pods.get("metadata", {}).get("resourceVersion")
        return list(pods.get("items", ()))

    def _follow_pods(self) -> None:
        """Take every change until `stop`; after trouble from where the watch was, else from a new
        list.
        """
        listed = True
        while not self._stopped.is_set():
            # ValueError, KeyError: what the package cannot read.
            try:
                if not listed:
                    self._take(self._list())
                    listed = True
                self._take_changes()
            except (
                Expired,
                ValueError,
                KeyError,
            ) as error:
                log.debug("watching pods, from a new list: %s", error)
                listed = False
            except MachineError as error:
                log.debug("watching pods: %s", error)
                return  # without the right to watch there is still the last look of `stop`
            except PipelineError as error:
                log.debug("watching pods: %s", error)
            self._stopped.wait(0.5)

    def _take_changes(self) -> None:
        pods = self._api.core.list_namespaced_pod
        for event in self._api.events(
            self._watch, pods, self._namespace, resource_version=self._watch.resource_version,
            allow_watch_bookmarks=True, _request_timeout=self._patience,
        ):  # fmt: skip
            if self._stopped.is_set():
                return
            if event and event["type"] != "BOOKMARK":
                self._take([event["raw_object"]])

    def _take(self, pods: Iterable[Object]) -> None:
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid in self._before:
                continue
            self._pods[uid] = pod
            if pod["spec"].get("restartPolicy") in ("Never", "OnFailure"):
                self._follow_logs(pod)

    def _follow_logs(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        for status in statuses(pod):
            key = (name, status["name"])
            if key not in self._logs and "waiting" not in status.get("state", {"waiting": {}}):
                self._logs[key] = bytearray()
                threading.Thread(
                    target=self._follow_log, args=key, name=f"log of {name}", daemon=True
                ).start()

    def _follow_log(self, pod: str, container: str) -> None:
        read = self._api.core.read_namespaced_pod_log
        for _ in range(MAX_ATTEMPTS):
            log_end = bytearray()
            try:
                for part in self._api.stream(
                    read,
                    pod,
                    self._namespace,
                    container=container,
                    follow=True,
                    _request_timeout=self._patience,
                ):
                    log_end += part
                    del log_end[:-MAX_LOG_BYTES]
                    # Not before: what a former try has read stays until now.
                    self._logs[pod, container] = log_end
                return
            except PipelineError as error:
                log.debug("following %s of %s: %s", container, pod, error)
                if isinstance(error, NotFound) or self._stopped.wait(0.1):
                    return


def statuses(pod: Object) -> list[Object]:
    """The status of every container of `pod` that has one, init containers first."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _image(pod: Object, status: Object) -> str:
    """The image of a container as the pod names it; its status has what the runtime resolved."""
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        if container["name"] == status["name"]:
            return str(container["image"])
    return str(status["image"])
