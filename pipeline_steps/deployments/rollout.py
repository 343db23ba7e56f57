"""Change a release: mend what a dead deployer left, install or upgrade, wait, test, and go back when
it fails.

    with open_rollout(place, helm, api, identity, timeout) as rollout:
        revisions = rollout.mend()
        outcome = rollout.put(package, notes, revisions)     # outcome.cause is None: it runs

All of it under the lease of the release. Records are written by the step.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from pipeline_steps.clusters import diagnosis, lease
from pipeline_steps.clusters.cause import Cause, Phase
from pipeline_steps.clusters.helm import Helm, error_text
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.clusters.lease import Lease
from pipeline_steps.clusters.watch import Watcher
from pipeline_steps.deployments import package, revision_secrets, revisions
from pipeline_steps.deployments.package import Package
from pipeline_steps.deployments.place import Place
from pipeline_steps.deployments.revisions import BUSY, LABEL, DeployNotes, Revision
from pipeline_steps.testing.waiting import WaitMonitor
from pipeline_steps.toolbox import clock, process, scratch
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import ChartFailed, PipelineError, Temporary
from pipeline_steps.toolbox.process import Completed

log = logging.getLogger(__name__)

#: Seconds between two looks at a release that somebody else's helm is at work on.
PAUSE = 1.0


class Outcome(NamedTuple):
    """What came of a change. revision: what runs now, None when nothing does.

    cause: why it failed, None when it did not. restored: what was done about it, for people. bundle:
    files that explain the failure.
    """

    revision: Revision | None
    cause: Cause | None = None
    restored: str = ""
    bundle: tuple[Path, ...] = ()


class Rollout(NamedTuple):
    """A release whose lease is held.

    seconds: for each of: waiting for a helm that is not ours, mending, changing it with its tests,
    going back. Who had to wait for others has as long for the rest.
    """

    place: Place
    helm: Helm
    api: Api
    lease: Lease
    seconds: float

    def read(self) -> list[Revision]:
        """The revisions as they are now, oldest first."""
        return revision_secrets.read(self.api, self.place.target)

    def mend(self) -> list[Revision]:
        """Bring a release that a dead deployer left into a state to go on from; its revisions then.

        A release on which a helm that is not ours is at work is waited for. Raises Temporary when
        the deadline passes, ChartFailed when helm cannot.
        """
        deadline = Deadline(self.seconds)
        while True:
            current = self.read()
            repair = revisions.plan_repair(current)
            if repair is None:
                return current
            # What somebody makes by hand is theirs to end; ours is over, as its lease is free.
            if revisions.was_left_by_deploy(current, unfinished=bool(self.lease.unfinished)):
                self._repair(repair)
            elif deadline.over:
                raise _foreign(self.place, current[-1])
            else:
                log.info("%s: waiting, it is %s", self.place, current[-1].release.status)
                time.sleep(PAUSE)

    def _repair(self, repair: revisions.Repair) -> None:
        did = "uninstall it" if repair.revision is None else f"roll back to {repair.revision}"
        log.warning("%s: is %s, its deployer is dead: %s", self.place, repair.status, did)
        self.lease.begin()
        if repair.revision is None:
            completed = self.helm.uninstall(self.place.target, timeout=self.seconds, wait=True)
        else:
            completed = self.helm.rollback(
                self.place.target, repair.revision, wait=False, timeout=self.seconds
            )
        if not completed.ok:
            raise ChartFailed(
                f"the release is {repair.status}, and helm cannot {did}: {error_text(completed)}",
                where=str(self.place),
                advice="repair it by hand; the Secrets of a release are never deleted here",
            )

    def put(
        self, new: Package, began: DeployNotes, current: Sequence[Revision], bundle: Path
    ) -> Outcome:
        """Install or upgrade, wait, test; after a failure as `on_failure` says.

        began: the notes of this deploy. bundle: folder for the files that explain a failure. Raises
        Temporary when the lease is lost, Unreachable, AccessRefused, Interrupted.
        """
        number = revisions.next_number(current)
        replace = bool(current) and current[-1].release.status == "uninstalled"
        verb: Literal["install", "upgrade"] = "upgrade" if current and not replace else "install"
        self.lease.begin()
        # Before helm makes the revision: who finds a half-made one must know whose it is.
        revision_secrets.write(self.api, self.place.target, number, began, None)

        def change(watching: WaitMonitor) -> Completed:
            with scratch.folder("deploy") as folder:
                chart, values = package.write(new, folder)
                return self.helm.put(
                    verb,
                    chart,
                    self.place.target,
                    values=values,
                    timeout=self.seconds,
                    # Upgrades by hand keep labels: the label counts only with the Secret of the
                    # same number.
                    labels={LABEL: began.id},
                    # Nothing private: other accounts of the machine can read helm's arguments.
                    description=f"{new.source}, {began.by}"[:200],
                    replace=replace,
                    give_up=lambda: watching() or self.lease.lost,
                )

        log.info("%s: %s of %s; waiting until all of it is ready", self.place, verb, new)
        failure = self._watched(change, bundle)
        self.lease.require()
        made = self._made(began)
        result: Literal["passed", "failed"] = "passed" if failure is None else "failed"
        ended = msgspec.structs.replace(
            began,
            result=result,
            finished=clock.now(),
            reason=str(failure[0])[:2000] if failure else "",
        )
        revision_secrets.write(self.api, self.place.target, number, ended, made and made.release)
        if failure is None:
            return Outcome(self._require_made(began))
        return self._failed(*failure, current)

    def back(self, to: Revision, bundle: Path) -> Outcome:
        """Go back to a good revision, wait and test. A failure is left as it is, for people."""
        log.info("%s: back to %s; waiting until all of it is ready", self.place, to)
        self.lease.begin()
        failure = self._watched(functools.partial(self._roll_back, to), bundle)
        self.lease.require()
        current = self.read()
        cause, files = failure or (None, ())
        return Outcome(current[-1] if current else None, cause, bundle=files)

    def _roll_back(self, to: Revision, watching: WaitMonitor) -> Completed:
        return self.helm.rollback(
            self.place.target,
            to.number,
            wait=True,
            timeout=self.seconds,
            give_up=lambda: watching() or self.lease.lost,
        )

    def _watched(
        self, change: Callable[[WaitMonitor], Completed], bundle: Path
    ) -> tuple[Cause, tuple[Path, ...]] | None:
        """Make a change and test it; the cause of its failure with the files that explain it."""
        deadline = Deadline(self.seconds)
        watcher = Watcher(self.api, self.place.target.namespace, seconds=self.seconds)
        watching = WaitMonitor(
            self.api,
            self.place.target.namespace,
            watcher,
            subject=str(self.place),
            fail_fast=False,
        )
        try:
            completed = change(watching)
            phase: Phase = "install"
            if completed.ok and self.place.deployment.test and not self.lease.lost:
                log.info("%s: testing it", self.place)
                phase = "test"
                # The tests share the time of the change, so that a deploy ends within its timeout.
                left = deadline.left() or 1.0
                completed = self.helm.test(self.place.target, timeout=left, give_up=watching)
            return None if completed.ok else self._cause(watcher, phase, completed, bundle)
        finally:
            if not process.is_stopping():
                with contextlib.suppress(PipelineError):  # of its last look, which nobody needs
                    watcher.stop()

    def _cause(
        self, watcher: Watcher, phase: Phase, completed: Completed, bundle: Path
    ) -> tuple[Cause, tuple[Path, ...]]:
        namespace = self.place.target.namespace
        observed = diagnosis.observe(
            self.api, namespace, watcher, phase=phase, helm_error=error_text(completed)
        )
        cause = diagnosis.find_cause(
            observed, functools.partial(diagnosis.container_log, self.api, namespace, watcher)
        )
        files = diagnosis.write_bundle(self.api, namespace, watcher, observed, cause, bundle)
        return cause, tuple(files)

    def _failed(self, cause: Cause, files: tuple[Path, ...], before: Sequence[Revision]) -> Outcome:
        """After a failed install or upgrade: keep it, or go back to what was good before."""
        # Whoever looks for the reason needs the pods that failed.
        if self.place.deployment.on_failure == "keep":
            current = self.read()
            return Outcome(current[-1] if current else None, cause, "it is kept as it is", files)
        good = revisions.last_good(before)
        if good is None and before:
            current = self.read()
            # An uninstall would end what ran before the first deploy of ours.
            restored = "it is kept: there is no good revision to go back to"
            return Outcome(current[-1] if current else None, cause, restored, files)
        if good is None:
            log.warning("%s: %s; uninstalling it", self.place, cause.kind)
            completed = self.helm.uninstall(self.place.target, timeout=self.seconds, wait=True)
            done = "it is uninstalled again"
        else:
            log.warning("%s: %s; rolling back to %s", self.place, cause.kind, good)
            completed = self.helm.rollback(
                self.place.target,
                good.number,
                wait=True,
                timeout=self.seconds,
                give_up=lambda: self.lease.lost,
            )
            done = f"it is rolled back to {good}"
        self.lease.require()
        if not completed.ok:
            done = f"going back failed, too: {error_text(completed)}"
        current = self.read()
        return Outcome(current[-1] if current else None, cause, done, files)

    def _made(self, began: DeployNotes) -> Revision | None:
        """The revision that this deploy made, if it is the last one."""
        current = self.read()
        last = current[-1] if current else None
        return last if last and last.notes and last.notes.id == began.id else None

    def _require_made(self, began: DeployNotes) -> Revision:
        """The revision of this deploy. Raises Temporary when somebody else's is the last by now."""
        made = self._made(began)
        if made is None or made.release.status != "deployed":
            raise Temporary(
                "somebody else changed the release meanwhile, without the lease",
                where=str(self.place),
                advice="look at helm history, and run it again",
            )
        return made


