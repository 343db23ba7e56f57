"""The right to change one release, for one process at a time: a Lease of coordination.k8s.io.

    with hold(api, "team-a", "pipeline-steps-hello", "alice@laptop/3f2a", deadline) as lease:
        ...                        # lease.unfinished: whoever had it before ended in the middle
        lease.begin()
        ...                        # write
        lease.finish()

Its holder renews it every few seconds. One that is not renewed for `DURATION` is dead; that is
judged by the server's clock alone. It says `unfinished` from `begin` to `finish`, so that whoever
comes after a killed holder knows that there may be something to mend. Not by the leader election of
the `kubernetes` package: that waits without end, judges by this machine's clock, and gives nothing
back at its end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.clusters.namespaces import MANAGED
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import Conflict, PipelineError, Temporary

log = logging.getLogger(__name__)

#: Seconds after its last renewal at which a lease is free for others.
DURATION = 20
#: Seconds between two renewals, and after the last one at which its holder itself gives it up.
RENEWAL, GIVEN_UP = 4.0, 15.0
#: Seconds between two looks at the lease of somebody else.
PAUSE = 1.0
UNFINISHED = "pipeline-steps/unfinished"
#: Seconds for one request of a process that has to end.
LAST_REQUEST = 1.5


class Holder(NamedTuple):
    """Who has a lease. since: RFC 3339, of the holder's clock, for people."""

    identity: str
    since: str


