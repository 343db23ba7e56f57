"""Which tags of a run still have versions to be decided; a tag without any goes into the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline_steps.regeneration.ledger import KeptVersion, Ledger, Refusal, Waiting
from pipeline_steps.regeneration.repository_contents import VersionFilter
from pipeline_steps.regeneration.tag_versions import Version
from pipeline_steps.sources.source import Tag


class Decided:
    """What was decided of versions by now, by their names and versions."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, str], KeptVersion] = {}
        self.unmakeable: dict[tuple[str, str], Refusal] = {}
        self.waiting: dict[tuple[str, str], Waiting] = {}

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self.done or key in self.unmakeable or key in self.waiting


class TagVersions(NamedTuple):
    """A tag, the versions it names, and its refusals.

    lasting: all refusals are decided by the sources alone, so they will not change.
    """

    tag: Tag
    versions: tuple[Version, ...]
    refusals: tuple[Refusal, ...]
    lasting: bool


class OpenTags:
    """Tags with versions that are not finished yet. A tag without any is put into the ledger.

    packaged: name and version → the tag that is packaged.
    """

    def __init__(
        self,
        looked: Iterable[TagVersions],
        version_filter: VersionFilter,
        ledger: Ledger,
        decided: Decided,
        packaged: Mapping[tuple[str, str], str],
    ) -> None:
        self._ledger = ledger
        self._decided = decided
        self._packaged = packaged
        self._refusals: dict[str, tuple[Refusal, ...]] = {}
        self._open: dict[str, tuple[Tag, list[tuple[str, str]]]] = {}
        self._tags: dict[tuple[str, str], list[str]] = {}
        for tag, versions, refusals, lasting in looked:
            keys = [(version.name, version.version) for version in versions]
            selected = [
                key
                for key in keys
                if version_filter.includes(*key) and not version_filter.is_withdrawn(*key)
            ]
            if lasting:
                self._open[tag.name] = (tag, selected)
                self._refusals[tag.name] = refusals
            for key in selected:
                self._tags.setdefault(key, []).append(tag.name)

    def version_done(self, key: tuple[str, str]) -> None:
        """Note that a version is published or reported."""
        for name in self._tags.get(key, ()):
            self._close(name)

    def close_remaining(self) -> None:
        """At the end of a run: close tags without versions, and those published before."""
        for name in list(self._open):
            self._close(name)

    def _close(self, name: str) -> None:
        tag, keys = self._open.get(name, (None, []))
        decided = self._decided
        if tag is None or not all(key in decided for key in keys):
            return
        del self._open[name]
        own = [key for key in keys if self._packaged.get(key) == name]
        self._ledger.add(
            tag,
            tuple(decided.done[key] for key in own if key in decided.done),
            refusals=self._refusals.pop(name),
            unmakeable=tuple(decided.unmakeable[key] for key in own if key in decided.unmakeable),
            waiting=tuple(decided.waiting[key] for key in own if key in decided.waiting),
            decided_elsewhere=tuple(key for key in keys if self._packaged.get(key) != name),
        )
