"""Package chart versions from tags without a checkout: the worker's side of `regenerate`.

A version whose tag names its content and images is made as promote makes it. Others are packaged
as they are stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition, production_images
from pipeline_steps.charts import archive, dependencies, edit, image_references
from pipeline_steps.charts.archive import Archive, Files
from pipeline_steps.charts.collect import collect_files
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.images import value_templates
from pipeline_steps.oci.copy import tag_points_to
from pipeline_steps.regeneration.charts import Place
from pipeline_steps.regeneration.dependency_repositories import without_repeated_failures
from pipeline_steps.regeneration.ledger import Refusal
from pipeline_steps.regeneration.tag_versions import (
    Settings,
    TagReader,
    Unpackageable,
    Version,
    is_lasting,
    problem_at_tag,
)
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.sources.source import Entry, Tag
from pipeline_steps.sources.tree import StoredTree, is_pipeline_output, walk_files
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    Interrupted,
    MachineError,
    PipelineError,
)
from pipeline_steps.workspace.content import FORMAT_1, ContentReader
from pipeline_steps.workspace.tags import TaggedRelease


class PackagingTask(NamedTuple):
    """The task to package a version. own: archives of the repository that is regenerated, by name
    and version, for dependencies that their own repository no longer has.
    """

    version: Version
    own: Mapping[tuple[str, str], bytes] = {}


class Repackager:
    """Reads tags and packages versions: called with a list of either."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._exit_stack = contextlib.ExitStack()
        self._exit_stack.enter_context(settings.revisions)
        self._revisions = settings.revisions
        self._tags = TagReader(settings)
        self._fetch = without_repeated_failures(fetcher(dict(settings.hosts)))
        self._asked_servers = False
        self._own_archives: Mapping[tuple[str, str], bytes] = {}
        self._missing_dependency: MissingArchive | None = None

    def close(self) -> None:
        """End the processes that read the source."""
        self._exit_stack.close()

    def __call__(self, tasks: list[Tag] | list[PackagingTask]) -> list[Any]:
        """For each tag a list of `Version` and `Unpackageable`; for each version its Archive, or
        `Unpackageable`.
        """
        # A missing revision is reported for the tag that needs it.
        with contextlib.suppress(MachineError):
            tags = (task if isinstance(task, Tag) else task.version.tag for task in tasks)
            self._revisions.prepare(tag.revision for tag in tags)
            versions = [task.version for task in tasks if isinstance(task, PackagingTask)]
            self._revisions.prepare(folders=[tree for one in versions for tree in one.trees])
        return [
            self._tags.versions_of_tag(task) if isinstance(task, Tag) else self.repackage(*task)
            for task in tasks
        ]

    def repackage(
        self, version: Version, own: Mapping[tuple[str, str], bytes] = MappingProxyType({})
    ) -> Archive | Unpackageable:
        """The archive of a version, or the reason why it cannot be packaged. own: see `PackagingTask`."""
        self._asked_servers, self._own_archives, self._missing_dependency = False, own, None
        try:
            return (
                self._as_promoted(version, version.released)
                if version.released
                else self._as_stored(version)
            )
        except Interrupted:
            raise
        except PipelineError as error:
            reason = str(error) if version.released else problem_at_tag(error)
            refusal = Refusal(str(version), version.name, version.version, reason)
            lasting = is_lasting(error) and not self._asked_servers
            return Unpackageable(version.tag.name, refusal, lasting, self._missing_dependency)

    def _fetch_dependency(self, dependency: MissingArchive) -> bytes:
        """The archive of a dependency. After it the result depends on servers, too: it is not lasting."""
        self._asked_servers = True
        try:
            return self._fetch(dependency)
        except Interrupted:
            raise
        except PipelineError:
            key = (dependency.name, dependency.version)
            if key not in self._own_archives:
                self._missing_dependency = dependency
                raise
            return self._own_archives[key]

    # -- as it stands --------------------------------------------------------------------------

    def _as_stored(self, version: Version) -> Archive:
        files = self._package_files(version, self._source_files(version))
        return archive.pack(files, files.executables, version.folder)

    def _source_files(self, version: Version) -> dict[str, Entry]:
        """The files of the chart and its file:// subcharts; all files if one of them is a link."""
        root = self._tags.root(version.tag)
        place = Place(version.folder, version.trees[0])
        entries: dict[str, Entry] = {}
        for chart_place in (place, *self._tags.subcharts(root, place)):
            prefix = f"{chart_place.folder}/" if chart_place.folder else ""
            entries.update(
                (entry.path, entry) for entry in walk_files(self._revisions, chart_place.id, prefix)
            )
        # A link may lead anywhere in the source, so all files must be at hand to follow it.
        if any(entry.kind == "link" for entry in entries.values()):
            entries = {entry.path: entry for entry in walk_files(self._revisions, root)}
        return {path: entry for path, entry in entries.items() if not is_pipeline_output(path)}

    def _package_files(self, version: Version, entries: Mapping[str, Entry]) -> Files:
        """The files of the package, with downloaded dependencies."""

        def read(paths: Any) -> dict[str, bytes]:
            ids = {path: entries[path].id for path in paths}
            data = self._revisions.read(ids.values())
            return {path: data[identity] for path, identity in ids.items()}

        # Submodules are not in the chart: in a plain checkout helm finds an empty folder there.
        kinds = {path: entry.kind for path, entry in entries.items() if entry.kind != "submodule"}
        return dependencies.fill(
            collect_files(version.folder, kinds, read), self._fetch_dependency, version.folder
        )

    # -- as promote makes it -------------------------------------------------------------------

    def _as_promoted(self, version: Version, released: TaggedRelease) -> Archive:
        """The archive that promote makes of this content with these images.

        Raises EvidenceError when the tag names other content, or an image is not in production.
        """
        self._asked_servers = True  # the result depends on the images that there are
        closures = self._tags.closures(version)
        closure = closures.chart(version.folder)
        _require_as_tagged(version, released, closures)
        names = closures.images(version.folder)
        tree = StoredTree(self._revisions, version.tag.revision, self._settings.folder)
        files = self._package_files(version, {path: tree.entries()[path] for path in closure.files})
        templates = {
            folder: closure.charts.get(folder, {}).get("images", {})
            for folder in (version.folder, *closures.subcharts(version.folder))
        }
        if names:
            # Set the values twice, as snapshot and promote did: how snapshot wrote a value decides
            # how promote quotes it.
            tested = {
                name: self._snapshot_reference(
                    version, name, closure.images[name], templates, files
                )
                for name in names
            }
            files = self._with_references(version, files, templates, tested, released)
            files = self._with_references(
                version,
                files,
                templates,
                self._production_references(version, names, released),
                released,
            )
        return archive.pack(files, files.executables, version.folder)

    def _snapshot_reference(
        self, version: Version, name: str, entry: Mapping[str, Any], templates: Any, files: Files
    ) -> Reference:
        """The image reference in the snapshot, without digest and key."""
        if entry.get("context") is not None:
            return Reference.parse(
                f"{self._settings.snapshots or 'snapshot.invalid/s'}/{name}:k-000000000000"
            )
        existing = Reference.familiar(entry["existing"]) if entry.get("existing") else None
        if existing and (existing.tag or existing.digest):
            return existing
        templates_of_image: Mapping[str, str] = next(
            (by_image[name] for by_image in templates.values() if name in by_image), {}
        )
        app_version = archive.metadata_of(files, version.folder).app_version
        return build_definition.reference_from_values(
            files.get("values.yaml"),
            f"{version.folder}/values.yaml",
            app_version,
            templates_of_image,
            existing,
        )

    def _production_references(
        self, version: Version, names: tuple[str, ...], released: TaggedRelease
    ) -> dict[str, Reference]:
        """Image name → its reference in production. Raises EvidenceError when it is not there."""
        if not self._settings.images:
            advice = "give the pipeline.yaml that promote used (--config)"
            raise ConfigurationError(
                "channels.production.images is missing", where=version.tag.name, advice=advice
            )
        users = self._tags.closures(version).image_users
        references = {}
        for name in names:
            tag = production_images.image_tag(
                self._settings.image_tag,
                version.name,
                version.version,
                shared=len(users(name)) > 1,
                format=released.format,
            )
            references[name] = Reference.parse(f"{self._settings.images}/{name}:{tag}")
        for name, target in references.items():
            if not tag_points_to(target, released.images[name], hosts=self._settings.hosts):
                problem = f"the image {target}@{released.images[name]} is not in production"
                raise EvidenceError(
                    problem,
                    where=version.tag.name,
                    advice=f"promote first: --tag {version.tag.name}",
                )
        return references

    def _with_references(
        self,
        version: Version,
        files: Files,
        templates: Mapping[str, Any],
        images: Mapping[str, Reference],
        released: TaggedRelease,
    ) -> Files:
        pulled = {
            name: value_templates.image_parts(
                reference._replace(digest=released.images[name]), self._settings.hosts
            )
            for name, reference in images.items()
        }
        edits = image_references.edits(
            files,
            version.folder,
            templates,
            lambda name, template, where: pulled[name].fill(template, where=where),
        )
        edited, _ = edit.apply(files, edits, version.folder)
        return Files(edited, files.executables)


def _require_as_tagged(version: Version, released: TaggedRelease, contents: ContentReader) -> None:
    """Raises EvidenceError when the tag names another version or content, or nothing names the
    digest of an image.
    """
    content = (
        contents.content_format_1(contents.chart(version.folder))
        if released.format == FORMAT_1
        else contents.chart_content(version.folder)
    )
    if (released.version, released.content) != (version.version, content):
        tagged = f"{released.version} with content {released.content}"
        problem = f"the tag says {tagged}, there is {version.version} with {content}"
        advice = (
            "the tag was moved, or not made by tag_release: release it again with a new version"
        )
        raise EvidenceError(problem, where=version.tag.name, advice=advice)
    missing = [name for name in contents.images(version.folder) if name not in released.images]
    if missing:
        raise EvidenceError(
            f"neither the tag nor a record names the digest of the image {missing[0]}",
            where=version.tag.name,
            advice="name the evidence store that has the record of promote, in `evidence`",
        )
