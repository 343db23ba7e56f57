"""The one policy of trying again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pipeline_steps.toolbox import retry
from pipeline_steps.toolbox.errors import (
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)


def raising(*errors: PipelineError) -> Callable[[], str]:
    """A call that raises one error after the other, then returns."""
    left: Iterator[PipelineError] = iter(errors)

    def work() -> str:
        for error in left:
            raise error
        return "done"

    return work


def test_only_temporary_errors_are_retried() -> None:
    soon = Temporary("busy", retry_after=0)
    assert retry.call(raising(soon, soon, soon)) == "done"
    with pytest.raises(MachineError, match="broken"):
        retry.call(raising(soon, MachineError("broken")))


def test_without_a_budget_there_is_one_try() -> None:
    with pytest.raises(Temporary, match="first"):
        retry.call(raising(Temporary("first", retry_after=0), Temporary("second")), budget=0)


def test_pause_is_retry_after_within_the_budget() -> None:
    began = time.monotonic()
    assert retry.call(raising(Temporary("busy", retry_after=0.2))) == "done"
    assert time.monotonic() - began >= 0.2
    with pytest.raises(Temporary, match="second"):
        retry.call(
            raising(Temporary("first", retry_after=60), Temporary("second"), Temporary("third")),
            budget=0.1,
        )
    assert time.monotonic() - began < 30


def test_pauses_without_retry_after_are_random_within_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    retry.call(raising(*[Temporary("busy")] * 200), budget=1000, first=0.5, longest=4)
    assert pauses[0] <= 0.5 and pauses[1] <= 1 and max(pauses) <= 4
    assert len(set(pauses)) > 100 and max(pauses) > 2


def test_clients_that_hold_each_other_up_come_back_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    retry.call(raising(*[Temporary("busy", spread=40)] * 200), budget=1000, first=0.5, longest=4)
    assert 20 < max(pauses) <= 40 and min(pauses) < 10


def test_errors_named_by_the_caller_are_retried() -> None:
    work = raising(EvidenceError("half written"), EvidenceError("half written"))
    assert retry.call(work, on=(EvidenceError,), first=0.01, longest=0.01) == "done"
    with pytest.raises(Conflict):
        retry.call(raising(Conflict("another")), on=(EvidenceError,))