class Lease:
    """A lease that this process holds; made by `hold`.

    unfinished: who ended in the middle before, "" for nobody.
    """

    def __init__(self, api: Api, namespace: str, taken: Object) -> None:
        self.unfinished = str(_annotations(taken).get(UNFINISHED) or "")
        self._api = api
        self._namespace = namespace
        self._lease = taken
        self._identity = taken["spec"]["holderIdentity"]
        self._renewed = time.monotonic()
        self._taken_by_others = False
        self._is_finished = False
        self._stopped = threading.Event()
        self._replacing = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether somebody else may have the lease by now: nothing may be written any more."""
        return self._taken_by_others or time.monotonic() - self._renewed > GIVEN_UP

    def require(self) -> None:
        """Raises Temporary when the lease is lost."""
        if self.lost:
            raise Temporary(
                f"the lease {self._lease['metadata']['name']} in {self._namespace} was lost: "
                "it could not be renewed in time",
                where=self._api.connection.server,
                advice="run it again",
            )

    def begin(self) -> None:
        """Say that there is something to mend after this holder, unless it comes to `finish`.

        Raises Temporary when the lease is lost, and the errors of the cluster.
        """
        self.require()
        self._renew({UNFINISHED: f"{self._identity} since {_micro_time()}"})
        self.require()

    def finish(self) -> None:
        """Say that there is nothing to mend after this holder, also not of the one before."""
        self._is_finished = True

    def _keep(self) -> None:
        while not self._stopped.wait(RENEWAL):
            try:
                self._renew()
            except PipelineError as error:
                log.debug("renewing %s: %s", self._lease["metadata"]["name"], error)
            if self._taken_by_others:
                return

    def _renew(self, annotations: Mapping[str, str] = {}) -> None:
        began = time.monotonic()
        with self._replacing:
            try:
                self._lease = _replace(self._api, _renewed(self._lease, annotations))
            except Conflict:
                current = read(self._api, self._namespace, self._lease["metadata"]["name"])
                if not current or _identity(current) != self._identity:
                    self._taken_by_others = True
                    return
                self._lease = _replace(self._api, _renewed(current, annotations))
            self._renewed = began

    def release(self) -> None:
        """Let others have the lease. What fails is left to its end by itself."""
        self._stopped.set()
        stopping = process.is_stopping()
        self._thread.join(LAST_REQUEST if stopping else None)
        if self.lost:
            return
        metadata = self._lease["metadata"]
        annotations = _annotations(self._lease)
        if self._is_finished:
            annotations.pop(UNFINISHED, None)
        spec = {k: v for k, v in self._lease["spec"].items() if k != "holderIdentity"}
        free = {**self._lease, "metadata": {**metadata, "annotations": annotations}, "spec": spec}
        options = {"_request_timeout": LAST_REQUEST} if stopping else {}
        try:
            _replace(self._api, free, **options)
        except PipelineError as error:
            log.debug("releasing %s: %s", metadata["name"], error)


@contextlib.contextmanager
def hold(api: Api, namespace: str, name: str, identity: str, deadline: Deadline) -> Iterator[Lease]:
    """The lease, as soon as nobody else has it; given back at the end of the block.

    identity: of this process, unlike any other's. Raises Temporary naming its holder when the
    deadline passes, AccessRefused, Unreachable, MachineError.
    """
    reported_holder = ""
    while True:
        lease_object = _take(api, namespace, name, identity)
        if lease_object:
            break
        current = holder(api, namespace, name)
        if current and deadline.over:
            raise Temporary(
                f"{current.identity} holds the lease {name} in {namespace} since {current.since}",
                where=api.connection.server,
                advice="wait for its end, or give a longer --timeout",
            )
        if current and current.identity != reported_holder:
            reported_holder = current.identity
            log.info("waiting for %s, who is at work since %s", current.identity, current.since)
        time.sleep(PAUSE)
    lease = Lease(api, namespace, lease_object)
    try:
        yield lease
    finally:
        lease.release()


def holder(api: Api, namespace: str, name: str) -> Holder | None:
    """Who has the lease now; None when nobody does. Its holder may have died since."""
    lease = read(api, namespace, name)
    if not lease or not _identity(lease):
        return None
    return Holder(_identity(lease), str(lease["spec"].get("acquireTime") or "")[:19] + "Z")


def read(api: Api, namespace: str, name: str) -> Object | None:
    """The Lease object, None when there is none."""
    from kubernetes import client

    return api.ask(client.CoordinationV1Api(api.client).read_namespaced_lease, name, namespace)


def _take(api: Api, namespace: str, name: str, identity: str) -> Object | None:
    """The lease taken, None when somebody else has it."""
    from kubernetes import client

    leases: Any = client.CoordinationV1Api(api.client)
    current = read(api, namespace, name)
    if current and _identity(current) not in ("", identity):
        if _age(current, _server_time(api, namespace)) < DURATION:
            return None
        log.warning("%s was held by %s, who is gone", name, _identity(current))
    now = _micro_time()
    metadata = (current or {}).get("metadata") or {"name": name, "labels": MANAGED}
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {**metadata, "namespace": namespace},
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": DURATION,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": int((current or {}).get("spec", {}).get("leaseTransitions") or 0)
            + 1,
        },
    }
    try:
        if current:
            return _replace(api, body)
        return api.once(leases.create_namespaced_lease, namespace, body)
    except Conflict:
        return None  # somebody else was faster


def _replace(api: Api, lease: Object, **options: Any) -> Object:
    """Replace the very version of the lease that was read. Raises Conflict when it is another now."""
    from kubernetes import client

    metadata = lease["metadata"]
    replace: Any = client.CoordinationV1Api(api.client).replace_namespaced_lease
    body = {**lease, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}
    return api.once(replace, metadata["name"], metadata["namespace"], body, **options)


def _renewed(lease: Object, annotations: Mapping[str, str]) -> Object:
    return {
        **lease,
        "metadata": {**lease["metadata"], "annotations": {**_annotations(lease), **annotations}},
        "spec": {**lease["spec"], "renewTime": _micro_time()},
    }


def _annotations(lease: Object) -> dict[str, str]:
    return dict(lease["metadata"].get("annotations") or {})


def _identity(lease: Object) -> str:
    return str(lease.get("spec", {}).get("holderIdentity") or "")


def _age(lease: Object, now: datetime) -> float:
    """Seconds since the lease was changed, both by the server's clock."""
    fields = lease["metadata"].get("managedFields") or ()
    times = [str(field["time"]) for field in fields if field.get("time")]
    changed = max([*times, str(lease["metadata"].get("creationTimestamp") or "")])
    return (now - _time(changed)).total_seconds()


def _server_time(api: Api, namespace: str) -> datetime:
    """The server's time: when it would have created an object."""
    from kubernetes import client

    create: Any = client.CoordinationV1Api(api.client).create_namespaced_lease
    body = {"metadata": {"generateName": "pipeline-steps-time-"}, "spec": {}}
    answer = api.once(create, namespace, body, dry_run="All")
    return _time(str(answer["metadata"]["creationTimestamp"]))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _micro_time() -> str:
    """The time as the type MicroTime of Kubernetes wants it."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
