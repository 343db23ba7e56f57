"""The one retry policy: try again after Temporary errors until a budget of seconds is used up.

The code that raises an error decides whether it is temporary.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeVar

import tenacity

from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import PipelineError, Temporary

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that all tries may take together, and of the longest pause that no server asked for.
BUDGET = 120.0
LONGEST = 30.0


def call(
    work: Callable[[], T],
    *,
    budget: float = BUDGET,
    first: float = 1.0,
    longest: float = LONGEST,
    on: tuple[type[PipelineError], ...] = (Temporary,),
) -> T:
    """Call `work`, again while it raises one of `on` and the budget lasts.

    A pause lasts as long as the server asked (`Temporary.retry_after`), else a random time below a
    limit that starts at `first` seconds and doubles up to `longest`, and is never below
    `Temporary.spread`. Pauses end with the budget; after it comes one last try, whose error is
    raised.

    Args:
        budget: seconds for all tries; 0 for a single try.
        first, longest: seconds.
        on: the errors that are worth another try.
    """
    deadline = Deadline(budget)
    # Random pauses keep clients that failed together from coming back together (full jitter).
    limit = tenacity.wait_exponential(multiplier=first, max=longest)

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        requested, spread = (
            (error.retry_after, error.spread) if isinstance(error, Temporary) else (None, 0.0)
        )
        if requested is None:
            requested = random.uniform(0, max(limit(state), spread))
        return min(requested, deadline.left() or 0.0)

    def report(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        problem = error.problem if isinstance(error, PipelineError) else error
        seconds_left = deadline.left()
        log.info(
            "%s; next try in %.1f s (%.0f of %.0f s left)", problem, seconds, seconds_left, budget
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(on),
        stop=lambda _: deadline.over,
        wait=pause,
        before_sleep=report,
        reraise=True,
    )
    return retrying(work)
