"""`pipeline-steps init`: writes a first pipeline.yaml for the charts found here.

    cd my-repository && pipeline-steps init

Looks for Chart.yaml and Dockerfile below this folder, and writes what it can tell from them, with
comments for the rest. Never overwrites: exits with 5 when there is a pipeline.yaml already, with 2
when there is no chart.
"""

from __future__ import annotations

import json
import logging
import re
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline_steps.charts.paths import glob_pattern, is_glob
from pipeline_steps.charts.version import Version, parse_loosely
from pipeline_steps.cli.command import Command, run_command
from pipeline_steps.cli.options import QUIET, VERBOSE, Option
from pipeline_steps.config.config_file import NAME
from pipeline_steps.toolbox import files, yaml_reader
from pipeline_steps.toolbox.errors import Conflict, UsageError

COMMAND = Command(
    "init", __doc__, (Option("plan", "flag", "print it to stdout; write nothing"), QUIET, VERBOSE)
)
SKIPPED = frozenset({"node_modules", "vendor", "templates", "testdata", "__pycache__"})
#: Folders whose name says nothing about the image that is built in them.
GENERIC = frozenset({"app", "apps", "build", "docker", "image", "images", "rootfs", "src"})
#: Of them, what an image may be called in values all the same.
IMAGE_NAMES = frozenset({"app", "apps"})
#: A Dockerfile with the name of what it builds; the file beside the others that builds just one.
NAMED = re.compile(r"dockerfile[.-](?P<behind>[\w.-]+)|(?P<before>[\w.-]+)\.dockerfile", re.I)
_COPY = re.compile(r"^[ \t]*(?:COPY|ADD)[ \t]+([^\n]*)", re.I | re.M)
WORDS = ("true", "false", "yes", "no", "on", "off", "null")
#: How deep below this folder charts and Dockerfiles are looked for.
DEPTH = 5
log = logging.getLogger("pipeline_steps.commands.init")  # __name__ is __main__ under -m

#: Image name → values key → template, as in `charts[].images`.
ImageKeys = Mapping[str, Mapping[str, str]]
#: How many folders of one chart's name are listed.
_SHOWN = 3


