"""Where image references stand in a chart: from the templates in pipeline.yaml to edits of its files.

Pure; what an image's reference is comes from records, by the steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pipeline_steps.charts.archive import metadata_of
from pipeline_steps.charts.content import chart_yaml
from pipeline_steps.charts.documents import nearest
from pipeline_steps.charts.paths import inside
from pipeline_steps.core.errors import ConfigurationError

Edits = dict[str, dict[str, str]]
#: image name → values key (or Chart.appVersion) → template.
Templates = Mapping[str, Mapping[str, str]]
PARTS = ("registry", "path", "repository", "tag", "digest", "reference")
_CHART_KEYS = {"Chart.appVersion": "appVersion"}


def parts(host: str, path: str, tag: str | None, digest: str) -> dict[str, str]:
    """What templates may use of a reference.

    >>> parts("r.example.com", "team/web", "1.0", "sha256:ab")["reference"]
    'r.example.com/team/web:1.0@sha256:ab'
    """
    repository = f"{host}/{path}"
    reference = f"{repository}:{tag}@{digest}" if tag else f"{repository}@{digest}"
    values = (host, path, repository, tag or "", digest, reference)
    return dict(zip(PARTS, values, strict=True))


def filled(template: str, reference: Mapping[str, str], where: str) -> str:
    """A template with the parts of a reference put in. Raises ConfigurationError for an unknown part.

    >>> filled("{tag}@{digest}", parts("h", "p", "1.0", "sha256:ab"), "")
    '1.0@sha256:ab'
    """

    def one(found: re.Match[str]) -> str:
        if found[1] not in reference:
            raise ConfigurationError(
                f"{{{found[1]}}} in {template!r} is unknown", where=where, advice=nearest(found[1], PARTS)
            )
        return reference[found[1]]

    return re.sub(r"\{([^{}]*)\}", one, template)


def places(files: Mapping[str, bytes], folder: str) -> Iterator[tuple[str, str]]:
    """Prefix in the archive ("" or "charts/NAME/…") and source folder of a packed chart and its file:// subcharts."""
    yield "", folder
    for dependency in metadata_of(files, folder).dependencies:
        if dependency.local:
            prefix = f"charts/{dependency.name}/"
            below = {path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)}
            source = inside(dependency.folder, base=folder, where=chart_yaml(folder))
            for inner, place in places(below, source):
                yield f"{prefix}{inner}", place


def edits(
    files: Mapping[str, bytes],
    folder: str,
    templates: Mapping[str, Templates],
    references: Mapping[str, Mapping[str, str]],
) -> Edits:
    """What to set in a packed chart so that it names these images; for `edit.apply`.

    templates: source folder → its entry's `images`. references: image name → the parts of its reference.
    """
    found: Edits = {}
    for prefix, place in places(files, folder):
        for image, keys in templates.get(place, {}).items():
            for key, template in keys.items():
                where = f"{place}: images.{image}.{key}"
                file = "Chart.yaml" if key in _CHART_KEYS else "values.yaml"
                value = filled(template, references[image], where)
                if value == "" and template:
                    raise ConfigurationError(
                        f"{template!r} is empty: the image has no tag", where=where, advice="use {digest}"
                    )
                found.setdefault(f"{prefix}{file}", {})[_CHART_KEYS.get(key, key)] = value
    return found
