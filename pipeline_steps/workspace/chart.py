"""One chart of a checkout: the value that steps pass on. How it is found stands in
`workspace.checkout`.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Chart(NamedTuple):
    """A chart as it stands in a tree; all paths are relative to pipeline.yaml's folder, "/" between
    parts.

    path: its folder, "" when pipeline.yaml lies in the chart. version, app_version: the texts of
    Chart.yaml. type: "application" or "library". entry: the entries of `charts` about it, later
    ones over earlier ones. subcharts: folders of its file:// dependencies, theirs too. images:
    names of the images of all these. content: its digest (docs/explanation/content.md). stored: the
    digest of all tracked files of its folder, ignored ones too. closure: every file that content
    and tests rest on. places: folders and files that hold the closure, deleted files too: what to
    ask a source's history about. modified: the changed files that the content rests on.
    """

    name: str
    path: str
    version: str
    app_version: str | None
    type: str
    entry: Any
    subcharts: tuple[str, ...]
    images: tuple[str, ...]
    content: str
    folder_digest: str
    closure: tuple[str, ...]
    history_paths: tuple[str, ...]
    modified: tuple[str, ...]
