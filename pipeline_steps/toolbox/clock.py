"""The wall clock, for what people read, and the monotonic one, for how long things take.

Nothing is ordered or expired by the local wall clock.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

from pipeline_steps.toolbox.errors import MachineError

#: The first and the last second that RFC 3339 can write, since 1970.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
#: The next action where a text is no duration.
DURATION_ADVICE = "write for example 90s, 5m, 1h30m or 7d"


def now() -> str:
    """The time in UTC as RFC 3339 with milliseconds, like 2026-01-31T10:00:00.000Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339(seconds: int) -> str:
    """Seconds since 1970 in UTC as an index or a record writes them.

    RFC 3339 has the years 1 to 9999; a moment beyond them, which any source may tell of a tag,
    becomes the nearest one that it has.

    >>> rfc3339(315532800), rfc3339(10**18)
    ('1980-01-01T00:00:00Z', '9999-12-31T23:59:59Z')
    """
    nearest = min(max(seconds, _FIRST), _LAST)
    return datetime.fromtimestamp(nearest, timezone.utc).isoformat().replace("+00:00", "Z")


def rfc3339_of(time: datetime | None) -> str:
    """A time as RFC 3339 in UTC, "" for none.

    >>> rfc3339_of(datetime(2026, 1, 31, 10, tzinfo=timezone.utc)), rfc3339_of(None)
    ('2026-01-31T10:00:00Z', '')
    """
    if time is None:
        return ""
    try:
        return time.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    except OverflowError as error:
        raise MachineError(
            f"{time.isoformat()} is no time that has a year in UTC",
            advice="correct it where it was set",
        ) from error


class Deadline:
    """A time limit in seconds that several waits share. `seconds` None means no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds left, never below 0; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        return self.left() == 0.0


def seconds(duration: str) -> float:
    """Seconds of a duration like 90s, 5m, 1h30m, 7d.

    Raises ValueError for anything else.

    >>> seconds("1h30m"), seconds("0.5s"), seconds("7d")
    (5400.0, 0.5, 604800.0)
    """
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|[smhd]))+", duration):
        raise ValueError(f"{duration!r} is not a duration")
    return sum(float(n) * units[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", duration))
