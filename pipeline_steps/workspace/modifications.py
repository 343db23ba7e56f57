"""What of a chart or image differs from the revision that a checkout is based on: changed files,
and overlays that say something else.

Whatever is listed here marks snapshots and images as modified, and such are never released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pipeline_steps.charts import paths
from pipeline_steps.config import config_file
from pipeline_steps.config.document import Document
from pipeline_steps.sources.source import Source, Tree
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.content import Closure
from pipeline_steps.workspace.stored_config import has_same_entries


class ConfigHistory:
    """pipeline.yaml at the revisions of a source.

    Args:
        folder: of pipeline.yaml, relative to the source's root.
        path: of pipeline.yaml below it.
        document: pipeline.yaml of the checkout, without overlays.
        chart_folders: every folder of the checkout that has a Chart.yaml.
    """

    def __init__(
        self,
        source: Source,
        folder: str,
        path: str,
        document: Document,
        chart_folders: Sequence[str],
    ) -> None:
        self._source = source
        self._folder = folder
        self._path = path
        self._here = document
        self._chart_folders = chart_folders

    def has_same_entries(self, closure: Closure, revision: str) -> bool:
        """Whether pipeline.yaml at a revision has the same entries about a closure."""
        return has_same_entries(closure, self._here, self._document(revision), self._chart_folders)

    def is_missing(self, revision: str) -> bool:
        """Whether there was no pipeline.yaml yet, or none any more, at a revision."""
        return self._path not in self._source.tree(revision, self._folder).entries()

    def _document(self, revision: str) -> Document | None:
        try:
            texts = self._source.tree(revision, self._folder).read([self._path])
            return config_file.parse_charts_and_images(texts[self._path], self._path)
        except ConfigurationError:
            return None


def changed_files(
    tree: Tree, closure: Closure, config_path: str, history: ConfigHistory
) -> tuple[str, ...]:
    """The files below the places of a closure that differ from the tree's revision, and
    pipeline.yaml (`config_path`) when its entries about the closure do.
    """
    changed = [
        path
        for path in tree.modified
        if any(paths.contains(place, path) for place in closure.paths)
    ]
    # A change of pipeline.yaml about other charts must not make this one modified.
    if (
        config_path in tree.modified
        and config_path not in changed
        and not history.has_same_entries(closure, tree.revision)
    ):
        changed.append(config_path)
    return tuple(sorted(changed))


def modifications(
    changed: Sequence[str],
    overlays: Iterable[str],
    content: Callable[[], str],
    stored_content: Callable[[], str | None],
) -> tuple[str, ...]:
    """What makes a content modified, each once: changed files unless the content is that of the
    revision all the same (comments, files that are ignored), and overlays.

    overlays: file names, "" for none. content, stored_content: of the checkout and of its
    revision, which are only asked for when files are changed.
    """
    # Asked last, as it reads the revision's tree: most checkouts have no changed file at all.
    if changed and stored_content() == content():
        changed = ()
    return tuple(dict.fromkeys((*changed, *filter(None, overlays))))
