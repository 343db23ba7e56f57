"""Live progress of `run`: a running clock per step on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from pipeline_steps.cli import boundary
from pipeline_steps.cli.step import Outcome
from pipeline_steps.toolbox.redact import redact


class Progress:
    """Say what step runs, for how long, and what came out for every subject."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._live: Any = None
        self._quiet = quiet
        self._began = time.monotonic()
        self._name = ""

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import Progress as Bars
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            self._live = Bars(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, name: str) -> None:
        """Say that the step `name` runs from now on."""
        self._name = name
        self._began = time.monotonic()
        if self._live is not None:
            for task in list(self._live.task_ids):
                self._live.remove_task(task)
            self._live.add_task(name, total=None)
        else:
            self._say(f"{name} ...")

    def outcome(self, outcome: Outcome) -> None:
        """Say what one subject came to, with the step's seconds so far."""
        mark = "✗" if outcome.error is not None else "✓"
        self._say(f"{mark} {self._name:<17} {time.monotonic() - self._began:5.1f} s  {outcome.summary}")

    def nothing(self) -> None:
        """Say that no chart is affected."""
        self._say(f"✓ {self._name:<17} {time.monotonic() - self._began:5.1f} s  no chart affected")

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(redact(text), markup=False, highlight=False)
        else:
            boundary.log.info("%s", text)
