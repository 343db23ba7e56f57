"""What one image of a checkout is built from, and the key and name that follow from it. Builds
nothing.

Not for images that are built elsewhere (`existing`): see `existing_reference` for what names those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import edit
from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config, ImageEntry
from pipeline_steps.images import builder, builders, dockerfile
from pipeline_steps.images.builder import BuilderKind, BuildRequest
from pipeline_steps.images.context import (
    Context,
    Input,
    InputKind,
    files_not_sent,
    generated_digest,
    generated_files,
)
from pipeline_steps.images.dockerfile import Dockerfile
from pipeline_steps.images.ignore import IgnoreRules, not_ignored
from pipeline_steps.images.value_templates import reference_in_values
from pipeline_steps.sources.source import Tree
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

#: Raise it when the same inputs make other images.
FORMAT = 1
#: What the names of generated files begin with among a record's inputs.
GENERATED = "generated:"


class BuildDefinition(NamedTuple):
    """What an image is built from.

    image: its name in pipeline.yaml. content: its digest. context: what the source has of it.
    ignore_rules: of its .dockerignore. builder_kind: of the builder of this machine.
    """

    image: str
    entry: ImageEntry
    content: str
    dockerfile: Dockerfile
    context: Context
    ignore_rules: IgnoreRules
    builder_kind: BuilderKind

    def image_key(self, consumed: Mapping[str, str]) -> str:
        """The image's key, whose first digits are its tag.

        consumed: digests of base images by str(reference), and of generated files by GENERATED and
        their path.
        """
        parameters = {
            "args": dict(self.entry.args),
            "target": self.entry.target,
            "platforms": list(self.entry.platforms),
            "secrets": list(self.entry.secrets),
            "builder": self.builder_kind,
            "dockerfile": sha256(self.dockerfile.text.encode()),
            "inputs": self.context.as_lists(),
        }
        return make_key(
            "build_image", FORMAT, parameters=parameters, content=None, consumed=consumed
        )

    def base_images(self) -> list[Reference]:
        """The base images, each once."""
        return list(dict.fromkeys(base.reference for base in self.dockerfile.bases))

    def build_request(
        self,
        destination: Reference,
        consumed: Mapping[str, str],
        config: Config,
        timeout: float | None,
    ) -> BuildRequest:
        """What to ask the builder. consumed: digests of bases and generated files, as for `image_key`.

        Raises ConfigurationError when a secret is not given.
        """
        return BuildRequest(
            destination=destination,
            context=self._with_generated(consumed, config),
            dockerfile=self.dockerfile,
            bases={
                name: digest for name, digest in consumed.items() if not name.startswith(GENERATED)
            },
            hosts=config.hosts,
            build_stage=self.entry.target,
            args=self.entry.args,
            platforms=self.entry.platforms,
            secrets=self._secrets(config),
            timeout=timeout,
        )

    def _secrets(self, config: Config) -> dict[str, str]:
        where, is_review = (
            config.where(f"images.{self.image}.secrets"),
            bool(detect(os.environ).review),
        )
        return builder.find_secrets(
            self.entry.secrets, config.secrets, os.environ, is_review=is_review, where=where
        )

    def generated_digests(self, config: Config) -> dict[str, str]:
        """The digests of the generated files that lie in the context now, by their names among a
        record's inputs.

        Raises ConfigurationError for a pattern that fits nothing, and for a file that the source
        tracks.
        """
        generated = self._generated_files(config) if self.entry.generated else {}
        return {f"{GENERATED}{path}": generated_digest(file) for path, file in generated.items()}

    def _generated_files(self, config: Config) -> dict[str, Path]:
        where = config.where(f"images.{self.image}.generated")
        tracked = {each.path for each in self.context.inputs}
        found_files = generated_files(
            config.root / self.context.folder, self.entry.generated, tracked, where
        )
        return {path: found_files[path] for path in not_ignored(found_files, self.ignore_rules)}

    def _with_generated(self, consumed: Mapping[str, str], config: Config) -> Context:
        """The context with the generated files that the key is made of; whoever builds must have
        exactly these.
        """
        digests = {
            name.removeprefix(GENERATED): digest
            for name, digest in consumed.items()
            if name.startswith(GENERATED)
        }
        if not digests:
            return self.context
        context, root = self.context, config.root / self.context.folder

        # One mode for all, so that the umask of the stage that made them does not matter.
        inputs = (Input(path, "executable", digest) for path, digest in digests.items())
        generated = {path: root / path for path in digests}
        return Context(
            tuple(sorted((*context.inputs, *inputs))), context.read, context.folder, generated
        )

    def files_not_sent(self, config: Config) -> list[str]:
        """Files in the context's folder that a plain `docker build` would take and that are no
        inputs.
        """
        inputs = {*(each.path for each in self.context.inputs)}
        if self.entry.generated:
            inputs.update(self._generated_files(config))
        return files_not_sent(config.root / self.context.folder, self.ignore_rules, inputs)


def read_build_definition(checkout: Checkout, image: str) -> BuildDefinition:
    """The build definition of an image with a context, from the files that the source stores.

    Raises ConfigurationError naming file and line, ToolMissing.
    """
    entry, source = checkout.image_entry(image), checkout.image_inputs(image)
    where = checkout.config.where(f"images.{image}.context")
    if source is None:
        raise ConfigurationError(
            f"the image {image} has no context",
            where=where,
            advice="name the folder that it is built from",
        )
    tree = checkout.tree
    # The builder reads the tree, where a link is a link: its target would be another file here.
    read_here = (source.context, source.dockerfile, source.ignore_file)
    linked = [path for path in read_here if _is_link(tree, path)]
    if linked:
        advice = (
            "name the folder or file itself: a build must not depend on what lies outside "
            "of the source"
        )
        raise ConfigurationError(f"{linked[0]} is a symbolic link", where=where, advice=advice)
    text = tree.read([source.dockerfile])[source.dockerfile]
    parsed = dockerfile.parse(text, source.dockerfile, args=entry.args, build_stage=entry.target)
    digests = tree.digests(source.files.values())
    inputs = [
        Input(path, _kind(tree, place), digests[place]) for path, place in source.files.items()
    ]

    def read_input(path: str) -> bytes:
        return tree.read([source.files[path]])[source.files[path]]

    context = Context(tuple(sorted(inputs)), read_input, source.context)
    return BuildDefinition(
        image,
        entry,
        checkout.image_content(image),
        parsed,
        context,
        source.ignored,
        builders.builder_kind(os.environ),
    )


def _is_link(tree: Tree, path: str) -> bool:
    """Whether a path of the tree is a symbolic link, or leads through one."""
    parts = path.split("/")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    entries = tree.entries()
    return any(each in entries and entries[each].kind == "link" for each in above)


def _kind(tree: Tree, path: str) -> InputKind:
    kind = tree.entries()[path].kind
    if kind == "submodule":
        raise ConfigurationError(
            "the folder is a repository of its own (a submodule): its files are not stored here",
            where=path,
            advice="leave it out with .dockerignore, or add its files to this repository",
        )
    return kind


def digests_from_record(
    definition: BuildDefinition, records: Iterable[Record]
) -> dict[str, str] | None:
    """The digests of bases and generated files from the first record that has all of them."""
    names = [str(reference) for reference in definition.base_images()]
    for record in records:
        generated = {
            name: digest for name, digest in record.inputs.items() if name.startswith(GENERATED)
        }
        # Only whole sets: a base or file that the record does not know has no digest to build with.
        if all(name in record.inputs for name in names) and bool(generated) == bool(
            definition.entry.generated
        ):
            return {**{name: record.inputs[name] for name in names}, **generated}
    return None


def snapshot_destination(config: Config, image: str, key: str) -> Reference:
    """Where the image of a key goes in the snapshot channel. Raises ConfigurationError."""
    channel = config.channels.snapshot.images
    where = config.where("channels.snapshot.images")
    if not channel:
        raise ConfigurationError(
            "channels.snapshot.images is not set", where=where, advice="name a registry path"
        )
    reference = Reference.parse(f"{channel.rstrip('/')}/{image}", where=where)
    # The key in the tag: whoever builds the same finds it, and two agents push the same name.
    return reference._replace(tag=f"k-{key.removeprefix('sha256:')[:12]}")


def existing_reference(checkout: Checkout, image: str) -> Reference:
    """The name of an image that is built elsewhere: `existing`, completed or given by the values of
    its charts.

    Raises ConfigurationError when nothing names it, or two charts name it differently.
    """
    entry = checkout.image_entry(image)
    where = checkout.config.where(f"images.{image}.existing")
    configured = Reference.familiar(entry.existing, where=where) if entry.existing else None
    if configured and (configured.tag or configured.digest):
        return configured
    reference_by_chart: dict[str, Reference] = {}
    for chart in checkout.each_readable():
        templates = (chart.entry.images or {}).get(image)
        if templates:
            reference_by_chart[chart.name] = _reference_in_values(
                checkout, chart, templates, configured
            )
    references = set(reference_by_chart.values())
    if len(references) == 1:
        return references.pop()
    if not references:
        message = f"nothing names a tag or digest of the image {image}"
        raise ConfigurationError(
            message, where=where, advice="write one there, or map it to a chart's values"
        )
    listed = ", ".join(f"{chart}: {reference}" for chart, reference in reference_by_chart.items())
    raise ConfigurationError(
        f"charts name the image {image} differently: {listed}",
        where=where,
        advice="write the tag or digest there, or make the charts agree",
    )


def _reference_in_values(
    checkout: Checkout, chart: Chart, templates: Mapping[str, str], configured: Reference | None
) -> Reference:
    """The reference in a chart's values; with `configured`, only its tag and digest."""
    file = f"{chart.path}/values.yaml".lstrip("/")
    data = checkout.tree.read([file])[file] if file in checkout.tree.entries() else None
    return reference_from_values(data, file, chart.app_version, templates, configured)


