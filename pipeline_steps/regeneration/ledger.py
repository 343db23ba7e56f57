"""A cache of finished tags beside the state file, so that the next regeneration skips them.

It is no evidence: without it every version is packaged and compared again, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.sources.source import Tag
from pipeline_steps.state import file as state_file
from pipeline_steps.state.record import fingerprint
from pipeline_steps.toolbox import files

#: Number of lines written together.
_AT_ONCE = 500


class KeptVersion(msgspec.Struct, frozen=True, array_like=True):
    """A version of a tag.

    packaged_tar: digest of the tar that was packaged. published_tar: of the published one. Both are
    "" for a published version that cannot be packaged again.
    archive: digest of the published .tgz.
    """

    name: str
    version: str
    packaged_tar: str
    published_tar: str
    archive: str


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """What cannot be made of a tag, for a reason that the sources alone decide.

    subject: names it in reports. name, version: of the chart as far as they are known, else "".
    no_chart: the tag stands for no chart at all, which is no failure.
    """

    subject: str
    name: str
    version: str
    reason: str
    no_chart: bool = False


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """A version that is packaged as it is stored, and lacked an archive of another repository when
    that was tried. What asks for that archive alone knows whether anything changed.

    in_repository: whether the repository that is regenerated had a chart of the name and version.
    """

    name: str
    version: str
    dependency: MissingArchive
    in_repository: bool


class DoneTag(msgspec.Struct, frozen=True, array_like=True):
    """A tag whose versions are all published, refused, or waiting for a dependency.

    message_digest: of the tag's text, "" for none.
    refusals: of what the tag names. unmakeable: of its versions.
    decided_elsewhere: names and versions that an older tag has, too: the older one was packaged, and
    nothing is known of this one's files.

    With tag "" it is about the index: `revision` is the index's digest at the end of a run.
    """

    tag: str
    revision: str
    message_digest: str
    versions: tuple[KeptVersion, ...]
    refusals: tuple[Refusal, ...] = ()
    unmakeable: tuple[Refusal, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    decided_elsewhere: tuple[tuple[str, str], ...] = ()

    def keys(self) -> Iterator[tuple[str, str]]:
        """Name and version of what was decided of this tag's own files."""
        for versions in (self.versions, self.unmakeable, self.waiting):
            yield from ((version.name, version.version) for version in versions)


class Ledger:
    """The finished tags, in a file.

    settings: all that decide what a tag gives, see `record.fingerprint`. It is in the file's
    name: other settings use another file. Lines that cannot be read are ignored.
    """

    def __init__(self, folder: Path, settings: object) -> None:
        self.path = folder / f"regenerated-{fingerprint(settings)[7:19]}.jsonl"
        self._new: list[bytes] = []
        self._done: dict[str, DoneTag] = {}
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            # A cache that cannot be read is treated as empty.
            lines = []
        decoder = msgspec.json.Decoder(DoneTag)
        for line in lines:
            try:
                done_tag = decoder.decode(line)
            except (ValueError, RecursionError):
                continue
            # Later lines win: the file only grows, a moved tag is written again.
            self._done[done_tag.tag] = done_tag
        self._index = self._done.pop("", None)

    def versions_if_unchanged(self, index: bytes | None) -> dict[str, dict[str, str]] | None:
        """Name → version → archive digest of all finished tags, if the index is unchanged.

        None when the index is not the one that the last run left.
        """
        if self._index is None or index is None or self._index.revision != files.sha256(index):
            return None
        by_chart: dict[str, dict[str, str]] = {}
        for version in (
            version for done_tag in self._done.values() for version in done_tag.versions
        ):
            by_chart.setdefault(version.name, {})[version.version] = version.archive
        return by_chart

    def keep_index(self, index: bytes | None) -> None:
        """Store the digest of the index at the end of a run. Raises MachineError."""
        digest = files.sha256(index) if index is not None else ""
        if digest and (self._index is None or self._index.revision != digest):
            self._new.append(msgspec.json.encode(DoneTag("", digest, "", ())))
            self.write()

    def of(self, tag: Tag) -> DoneTag | None:
        """The entry of a tag; None when it is not finished, or was moved since."""
        done_tag = self._done.get(tag.name)
        return (
            done_tag
            if done_tag is not None
            and (done_tag.revision, done_tag.message_digest) == (tag.revision, _message_digest(tag))
            else None
        )

    def add(self, tag: Tag, versions: tuple[KeptVersion, ...], **more: Any) -> None:
        """Add a finished tag. more: as in `DoneTag`. Raises MachineError."""
        done_tag = DoneTag(tag.name, tag.revision, _message_digest(tag), versions, **more)
        if self._done.get(tag.name) == done_tag:
            return
        self._new.append(msgspec.json.encode(done_tag))
        if len(self._new) >= _AT_ONCE:
            self.write()

    def write(self) -> None:
        """Write the added lines. Raises MachineError."""
        if self._new:
            state_file.ensure_folder(self.path)
            # Not durable: lines lost in a power cut only cost time.
            files.append(self.path, b"\n".join(self._new), durable=False)
            self._new.clear()


def _message_digest(tag: Tag) -> str:
    return files.sha256(tag.message.encode(errors="surrogateescape")) if tag.message else ""