class ChartFolder(NamedTuple):
    """A folder with a Chart.yaml, and what pipeline.yaml must say of it.

    path: below pipeline.yaml, "." for its own folder. paths: files outside of the folder that links
    in it lead to. images: those built here that its values name. others: (repository, values key →
    template) of the other images there.
    """

    path: str
    paths: tuple[str, ...]
    images: ImageKeys
    others: tuple[tuple[str, Mapping[str, str]], ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 2 when there is no chart, 5 when there is a pipeline.yaml."""
    return run_command(COMMAND, init, argv)


def init(arguments: Namespace) -> int:
    """Write or print the file. Raises UsageError, Conflict."""
    text = first_configuration(Path.cwd())
    if arguments.plan:
        print(text, end="")
        return 0
    target = Path.cwd() / NAME
    # Also a link that leads nowhere: writing through it would make a file elsewhere.
    if target.exists() or target.is_symlink():
        raise Conflict(
            f"there is a {NAME} already, and init does not overwrite it",
            where=str(target),
            advice="run init --plan: it prints what init would write",
        )
    files.write(target, text.encode(), mode=0o644)
    log.info("%s written: set the channels, commit it, then: pipeline-steps doctor", NAME)
    return 0


def first_configuration(root: Path) -> str:
    """The text of a first pipeline.yaml for the charts below `root`.

    Raises UsageError when there is no chart.
    """
    everywhere = sorted(find_files(root, "Chart.yaml", 0))
    folders, notes = _chart_folders(root, everywhere)
    named = {
        repository.rpartition("/")[2]
        for folder in folders
        for repository, _ in image_references(_values(folder), "")
    }
    # A Dockerfile alone says no name: an image is mapped only where values and a folder agree.
    contexts = image_names(root, sorted(find_files(root, "Dockerfile", 0)), named)
    dockerfiles, unknown = named_dockerfiles(root, named.difference(contexts))
    contexts |= {name: build.context for name, build in dockerfiles.items()}
    charts = [
        read_chart(root, folder, contexts_for(root, folder, everywhere, contexts))
        for folder in folders
    ]
    used = {name: contexts[name] for chart in charts for name in chart.images}
    unused = {name: context for name, context in contexts.items() if name not in used}
    left_out = [_relative(root, folder) for folder in everywhere if folder not in folders]
    lines = [
        "# What pipeline_steps needs to know about this repository.",
        "charts:",
        *notes,
        *chart_lines(charts, left_out, show_others=bool(unused)),
        *_images_section(used, unused, dockerfiles),
        *(
            f"# {path} has a name that values have; declare it below `images:` with its `context`, "
            "which what it copies does not tell."
            for path in unknown
        ),
    ]
    return "\n".join([*lines, *CHANNELS.splitlines()]) + "\n"


def _chart_folders(root: Path, everywhere: list[Path]) -> tuple[list[Path], list[str]]:
    """The folders to list, of all that have a Chart.yaml, and notes on those that are left out.

    Raises UsageError when none can be listed.
    """
    if not everywhere:
        raise UsageError(
            f"there is no Chart.yaml in {root} or below",
            advice="go to the folder that holds your charts",
        )
    patterns = [folder for folder in everywhere if _is_pattern(_relative(root, folder))]
    if patterns == everywhere:
        raise UsageError(
            f"all charts here are in folders whose names are patterns, as {patterns[0]}",
            advice="write pipeline.yaml where the charts are that you release",
        )
    folders, notes = one_folder_a_name(
        root, [folder for folder in everywhere if folder not in patterns]
    )
    notes += [
        f"  # {_relative(root, folder)!r} is left out, its name is a pattern for `charts`: a template?"
        for folder in patterns
    ]
    return folders, notes


def _images_section(
    used: Mapping[str, str], unused: Mapping[str, str], dockerfiles: Mapping[str, Build]
) -> list[str]:
    """The lines of `images`. Both: image name → context; those that no chart's values name stand
    there as a comment.
    """
    lines: list[str] = []
    if used:
        lines += ["images:", *image_lines(used, "  ", dockerfiles)]
    if unused:
        lines += [
            "# Dockerfiles here that no chart's values name. To release such an image with "
            "a chart,",
            "# declare it below `images:` and map it below the chart's `images:`.",
            *image_lines(unused, "#   ", dockerfiles),
        ]
    return lines


CHANNELS = """\
# Where artifacts go: snapshots of every build, and releases. Put your own registry here, or into the environment.
channels:
  snapshot:
    images: "${SNAPSHOT_REGISTRY:-registry.example.com/snapshot}"
    charts: "oci://${SNAPSHOT_REGISTRY:-registry.example.com/snapshot}/charts"
  production:
    images: "${PRODUCTION_REGISTRY:-registry.example.com/production}"
    charts: ["oci://${PRODUCTION_REGISTRY:-registry.example.com/production}/charts"]
# The clusters that integration_test may use; `pipeline-steps sandbox up` gives you one on your machine.
clusters:
  ci: {kubeconfig: "${CI_KUBECONFIG:-kubeconfig}"}
# Where the records of CI builds are kept, for other agents and for laptops: a registry path or a shared folder.
# evidence: "oci://${SNAPSHOT_REGISTRY:-registry.example.com/snapshot}/evidence"
# Logins that docker's and helm's own configuration does not hold, by host; a password is never written here.
# hosts:
#   registry.example.com: {username: ci, password: "${REGISTRY_PASSWORD}"}
"""


def find_files(folder: Path, name: str, depth: int) -> Iterator[Path]:
    """Folders with a file `name`; a chart's own subcharts and templates are not looked into, nor
    what else lies in a chart, but for one at the top of the repository.
    """
    # A chart below a chart is its subchart, and has no entry of its own.
    for place, names in _folders(folder, depth, below_charts=name != "Chart.yaml"):
        if name in names:
            yield place


def _folders(
    folder: Path, depth: int = 0, *, below_charts: bool = True
) -> Iterator[tuple[Path, frozenset[str]]]:
    """Folders that are looked into, and the names of their files."""
    names = frozenset(entry.name for entry in folder.iterdir() if entry.is_file())
    is_chart = "Chart.yaml" in names
    yield folder, names
    if depth == DEPTH or (is_chart and not below_charts and depth):
        return
    for entry in folder.iterdir():
        skipped = entry.name in SKIPPED or entry.name.startswith(".") or entry.is_symlink()
        if entry.is_dir() and not skipped and not (is_chart and entry.name == "charts"):
            yield from _folders(entry, depth + 1, below_charts=below_charts)


class Build(NamedTuple):
    """context: below pipeline.yaml. dockerfile: below the context."""

    context: str
    dockerfile: str


def named_dockerfiles(
    root: Path, value_names: Set[str]
) -> tuple[dict[str, Build], tuple[str, ...]]:
    """Image name → how it is built, of the Dockerfiles with the name of an image in values, like
    Dockerfile.web; and the paths of those whose context what they copy does not tell.
    """
    by_name: dict[str, list[Path]] = {}
    for folder, names in _folders(root):
        for file in names:
            match = NAMED.fullmatch(file)
            name = ((match["behind"] or match["before"]) if match else "").lower()
            if name in value_names:
                by_name.setdefault(name, []).append(folder / file)
    builds, unknown = {}, []
    for name, dockerfiles in sorted(by_name.items()):
        contexts = [
            context
            for context in dict.fromkeys((dockerfiles[0].parent, root))
            if _has_what_it_copies(dockerfiles[0], context)
        ]
        if len(dockerfiles) == 1 and len(contexts) == 1:
            context = contexts[0]
            builds[name] = Build(_relative(root, context), _relative(context, dockerfiles[0]))
        else:
            unknown += [_relative(root, dockerfile) for dockerfile in sorted(dockerfiles)]
    return builds, tuple(unknown)


def _has_what_it_copies(dockerfile: Path, context: Path) -> bool:
    """Whether a folder has all that a Dockerfile copies by a plain name. One that copies nothing
    builds alike in any folder: its own counts.
    """
    text = dockerfile.read_text(errors="replace").replace("\\\n", " ")
    sources: list[str] = []
    for arguments in _COPY.findall(text):
        flags = [word for word in arguments.split() if word.startswith("--")]
        words = [word.strip("[]\",'") for word in arguments.split() if word not in flags]
        if not any(flag.startswith("--from=") for flag in flags):
            sources += words[:-1]
    plain = [source.strip("/") for source in sources if not re.search(r"[$<]|://", source)]
    if not plain:
        return context == dockerfile.parent
    return all(any(context.glob(source)) for source in plain if source not in ("", "."))


def _is_pattern(path: str) -> bool:
    """Whether a path cannot be written into `charts`, where it would fit other folders, or none."""
    return is_glob(path) or "{" in path


def image_names(
    root: Path, folders: Sequence[Path], value_names: Set[str] = frozenset()
) -> dict[str, str]:
    """Name → context of the images built in `folders`: the last part of the path that says
    something, or several of them where two images would have one name.

    value_names: last parts of the names of images in values; such a part says something.
    """
    names: dict[str, str] = {}
    for folder in folders:
        parts = [
            part
            for part in folder.relative_to(root).parts
            if part.lower() not in GENERIC or part.lower() in IMAGE_NAMES & value_names
        ]
        parts = [part.lower() for part in parts] or [root.name.lower()]
        length = 1
        while "-".join(parts[-length:]) in names and length < len(parts):
            length += 1
        name = "-".join(parts[-length:])
        if name in names:
            name = "-".join(folder.relative_to(root).parts).lower()
        names[name] = _relative(root, folder)
    return names


def one_folder_a_name(root: Path, folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """One folder for each chart's name, that of the highest version, and comments about the others:
    pipeline.yaml may hold a name once.
    """
    by_name: dict[str, list[Path]] = {}
    versions: dict[Path, Version] = {}
    for folder in folders:
        metadata = _yaml_file(folder / "Chart.yaml")
        name, version = (
            str(metadata.get(key, "")) if isinstance(metadata, dict) else ""
            for key in ("name", "version")
        )
        by_name.setdefault(name or folder.name, []).append(folder)
        versions[folder] = parse_loosely(version) or Version(0, 0, 0, ("0",))
    chosen, notes = [], []
    for name, places in by_name.items():
        best = max(places, key=lambda place: versions[place].precedence)
        chosen.append(best)
        others = [_relative(root, place) for place in places if place != best]
        if others:
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            notes += [
                f"  # {len(places)} folders have a chart {name}; this is the one with the highest "
                "version. Not here:",
                f"  # {', '.join(others[:_SHOWN])}{more}",
            ]
    return sorted(chosen), notes


def contexts_for(
    root: Path, folder: Path, charts: Sequence[Path], contexts: Mapping[str, str]
) -> list[str]:
    """The names of the images that may be a chart's: not those built inside of another one."""
    others = [chart for chart in charts if chart != folder and chart not in folder.parents]
    return [
        name
        for name, context in contexts.items()
        if not any((root / context).is_relative_to(chart) for chart in others)
    ]


def read_chart(root: Path, folder: Path, image_contexts: Collection[str]) -> ChartFolder:
    """What a chart's folder says: its links out of the folder, and the images in its values."""
    images: dict[str, Mapping[str, str]] = {}
    others: list[tuple[str, Mapping[str, str]]] = []
    for repository, keys in image_references(_values(folder), ""):
        name = repository.rpartition("/")[2]
        if name in image_contexts and name not in images:
            images[name] = keys
        else:
            others.append((repository, keys))
    return ChartFolder(_relative(root, folder), linked_paths(root, folder), images, tuple(others))


def image_references(values: object, place: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(repository, values key → template) of everything in values that looks like an image; the
    repository is "" where the chart takes the registry from elsewhere.

    That is a mapping with the repository and one of `tag` and `digest`, or a text below `image`.
    """
    if not isinstance(values, dict):
        return
    key = _repository_key(values, place)
    parts = [key for key in ("tag", "digest") if key in values]
    if place and key and parts:
        templates = {f"{place}.{key}": "{repository}"}
        templates |= {f"{place}.{key}": f"{{{key}}}" for key in parts}
        if "registry" in values:
            templates |= {f"{place}.registry": "{registry}", f"{place}.{key}": "{path}"}
        host, slash, _ = values[key].partition("/")
        whole = key == "repository" or "registry" in values or (slash and re.search("[.:]", host))
        yield values[key] if whole else "", templates
        return
    for key, value in values.items():
        if not isinstance(key, str) or "." in key:
            continue
        inner = f"{place}.{key}" if place else key
        if key == "image" and isinstance(value, str) and value:
            yield value.partition("@")[0].rpartition(":")[0] or value, {inner: "{reference}"}
        yield from image_references(value, inner)


def _repository_key(values: Mapping[Any, object], place: str) -> str:
    """The key of a mapping in values that has the repository of an image, "" without any."""
    keys = ["repository", "image", *(["name"] if place.lower().endswith("image") else [])]
    texts = {key: text for key in keys if isinstance(text := values.get(key), str) and text}
    # With a tag in it, the text is a whole reference.
    return next((key for key, text in texts.items() if ":" not in text.rpartition("/")[2]), "")


def linked_paths(root: Path, folder: Path) -> tuple[str, ...]:
    """What links of a chart lead to outside of its folder, below `root`; snapshot packs their
    content.
    """
    inside, top = folder.resolve(), root.resolve()
    targets = {entry.resolve() for entry in folder.rglob("*") if entry.is_symlink()}
    return tuple(
        sorted(
            target.relative_to(top).as_posix()
            for target in targets
            if target.is_relative_to(top) and not target.is_relative_to(inside)
        )
    )


def chart_lines(
    charts: Sequence[ChartFolder], left_out: Sequence[str], *, show_others: bool
) -> list[str]:
    """The entries of `charts`. left_out: folders of charts that no entry may fit. show_others: with
    comments that say how other images in values are mapped.
    """
    lines: list[str] = []
    paths = chart_paths([chart.path for chart in charts], left_out)
    for path in paths:
        lines.append(f"  - path: {_yaml_scalar(path)}")
        matching = [chart for chart in charts if glob_pattern(path).fullmatch(chart.path)]
        lines += chart_settings(matching[0]) if path == matching[0].path else []
        lines += unmapped_images(path, matching) if show_others else []
    for chart in charts:
        if chart.path not in paths and (settings := chart_settings(chart)):
            lines += [f"  - path: {_yaml_scalar(chart.path)}", *settings]
    return lines


def chart_paths(charts: Sequence[str], left_out: Sequence[str] = ()) -> list[str]:
    """Paths for `charts`, a glob where several charts lie side by side: it fits later ones, too.

    left_out: folders that no glob may fit.
    """
    siblings: dict[str, list[str]] = {}
    for path in charts:
        siblings.setdefault(path.rpartition("/")[0], []).append(path)
    result = []
    for parent, paths in siblings.items():
        glob = f"{parent}/*" if parent else "*"
        fits_others = any(glob_pattern(glob).fullmatch(path) for path in left_out)
        if (len(paths) > 1 or parent.endswith("charts")) and not fits_others:
            result.append(glob)
        else:
            result += paths
    return result


def chart_settings(chart: ChartFolder) -> list[str]:
    """What the entry of a chart says below its path."""
    lines = [f"    paths: [{', '.join(map(_yaml_scalar, chart.paths))}]"] if chart.paths else []
    lines += ["    images:"] if chart.images else []
    return lines + [
        f"      {_yaml_scalar(name)}: {_mapping(keys)}" for name, keys in chart.images.items()
    ]


def unmapped_images(path: str, charts: Iterable[ChartFolder]) -> list[str]:
    """Comments that show how the other images in the values of these charts are mapped, each with
    what the values name now.
    """
    lines = []
    for chart in charts:
        for repository, keys in chart.others:
            images = f"images: {{NAME: {_mapping(keys)}}}"
            if chart.path != path:
                images = f"- {{path: {_yaml_scalar(chart.path)}, {images}}}"
            lines.append(f"    # {images}  # {repository}".rstrip(" #"))
    return lines


def image_lines(
    images: Mapping[str, str], indent: str, dockerfiles: Mapping[str, Build]
) -> list[str]:
    """Entries of `images`. images: name → context. dockerfiles: of those with another name."""
    lines = []
    for name, context in sorted(images.items()):
        fields = [f"context: {_yaml_scalar(context)}"]
        if name in dockerfiles:
            fields.append(f"dockerfile: {_yaml_scalar(dockerfiles[name].dockerfile)}")
        lines.append(f"{indent}{_yaml_scalar(name)}: {{{', '.join(fields)}}}")
    return lines


def _values(folder: Path) -> object:
    return _yaml_file(folder / "values.yaml")


def _yaml_file(path: Path) -> object:
    try:
        return yaml_reader.load_bounded(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return None  # a chart need not have values; check says what is wrong with broken files


def _mapping(keys: Mapping[str, str]) -> str:
    return (
        "{"
        + ", ".join(f'{_yaml_scalar(key)}: "{template}"' for key, template in keys.items())
        + "}"
    )


def _relative(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _yaml_scalar(value: str) -> str:
    """A YAML scalar: plain where that is safe, else in double quotes."""
    plain = value and value[0].isalpha() and all(char.isalnum() or char in "-_./" for char in value)
    return value if plain and value.lower() not in WORDS else json.dumps(value)


if __name__ == "__main__":
    raise SystemExit(main())
