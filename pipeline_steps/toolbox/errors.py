"""All errors of the library on one page, each with its exit code and the result that a record gets.

An error says what is wrong, where (file, line, key, digest) and what to do next. The file of a
foreign system translates its exceptions into these and chains the cause; no other exception leaves
a step.

        0 done                   4 evidence missing or contradictory    7 this machine or account
            cannot
        2 usage, configuration   5 a name exists with other content     8 the chart failed
        3 our bug                6 not approved                         75 temporary · 128+n a
            signal
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

Result = Literal["started", "passed", "failed", "refused", "infrastructure", "interrupted"]

#: Precedence of exit codes when several charts fail differently (docs/reference/exit-codes.md).
ORDER = (3, 7, 4, 5, 6, 8, 75, 2)


class PipelineError(Exception):
    """Base of all expected failures.

    exit_code: of the process. result: written into the record. what, where, advice: the problem,
    the file, key or address that has it, and the next action.
    """

    exit_code: ClassVar[int]
    result: ClassVar[Result]

    def __init__(self, what: str, *, where: str = "", advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        if not self.advice:
            return self.problem
        # Behind the output of a program the next action would look like its last line.
        separator = "\n" if "\n" in self.what else " "
        return f"{self.problem}{separator}({self.advice})"

    @property
    def problem(self) -> str:
        """The text without the next action, for those who take that action themselves."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def fresh(self) -> PipelineError:
        """The same error without traceback and cause, to be remembered and raised again.

        A traceback holds the frames that it came through, and with them all they worked on.
        """
        return copy.copy(self)


class UsageError(PipelineError):
    """The command line or the call is wrong."""

    exit_code = 2
    result = "refused"


class ConfigurationError(PipelineError):
    """pipeline.yaml, an overlay, the site file or a file of the chart has an invalid value."""

    exit_code = 2
    result = "refused"


class NotYet(ConfigurationError):
    """The configuration language has this feature, but this version does not implement it."""

    def __init__(
        self,
        feature: str,
        *,
        where: str = "",
        advice: str = "leave the key out: this version accepts it but cannot do it",
    ) -> None:
        super().__init__(f"{feature}: not yet", where=where, advice=advice)


class EvidenceError(PipelineError):
    """Evidence is missing, edited, contradictory or drifted."""

    exit_code = 4
    result = "refused"


class Conflict(PipelineError):
    """A name exists already with other content, or a review has moved, conflicts or is closed;
    nothing was written.
    """

    exit_code = 5
    result = "refused"


class NotApproved(PipelineError):
    """The review is not approved for this content."""

    exit_code = 6
    result = "refused"


class MachineError(PipelineError):
    """This machine or account lacks a tool, an engine, a cluster, a permission or disk space."""

    exit_code = 7
    result = "infrastructure"


class ToolMissing(MachineError):
    """A program is not installed or too old."""


class AccessRefused(MachineError):
    """A system answered, and refused these credentials or these rights."""


class Unreachable(MachineError):
    """A system does not answer at all: connection refused or unknown host. An immediate retry is
    useless.
    """


class ChartFailed(PipelineError):
    """The chart or its image failed: check, build, install or test."""

    exit_code = 8
    result = "failed"


class Temporary(PipelineError):
    """A retry makes sense: time-out, rate limit, 5xx, or a passing problem of the cluster.

    retry_after: seconds that the system asked to wait; None when it did not say.
    spread: seconds over which clients that hold each other up should spread their next tries.
    """

    exit_code = 75
    result = "infrastructure"

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        advice: str = "run it again",
        retry_after: float | None = None,
        spread: float = 0.0,
    ) -> None:
        super().__init__(what, where=where, advice=advice)
        self.retry_after = retry_after
        self.spread = spread


class Interrupted(PipelineError):
    """A signal ended the step; `signal` is its number."""

    result = "interrupted"

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """128 + the signal's number, as shells report it."""
        return 128 + self.signal


def worst(codes: list[int]) -> int:
    """The exit code for several outcomes: a signal first, then in ORDER, else the first that is not
    0.

    >>> worst([0, 8, 7]), worst([0, 0]), worst([8, 143]), worst([0, 2])
    (7, 0, 143, 2)
    """
    signals = [code for code in codes if code > 128]
    if signals:
        return signals[0]
    for code in ORDER:
        if code in codes:
            return code
    return next((code for code in codes if code), 0)
