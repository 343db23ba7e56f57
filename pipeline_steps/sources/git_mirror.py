"""The tags of a git repository elsewhere, in a bare repository of this user's cache; nothing is checked out."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.git import Git
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import NotYet, UsageError
from pipeline_steps.toolbox.http import shown

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://.+|[^/:@\s-][^/:@\s]*@[^/:\s]+:.+|(lp):.+")
_LATER = {"bzr": "Bazaar", "lp": "Bazaar", "svn": "Subversion"}


def is_url(text: str) -> bool:
    """Whether a source is named by a URL (https://…, ssh://…, user@host:path) and not by a path."""
    return _URL.fullmatch(text) is not None


def mirror(url: str, cache: Path) -> Git:
    """The repository at `url` with all its tags, fetched now. cache: a folder that may be lost.

    Raises NotYet for other systems than git, UsageError for a password in the URL, AccessRefused, Unreachable,
    Temporary.
    """
    found = _URL.fullmatch(url)
    scheme = (found[1] or found[2] or "" if found else "").partition("+")[0]
    if scheme in _LATER:
        raise NotYet(f"{_LATER[scheme]} sources", where=url)
    if ":" in urlsplit(url).netloc.rpartition("@")[0]:
        advice = "leave it to git: a credential helper, GIT_ASKPASS or an SSH agent"
        raise UsageError("there is a password in the URL", where=shown(url), advice=advice)
    place = files.folder(cache / f"{files.sha256(url.encode())[7:23]}.git")
    with files.locked(place / "pipeline-steps.lock"):
        if not (place / "HEAD").exists():
            program.output(place, "init", "--quiet", "--bare")
        # A tag that was moved or removed there is moved or removed here.
        arguments = ("--quiet", "--prune", "--no-tags", "--", url, "+refs/tags/*:refs/tags/*")
        fetched = program.call(place, "fetch", *arguments, remote=True, timeout=program.WHOLE)
        if not fetched.ok:
            raise program.failure(place, fetched)
    return Git(place)
