"""One attempt of a step: the intent is recorded first, then the outcome, however the block ends.

with record_attempt(state, step="snapshot", subject="hello", key=key, …) as attempt:
    attempt.begin({"chart": reference})     # before anything outside is written
    …
    return attempt.passed({"chart": reference_with_digest})
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import VERDICTS, Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import clock, files
from pipeline_steps.toolbox.errors import EvidenceError, Interrupted, PipelineError, Result

log = logging.getLogger(__name__)


class Attempt:
    """An attempt that is under way; each method appends a record."""

    def __init__(self, state: State, fields: dict[str, Any], supersedes: Iterable[str]) -> None:
        self._state = state
        self._fields = fields
        self._supersedes = tuple(supersedes)
        self._intents: list[str] = []
        self.inputs: dict[str, str] = dict(fields.pop("inputs"))
        self.tools: dict[str, str] = dict(fields.pop("tools"))
        self.parameters: dict[str, Any] = dict(fields.pop("parameters"))
        self.outputs: dict[str, str] = {}
        self.evidence: dict[str, str] = {}
        self.record: Record | None = None

    def begin(self, outputs: Mapping[str, str]) -> Record:
        """Record what is about to be written outside: a killed run's leftovers are then known."""
        line, record = self._write("started", outputs=dict(outputs), finished=None)
        self._intents.append(record.id)
        return self._state.replicate(line, record)

    def attach(self, path: Path) -> None:
        """Name a file below the state folder as evidence of the outcome."""
        self.evidence[path.relative_to(self._state.folder).as_posix()] = files.sha256(
            path.read_bytes()
        )

    def passed(self, outputs: Mapping[str, str]) -> Record:
        """Record the good outcome. outputs: name → reference with digest."""
        return self._end("passed", None, {**self.outputs, **outputs})

    def failed(self, error: BaseException) -> Record:
        """Record the outcome of an error; a foreign error is recorded with its type."""
        if isinstance(error, PipelineError):
            return self._end(error.result, str(error), self.outputs)
        result: Result = (
            "interrupted"
            # Raised by a caller's own code; a signal is Interrupted, a PipelineError.
            if isinstance(error, (KeyboardInterrupt, SystemExit))
            else "infrastructure"
        )
        return self._end(result, f"{type(error).__name__}: {error}", self.outputs)

    def _end(self, result: Result, reason: str | None, outputs: Mapping[str, str]) -> Record:
        # An interrupted try says nothing of the content: what was passed before stays so.
        supersedes = self._supersedes if result in VERDICTS else ()
        line, self.record = self._write(
            result,
            reason=reason,
            outputs=dict(outputs),
            evidence=self.evidence,
            supersedes=supersedes,
        )
        return self._state.replicate(line, self.record)

    def _write(self, result: Result, **more: Any) -> tuple[bytes, Record]:
        fields = {
            **self._fields,
            "inputs": self.inputs,
            "tools": self.tools,
            "parameters": self.parameters,
        }
        # The outcome names its intents: an intent that nothing names is a run that was killed.
        uses = [*self._fields["uses"], *self._intents]
        return self._state.append(
            {**fields, "finished": clock.now(), **more, "result": result, "uses": uses}
        )


@contextlib.contextmanager
def record_attempt(
    state: State,
    *,
    step: str,
    subject: str,
    key: str,
    content: str | None = None,
    revision: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    uses: Iterable[str] = (),
    supersedes: Iterable[str] = (),
    tools: Mapping[str, str] | None = None,
) -> Iterator[Attempt]:
    """An attempt that ends with one outcome: the one the block records, or that of its exception.

    A passed, failed or refused outcome supersedes the current records of the same key and those in
    `supersedes`. When the evidence store fails too, the block's own exception is raised and the
    store's is logged.

    Raises:
        EvidenceError: the block ended without an outcome. A step must never pass by silence.
    """
    state.load_evidence([content])
    superseded_ids = [*supersedes, *(record.id for record in state.resolve(key).current)]
    fields: dict[str, Any] = {
        "step": step,
        "subject": subject,
        "key": key,
        "content": content,
        "revision": revision,
        "parameters": parameters or {},
        "inputs": inputs or {},
        "uses": list(uses),
        "tools": tools or {},
        "started": clock.now(),
        **origin(),
    }
    attempt = Attempt(state, fields, dict.fromkeys(superseded_ids))
    try:
        yield attempt
    except BaseException as error:
        if attempt.record is None:
            _record_failure(attempt, error)
        raise
    if attempt.record is None:
        missing_outcome = EvidenceError(
            f"{step} of {subject} ended without an outcome", advice="this is a bug: report it"
        )
        attempt.failed(missing_outcome)
        raise missing_outcome


def _record_failure(attempt: Attempt, error: BaseException) -> None:
    """Record the outcome of `error`; a failing evidence store must not hide `error` itself."""
    try:
        attempt.failed(error)
    except PipelineError as store_error:
        if attempt.record is None or isinstance(store_error, Interrupted):
            raise
        if str(store_error) != str(error):
            log.error("%s", store_error)
