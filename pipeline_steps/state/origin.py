"""Who makes a record, and in which build; whether a record is of the build that runs here."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
from typing import Any

from pipeline_steps.ci.detect import detect
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.redact import redact


@functools.cache
def origin() -> dict[str, Any]:
    """Who runs here and where: actor, ci (system, build id and URL) and run, as they stand in every
    record.
    """
    build = detect(os.environ)
    actor = None
    # A container may run under a uid that no passwd names (KeyError; OSError since Python 3.13).
    with contextlib.suppress(KeyError, OSError):
        actor = getpass.getuser()
    build_fields = {"system": build.system, "id": build.id, "url": build.url}
    return {
        "actor": actor,
        "ci": None
        if build.system == "terminal"
        else {name: value for name, value in build_fields.items() if value},
        "run": os.environ.get("PIPELINE_STEPS_RUN") or build.id or "",
    }


def is_of_this_build(record: Record) -> bool:
    """Whether a record is of the CI build that runs here, one of its other stages and shards among
    them.
    """
    this_build, recorded_build = origin()["ci"] or {}, record.ci or {}
    return "id" in this_build and all(
        # Records hold what `redact` left: a build id may contain a short password.
        redact(this_build[name]) == recorded_build.get(name)
        for name in ("system", "id")
    )
