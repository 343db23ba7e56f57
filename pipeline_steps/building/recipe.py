"""What one image of a checkout is built from, and the key and name that follow from it. Builds nothing.

Not for images that are built elsewhere (`existing`): see `existing_reference` for what names those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import edit, paths
from pipeline_steps.config.language import Config, ImageEntry
from pipeline_steps.images import builder, builders, context, dockerfile
from pipeline_steps.images.builder import BuilderKind, Request
from pipeline_steps.images.context import Context
from pipeline_steps.images.dockerfile import Dockerfile
from pipeline_steps.images.reference import from_values
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

#: Raise it when the same inputs make other images.
FORMAT = 1


class Recipe(NamedTuple):
    """image: its name in pipeline.yaml. content: its digest (design.md §9). kind: of the builder of this machine."""

    image: str
    entry: ImageEntry
    content: str
    dockerfile: Dockerfile
    context: Context
    kind: BuilderKind

    def key(self, bases: Mapping[str, str]) -> str:
        """The image's key, whose first digits are its tag. bases: str(reference) → digest."""
        parameters = {
            "args": dict(self.entry.args),
            "target": self.entry.target,
            "platforms": list(self.entry.platforms),
            "secrets": list(self.entry.secrets),
            "builder": self.kind,
            "dockerfile": sha256(self.dockerfile.text.encode()),
            "inputs": self.context.content(),
        }
        return make_key("build_image", FORMAT, parameters=parameters, content=None, consumed=bases)

    def needs(self) -> list[Reference]:
        """The base images, each once."""
        return list(dict.fromkeys(base.reference for base in self.dockerfile.bases))

    def request(self, target: Reference, bases: Mapping[str, str], config: Config, timeout: float | None) -> Request:
        """What to ask the builder. Raises ConfigurationError when a secret is not given."""
        where = config.where(f"images.{self.image}.secrets")
        return Request(
            target=target,
            context=self.context,
            dockerfile=self.dockerfile,
            bases=bases,
            hosts=config.hosts,
            stage=self.entry.target,
            args=self.entry.args,
            platforms=self.entry.platforms,
            secrets=builder.find_secrets(self.entry.secrets, os.environ, where=where),
            timeout=timeout,
        )


def read(checkout: Checkout, image: str, *, root: Path | None = None) -> Recipe:
    """The recipe of an image with a context. root: the folder its files were exported to, if they were.

    Raises ConfigurationError naming file and line, ToolMissing.
    """
    entry, root = checkout.image_entry(image), root or checkout.config.root
    where = checkout.config.where(f"images.{image}.context")
    folder = paths.inside(entry.context or "", where=where)
    file = paths.inside(entry.dockerfile, base=folder, where=where)
    try:
        text = (root / file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", where=where) from error
    found = dockerfile.parse(text, file, args=entry.args, target=entry.target)
    tracked = [path[len(folder) + 1 if folder else 0 :] for path in paths.below(list(checkout.tree.entries()), folder)]
    inputs = context.read(root / folder, root / file, tracked=tracked)
    return Recipe(image, entry, checkout.image_content(image), found, inputs, builders.kind(os.environ))


def former_bases(recipe: Recipe, former: Iterable[Record]) -> dict[str, str] | None:
    """The digests that the newest former record of this content resolved its bases to, if it knows all of them."""
    names = [str(reference) for reference in recipe.needs()]
    for record in reversed(list(former)):
        if all(name in record.inputs for name in names):
            return {name: record.inputs[name] for name in names}
    return None


def target(config: Config, image: str, key: str) -> Reference:
    """Where the image of a key goes in the snapshot channel. Raises ConfigurationError."""
    channel = config.channels.snapshot.images
    where = config.where("channels.snapshot.images")
    if not channel:
        raise ConfigurationError("channels.snapshot.images is not set", where=where, advice="name a registry path")
    reference = Reference.parse(f"{channel.rstrip('/')}/{image}", where=where)
    return reference._replace(tag=f"k-{key.removeprefix('sha256:')[:12]}")


def existing_reference(checkout: Checkout, image: str) -> Reference:
    """The name of an image that is built elsewhere: `existing`, completed or given by the values of its charts.

    Raises ConfigurationError when nothing names it, or two charts name it differently.
    """
    entry = checkout.image_entry(image)
    where = checkout.config.where(f"images.{image}.existing")
    written = Reference.familiar(entry.existing, where=where) if entry.existing else None
    if written and (written.tag or written.digest):
        return written
    named: dict[str, Reference] = {}
    for chart in checkout.charts.values():
        templates = (chart.entry.images or {}).get(image)
        if templates:
            named[chart.name] = _in_values(checkout, chart, templates, written)
    found = set(named.values())
    if len(found) == 1:
        return found.pop()
    if not found:
        what = f"nothing names a tag or digest of the image {image}"
        raise ConfigurationError(what, where=where, advice="write one there, or map it to a chart's values")
    listed = ", ".join(f"{chart}: {reference}" for chart, reference in named.items())
    raise ConfigurationError(f"charts name the image {image} differently: {listed}", where=where)


def _in_values(checkout: Checkout, chart: Chart, templates: Mapping[str, str], written: Reference | None) -> Reference:
    """The reference in a chart's values; with `written`, only its tag and digest."""
    file = f"{chart.path}/values.yaml".lstrip("/")
    data = checkout.tree.read([file])[file] if file in checkout.tree.entries() else None
    return in_values(data, file, chart.app_version, templates, written)


def in_values(
    data: bytes | None, file: str, app_version: str | None, templates: Mapping[str, str], written: Reference | None
) -> Reference:
    """The reference in the values.yaml `data`, called `file`; with `written`, only its tag and digest.

    templates: values key → template. Raises ConfigurationError.
    """
    values = {"Chart.appVersion": app_version or ""}
    if data is not None:
        _, root = yaml_reader.parse(data, file)
        values.update({key: scalar.value for key, scalar in edit.scalars(root)})
    if written is None:
        return from_values(templates, values, where=file)
    # The repository is known: the values need to say no more than tag or digest.
    given = from_values({**templates, "": "{repository}"}, {**_only_names(templates, values), "": written.repository})
    if not given.tag and not given.digest:
        keys = ", ".join(templates)
        raise ConfigurationError(f"{keys} have neither tag nor digest of {written.repository}", where=file)
    return written._replace(tag=given.tag, digest=given.digest)


def _only_names(templates: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Values whose templates ask for tag or digest."""
    return {key: values.get(key, "") for key, text in templates.items() if "{tag}" in text or "{digest}" in text}
