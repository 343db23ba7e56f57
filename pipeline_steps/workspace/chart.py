"""One chart of a checkout: the value that steps pass on. How it is found stands in
`workspace.checkout`.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Chart(NamedTuple):
    """A chart as a tree has it; all paths are relative to pipeline.yaml's folder, with "/".

    path: its folder, "" when pipeline.yaml lies in the chart. version, app_version: the texts of
    Chart.yaml. type: "application" or "library". entry: the merged entries of `charts` about it.
    subcharts: folders of its file:// dependencies, and of theirs. images: names of the images of
    all these. content: its digest. folder_digest: the digest of all tracked files of its folder,
    ignored ones too. closure: every file that content and tests depend on. history_paths: folders
    and files that hold the closure, deleted files too, for the source's history. modified: the
    changed files that the content depends on.
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
