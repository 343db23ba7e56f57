"""What makes the start of a step short, done before its modules are loaded. It changes no answer."""

from __future__ import annotations

import gc
import sys

from pipeline_steps.toolbox.regex import late

with late():
    from pipeline_steps.sources import ahead


#: Steps that look at what is checked out → whether they ask for its tags.
_LOOKING = {
    "check": False, "build_image": False, "snapshot": True, "integration_test": False, "report": False,
    "tag_release": True, "promote": True,
}  # fmt: skip


def prepare(step: str) -> None:
    """Begin what the step asks of git, and keep from loading what it can do without. Once in a process."""
    if step in _LOOKING and not {"-h", "--help"}.intersection(sys.argv):
        ahead.begin(tags=_LOOKING[step])
    gc.set_threshold(50_000)  # as `__main__.entry` does
    if sys.version_info >= (3, 11) and "typing_extensions" not in sys.modules:
        # msgspec needs nothing of it since 3.11, and it brings inspect, ast and dis. None is the documented way to
        # say that a module is not to be had (The Python Language Reference, 5.3.1).
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        try:
            with late():
                import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]
    # These compile thirty patterns when they are loaded, and a step uses three. (gettext gives one to `re.finditer`.)
    with late():
        import json  # noqa: F401
        import logging  # noqa: F401

        import yaml  # noqa: F401
