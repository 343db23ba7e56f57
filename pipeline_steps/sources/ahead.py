"""What a step will ask of git, begun while the step's modules are still loading: git answers on another core.

A wrong guess costs a few milliseconds of that core. An answer is used once, by the first who asks exactly that.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pipeline_steps.core.errors import PipelineError
from pipeline_steps.sources import git_objects, git_program

#: How the top folder of the checkout and the configuration are called.
_TOP, _CONFIGURATION = ".git", "pipeline.yaml"


def begin(*, tags: bool) -> None:
    """Begin what every step asks of the checkout here, and its tags; nothing where it is not git's."""
    with contextlib.suppress(PipelineError, OSError):  # who asks in earnest is told
        here = Path.cwd()
        above = (here, *here.parents)
        root = next((at for at in above if (at / _TOP).exists()), None)
        if root is None:
            return
        folder = next(at for at in above if at == root or (at / _CONFIGURATION).exists())
        below = [os.fspath(folder.relative_to(root))] if folder != root else []
        git_objects.ahead(root)
        if tags:
            git_program.ahead(root, *git_program.TAGS)
        # The last: it works longest, and a start waits for a core.
        git_program.ahead(root, *git_program.STATUS, *below)