def reference_from_values(
    data: bytes | None,
    file: str,
    app_version: str | None,
    templates: Mapping[str, str],
    configured: Reference | None,
) -> Reference:
    """The reference in the values.yaml `data`, called `file`; with `configured`, only its tag
    and digest.

    templates: values key → template. Raises ConfigurationError.
    """
    values = {"Chart.appVersion": app_version or ""}
    if data is not None:
        _, root = yaml_reader.parse(data, file)
        values.update({key: scalar.value for key, scalar in edit.scalars(root)})
    if configured is None:
        return reference_in_values(templates, values, where=file)
    # The repository is known: the values need to say no more than tag or digest.
    from_chart = reference_in_values(
        {**templates, "": "{repository}"},
        {**_tag_and_digest_values(templates, values), "": configured.repository},
    )
    if not from_chart.tag and not from_chart.digest:
        keys = ", ".join(templates)
        raise ConfigurationError(
            f"{keys} have neither tag nor digest of {configured.repository}",
            where=file,
            advice="write one there, or into `existing` of the image",
        )
    return configured._replace(tag=from_chart.tag, digest=from_chart.digest)


def _tag_and_digest_values(
    templates: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, str]:
    """Values whose templates ask for tag or digest."""
    return {
        key: values.get(key, "")
        for key, text in templates.items()
        if "{tag}" in text or "{digest}" in text
    }
