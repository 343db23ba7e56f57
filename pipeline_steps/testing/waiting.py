"""Progress of an install or a test while helm waits, and whether to stop because it cannot succeed.

helm prints nothing until its timeout. A pull that the registry refuses for good (no such image, no
such host, no right, no valid name) cannot succeed later, so the scenario ends 15 seconds after its
third report. Crash loops and unschedulable pods may recover: they are logged at once, and end the
scenario only with `tests.fail_fast`.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator

from pipeline_steps.clusters.cause import PULL_WAITS, REGISTRY_GONE
from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.clusters.watch import Watcher, statuses
from pipeline_steps.toolbox import progress
from pipeline_steps.toolbox.errors import PipelineError
from pipeline_steps.toolbox.redact import beginning, redact

log = logging.getLogger(__name__)

#: Refused pulls of a pod that count, and the seconds to wait after them.
REFUSALS, SECONDS_AFTER_REFUSALS = 3, 15.0
#: Seconds between two lines about the same, on a terminal and in a log.
TERMINAL_INTERVAL, LOG_INTERVAL = 5.0, 60.0
#: Seconds between two requests for events.
EVENTS_INTERVAL = 3.0
#: What containerd and the kubelet say of a pull that no later try can mend.
_REFUSED = re.compile(
    r"not found|no such host|manifest unknown|name unknown|denied|unauthorized|forbidden"
    r"|authentication required|invalid reference|InvalidImageName|couldn't parse image"
    r"|pull policy of Never|ErrImageNeverPull",
    re.IGNORECASE,
)
#: Messages of events of one try each: a pull, an invalid name, an image that may not be pulled.
_PULL_ATTEMPT = re.compile(
    r"Failed to (pull|inspect) image|Failed to apply default image|policy of Never"
)


class WaitMonitor:
    """Called about once a second while helm waits; true when it should stop waiting."""

    def __init__(
        self, api: Api, namespace: str, watcher: Watcher, *, subject: str, fail_fast: bool
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._watcher = watcher
        self._subject = subject
        self._fail_fast = fail_fast
        self._refused_since: float | None = None
        self._next_events_request = 0.0
        self._logged_at: dict[str, float] = {}

    def __call__(self) -> bool:
        now = time.monotonic()
        trouble = list(self._trouble())
        self._log_progress(now, trouble)
        if self._fail_fast and trouble:
            return True
        if now >= self._next_events_request:
            self._next_events_request = now + EVENTS_INTERVAL
            # A later try may have worked: only refusals without a break count.
            if not self._is_refused():
                self._refused_since = None
            elif self._refused_since is None:
                self._refused_since = now
        return (
            self._refused_since is not None and now - self._refused_since >= SECONDS_AFTER_REFUSALS
        )

    def _trouble(self) -> Iterator[str]:
        """Crash loops and unschedulable pods, one line each."""
        for pod in self._watcher.pods:
            name = pod["metadata"]["name"]
            for condition in pod.get("status", {}).get("conditions") or ():
                if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                    yield f"pod {name} is unschedulable: {condition.get('message', '')}"
            for container in statuses(pod):
                ended = container.get("lastState", {}).get("terminated") or {}
                if container.get("restartCount") and ended.get("exitCode"):
                    yield (
                        f"container {container['name']} of pod {name} ended with exit code "
                        f"{ended['exitCode']} and is restarted"
                    )

    def _log_progress(self, now: float, trouble: list[str]) -> None:
        """Log trouble once, and at intervals the pods that are not ready."""
        every = TERMINAL_INTERVAL if progress.is_watched(sys.stderr) else LOG_INTERVAL
        if not self._logged_at:
            self._logged_at["waiting"] = now
        for line in trouble:
            if line not in self._logged_at:
                self._logged_at[line] = now
                log.warning("%s: %s", self._subject, redact(line))
        if now - self._logged_at["waiting"] >= every:
            self._logged_at["waiting"] = now
            log.info("%s: waiting for %s", self._subject, redact(self._unready_pods()))

    def _unready_pods(self) -> str:
        """The pods that are neither ready nor done, with what the kubelet says of them."""
        pods = []
        for pod in self._watcher.pods:
            reasons = []
            for container in statuses(pod):
                waiting = container.get("state", {}).get("waiting") or {}
                if waiting:
                    message = str(waiting.get("message") or "").partition("\n")[0]
                    reasons.append(f"{waiting.get('reason')} {beginning(message, 200)}".strip())
                elif "running" in container.get("state", {}) and not container.get("ready"):
                    reasons.append("running, not ready")
            if reasons or not statuses(pod):
                detail = "; ".join(dict.fromkeys(reasons)) or "not started"
                pods.append(f"pod {pod['metadata']['name']} ({detail})")
        return ", ".join(pods) or "helm: no pod is unready"

    def _is_refused(self) -> bool:
        """Whether a pod waits for an image that its registry has refused often enough."""
        waiting = {
            pod["metadata"]["name"]: container["state"]["waiting"]
            for pod in self._watcher.pods
            for container in statuses(pod)
            if (container.get("state", {}).get("waiting") or {}).get("reason") in PULL_WAITS
        }
        if not waiting:
            return False
        try:
            events = list(self._api.items(self._api.core.list_namespaced_event, self._namespace))
        except PipelineError as error:  # the install ends by its own timeout then
            log.debug("%s: events cannot be read: %s", self._subject, error)
            return False
        refused_pulls: Counter[str] = Counter()
        for event in events:
            pod = str(event.get("involvedObject", {}).get("name"))
            refused_pulls[pod] += _refused_pulls(event)
        return any(refused_pulls[pod] >= REFUSALS for pod in waiting)


def _refused_pulls(event: Object) -> int:
    """How many refused tries to get an image an event stands for; 0 for another event."""
    message = str(event.get("message"))
    if not _PULL_ATTEMPT.search(message) or REGISTRY_GONE.search(message):
        return 0
    # The API server folds equal events into one, and counts.
    return int(event.get("count") or 1) if _REFUSED.search(message) else 0
