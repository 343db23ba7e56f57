"""Where a chart names its images: from the templates in pipeline.yaml to edits of its files.

Pure. The steps know from records what an image's reference is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pipeline_steps.charts.archive import metadata_of
from pipeline_steps.charts.paths import chart_yaml, relative_path
from pipeline_steps.toolbox.errors import ConfigurationError

Edits = dict[str, dict[str, str]]
#: image name → values key (or Chart.appVersion) → template.
Templates = Mapping[str, Mapping[str, str]]
#: (image name, template, where it stands) → the text to write; raises ConfigurationError for a bad
#: template.
Fill = Callable[[str, str, str], str]
#: Keys that stand for a value of Chart.yaml, not of values.yaml.
CHART_KEYS = {"Chart.appVersion": "appVersion"}


def chart_folders(files: Mapping[str, bytes], folder: str) -> Iterator[tuple[str, str]]:
    """Prefix in the archive ("" or "charts/NAME/…") and source folder of a chart and its file://
    subcharts.
    """
    yield "", folder
    for dependency in metadata_of(files, folder).dependencies:
        if dependency.local:
            prefix = f"charts/{dependency.name}/"
            subchart_files = {
                path.removeprefix(prefix): data
                for path, data in files.items()
                if path.startswith(prefix)
            }
            source = relative_path(dependency.folder, base=folder, where=chart_yaml(folder))
            for inner_prefix, inner_folder in chart_folders(subchart_files, source):
                yield f"{prefix}{inner_prefix}", inner_folder


def refuse_shared_keys(images: Templates, where: str) -> None:
    """Refuse that two images set the same values key of a chart: the last one would win.

    Only {registry} may be shared, because many charts have one key for the registry of all their
    images. Raises ConfigurationError.

    >>> shared = {"global.registry": "{registry}"}
    >>> refuse_shared_keys({"a": shared, "b": shared}, "charts/web")
    """
    image_of_key: dict[str, str] = {}
    for image, keys in images.items():
        for key, template in keys.items():
            first_image = image_of_key.setdefault(key, image)
            if first_image != image and not images[first_image][key] == template == "{registry}":
                raise ConfigurationError(
                    f"the images {first_image} and {image} both set {key}",
                    where=where,
                    advice="give each image its own keys, or remove the keys of one of them here",
                )


def edits(
    files: Mapping[str, bytes], folder: str, templates: Mapping[str, Templates], fill: Fill
) -> Edits:
    """The edits (for `edit.apply`) that make a packed chart name these images.

    Args:
        files: of the package.
        folder: source folder of the chart.
        templates: source folder → `images` of its entry in pipeline.yaml.
        fill: resolves a template.

    Raises:
        ConfigurationError: two images set one key.
    """
    edits_by_file: Edits = {}
    for source_folder, images in templates.items():
        refuse_shared_keys(images, source_folder)
    for prefix, source_folder in chart_folders(files, folder):
        for image, keys in templates.get(source_folder, {}).items():
            for key, template in keys.items():
                file = "Chart.yaml" if key in CHART_KEYS else "values.yaml"
                value = fill(image, template, f"{source_folder}: images.{image}.{key}")
                edits_by_file.setdefault(f"{prefix}{file}", {})[CHART_KEYS.get(key, key)] = value
    return edits_by_file