@contextlib.contextmanager
def open_rollout(
    place: Place, helm: Helm, api: Api, identity: str, seconds: float
) -> Iterator[Rollout]:
    """Hold the lease of a release for the block.

    identity: of this process. seconds: for waiting for the lease, and for what `Rollout` says.
    Raises Temporary naming who else has it.
    """
    deadline = Deadline(seconds)
    with lease.hold(api, place.target.namespace, place.lease, identity, deadline) as held:
        yield Rollout(place, helm, api, held, seconds)
        held.finish()


def _foreign(place: Place, last: Revision) -> Temporary:
    release = last.release
    words = "helm rollback" if last.number > 1 else "helm uninstall"
    return Temporary(
        f"the release is {release.status} since {release.updated[:19]}Z, by a helm that no deploy started",
        where=str(place),
        advice=f"wait for its end; when no helm runs, repair it with {words}",
    )


def failure(outcome: Outcome, place: Place, advice: str) -> PipelineError:
    """The error for a change that failed."""
    assert outcome.cause is not None, "only what failed has an error"
    kind = Temporary if outcome.cause.infrastructure else ChartFailed
    restored = f"; {outcome.restored}" if outcome.restored else ""
    return kind(f"{outcome.cause}{restored}", where=str(place), advice=advice)


def is_busy(current: Sequence[Revision]) -> bool:
    """Whether some helm is at work on the release, or was killed."""
    return bool(current) and current[-1].release.status in BUSY
