"""Find, read, merge and expand pipeline.yaml, the site file and --config overlays into a Config
(docs/explanation/configuration.md).

Later wins: pipeline.yaml, then the site file (a section it has comes from there alone), then each
--config. In a build of a review, what decides about trust comes from the target branch's
pipeline.yaml. What the keys mean does not belong here, and neither does refusing what a later
version implements: where that would block what has nothing to do with it, it is said here.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline_steps.auth.hosts import Host, IncompleteHost
from pipeline_steps.charts.version import parse_loosely
from pipeline_steps.ci.detect import Build, detect
from pipeline_steps.config import document as documents
from pipeline_steps.config import helm_args
from pipeline_steps.config.convert import convert, where
from pipeline_steps.config.document import Document, KeyPath, format_key
from pipeline_steps.config.language import (
    ChartTests,
    Check,
    Config,
    IncompleteSettings,
    Language,
)
from pipeline_steps.sources.kinds import is_top, open_source
from pipeline_steps.toolbox import clock, redact
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

NAME = "pipeline.yaml"
SITE_VARIABLE = "PIPELINE_STEPS_SITE"
#: What decides about trust: a site may say it for all its repositories, a review cannot change it
#: for its own build (docs/explanation/trust.md#what-a-review-cannot-change).
TRUSTED_SECTIONS = (
    "channels",
    "hosts",
    "clusters",
    "secrets",
    "release",
    "review",
    "approvals",
    "evidence",
    "deployments",
)
EXPANDED_SECTIONS = ("channels", "hosts", "clusters", "secrets", "evidence")
#: Sections of named settings, of which a stage may use some without having the variables of all.
_MAY_LACK_VARIABLES = ("hosts", "clusters", "secrets")
#: What is read and has no effect yet, and where a step that it would matter for says nothing of it.
_WITHOUT_EFFECT = (
    ("channels", "snapshot", "keep"),
    ("release", "sign"),
)
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_ONE_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_NAME_DEFAULT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)

log = logging.getLogger(__name__)


def load(
    files: Sequence[Path] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    start: Path | None = None,
) -> Config:
    """The configuration for a step started in the folder `start` (None: here) with --config
    `files`.

    pipeline.yaml is the nearest one in `start` or above, up to the top of the checkout, unless a
    file of that name is among `files`. environ: for the site file and ${NAME}. Raises
    ConfigurationError.
    """
    start = start or Path.cwd()
    base, overlays = _find_files(files, start.resolve())
    site = Path(environ[SITE_VARIABLE]).absolute() if environ.get(SITE_VARIABLE) else None
    site_document = _read_site_file(site) if site else None
    document = documents.read(base, _display_name(base, start))
    build = detect(environ)
    if site and build.review:
        _refuse_site_of_review(site, base)
    # Before the site file and the overlays are merged, which are the CI's own words.
    document = _trusted_from_target_branch(
        document, base, build, site_document.value if site_document else {}
    )
    if site_document:
        document = _merge_site_file(document, site_document)
    for overlay in overlays:
        overlay_document = documents.read(overlay, _display_name(overlay, start))
        if build.review:
            _refuse_trusted(overlay_document, overlay, base)
        document = documents.merge(document, overlay_document)
    unusable = _expand(document, environ)
    language = convert(document, Language)
    _check_durations(document)
    _check_helm_args(language, document)
    _check_kube_versions(language, document)
    if build.review:
        unusable.update(_files_a_review_can_change(language, document, base))
    _warn_about_keys_without_effect(document)
    files_read = (base, *([site] if site else []), *overlays)
    raw = {"charts": document.value["charts"], "images": document.value.get("images", {})}
    return _config(
        language,
        unusable,
        root=base.parent,
        files=files_read,
        locations={format_key(path): place.where for path, place in document.locations.items()},
        raw=raw,
    )


def parse_tests_and_check(data: bytes, name: str) -> tuple[ChartTests, Check]:
    """The sections `tests` and `check` of a pipeline.yaml, nothing expanded. Raises
    ConfigurationError.
    """
    sections = ("charts", "tests", "check")
    language = convert(documents.select_sections(documents.parse(data, name), sections), Language)
    return language.tests, language.check


def parse_approval_rules(data: bytes, name: str) -> tuple[object, object]:
    """`approvals`, and `channels.production.requires`, of a pipeline.yaml, as they are written;
    None where it does not say. Raises ConfigurationError.
    """
    value = documents.parse(data, name).value
    production: object = value
    for key in ("channels", "production"):
        production = production.get(key) if isinstance(production, dict) else None
    return value.get("approvals"), (
        production.get("requires") if isinstance(production, dict) else None
    )


def parse_charts_and_images(data: bytes, name: str) -> Document:
    """The sections `charts` and `images` of a pipeline.yaml, checked, nothing expanded.

    name: the file in errors, with its revision. Raises ConfigurationError.
    """
    document = documents.select_sections(documents.parse(data, name), ("charts", "images"))
    convert(document, Language)
    return document


def _config(language: Language, unusable: dict[KeyPath, ConfigurationError], **more: Any) -> Config:
    """unusable: key path in _MAY_LACK_VARIABLES → the error for whoever uses the setting."""
    settings = {field: getattr(language, field) for field in language.__struct_fields__}
    for section in ("clusters", "secrets"):
        missing = {
            str(path[1]): error for path, error in reversed(unusable.items()) if path[0] == section
        }
        settings[section] = IncompleteSettings(settings[section], missing)
    settings["hosts"] = {name: _host(name, host, unusable) for name, host in language.hosts.items()}
    channels = language.channels
    if channels.production.evidence is None and language.evidence:
        production = msgspec.structs.replace(channels.production, evidence=(language.evidence,))
        settings["channels"] = msgspec.structs.replace(channels, production=production)
    return Config(**settings, **more)


def _host(name: str, host: Host, unusable: Mapping[KeyPath, ConfigurationError]) -> Host:
    missing = {
        ".".join(map(str, path[2:])): error
        for path, error in unusable.items()
        if path[:2] == ("hosts", name)
    }
    return IncompleteHost(**msgspec.structs.asdict(host), unset=missing) if missing else host


def _find_files(files: Sequence[Path], start: Path) -> tuple[Path, list[Path]]:
    """pipeline.yaml and the overlays, absolute."""
    absolute = [(start / file).absolute() for file in files]
    pipeline_yaml = next((file for file in absolute if file.name == NAME), None)
    base = pipeline_yaml or _nearest_pipeline_yaml(start)
    if base is None:
        searched = "in this folder and above, up to the top of the checkout"
        raise ConfigurationError(
            f"there is no {NAME} {searched}",
            where=str(start),
            advice="pipeline-steps init writes one, --config names one",
        )
    return base, [file for file in absolute if file != base]


def has_pipeline_yaml(start: Path) -> bool:
    """Whether there is a pipeline.yaml in the folder `start` or above, up to the top of the
    checkout.
    """
    return _nearest_pipeline_yaml(start.resolve()) is not None


def _nearest_pipeline_yaml(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        try:
            if (folder / NAME).is_file():
                return folder / NAME
        except PermissionError as error:
            raise MachineError(
                "this account may not look into the folder",
                where=str(folder),
                advice="change its mode, or run as its owner",
            ) from error
        # What lies above a checkout is not the project's: on an agent anybody may have put it
        # there.
        if is_top(folder):
            return None
    return None


def _display_name(path: Path, start: Path) -> str:
    """The name for errors: relative to where the user is, when below it."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


def _read_site_file(site: Path) -> Document:
    document = documents.read(site, str(site))
    unknown_section = next((key for key in document.value if key not in TRUSTED_SECTIONS), None)
    if unknown_section is not None:
        message = f"the site file ({SITE_VARIABLE}) must not have the section {unknown_section}"
        raise ConfigurationError(
            message,
            where=where(document, (unknown_section,)),
            advice=f"move it to pipeline.yaml; the site file may have {', '.join(TRUSTED_SECTIONS)}",
        )
    return document


def _merge_site_file(document: Document, site_document: Document) -> Document:
    replaced = [key for key in site_document.value if key in document.value]
    if replaced:
        log.info("%s: %s come from the site file", NAME, ", ".join(replaced))
    return documents.merge(
        documents.drop_sections(document, tuple(site_document.value)), site_document
    )


def _trusted_from_target_branch(
    document: Document, base: Path, build: Build, site: Mapping[str, Any]
) -> Document:
    """In a review build, the document with the trusted sections of the target branch."""
    sections = tuple(key for key in TRUSTED_SECTIONS if key not in site)
    if not build.review or not sections:
        return document
    if not build.target:
        if not any(key in document.value for key in sections):
            return document
        message = (
            f"the CI does not say which branch review {build.review} goes to, whose "
            f"{', '.join(sections)} count"
        )
        raise ConfigurationError(
            message, where=str(base), advice=f"name them in the site file ({SITE_VARIABLE})"
        )
    source = open_source(base.parent)
    folder = base.parent.relative_to(source.root).as_posix()
    tree = source.tree(source.tip(build.target), "" if folder == "." else folder)
    target_document = Document({}, {})
    if base.name in tree.entries():
        name = f"{base.name}@{build.target}"
        target_document = documents.select_sections(
            documents.parse(tree.read([base.name])[base.name], name), sections
        )
    changed = [key for key in sections if document.value.get(key) != target_document.value.get(key)]
    if changed:
        log.warning(
            "%s: this review changes %s; that takes effect after the merge",
            base.name,
            ", ".join(changed),
        )
    return documents.merge(documents.drop_sections(document, sections), target_document)


def _refuse_trusted(overlay: Document, path: Path, base: Path) -> None:
    """Raises ConfigurationError for a section of TRUSTED in an overlay that the source stores: a
    review changes it.
    """
    section = next((key for key in TRUSTED_SECTIONS if key in overlay.value), None)
    if section and _is_tracked(path, base):
        raise ConfigurationError(
            f"{section} is set in an overlay that this review can change",
            where=where(overlay, (section,)),
            advice=f"write it on the target branch, in the site file ({SITE_VARIABLE}), or in an "
            "overlay outside of the source",
        )


def _refuse_site_of_review(site: Path, base: Path) -> None:
    """Raises ConfigurationError for a site file that the source stores: a review changes it."""
    if _is_tracked(site, base):
        raise ConfigurationError(
            f"the site file ({SITE_VARIABLE}) is one that this review can change",
            where=str(site),
            advice="name one outside of the source",
        )


def _files_a_review_can_change(
    language: Language, document: Document, base: Path
) -> dict[KeyPath, ConfigurationError]:
    """The settings that name files which a review can change, by path: a kubeconfig may run
    programs, certificates say whom logins are sent to, and what should hold a secret may be a link
    to any file of the agent."""
    files_by_key: dict[KeyPath, Path] = {
        ("clusters", name, "kubeconfig"): base.parent / Path(cluster.kubeconfig).expanduser()
        for name, cluster in language.clusters.items()
    }
    for path, text in documents.walk_strings(
        {key: document.value.get(key, {}) for key in ("hosts", "secrets")}
    ):
        if text.startswith("file:") and (path[0] == "secrets" or path[-1] == "password"):
            files_by_key[path] = Path.cwd() / text.removeprefix("file:")
        elif path[0] == "hosts" and path[-1] == "ca_file":
            files_by_key[path] = Path.cwd() / text
    return {
        path: ConfigurationError(
            f"{format_key(path)} names a file that this review can change: {file}",
            where=where(document, path),
            advice="name one outside of the source",
        )
        for path, file in files_by_key.items()
        if _is_tracked(file, base)
    }


def _is_tracked(file: Path, base: Path) -> bool:
    """Whether the source of pipeline.yaml (`base`) tracks a file, or a link on the way to it."""
    source = open_source(base.parent)
    root = source.root.resolve()
    # Not resolved: a link in this path may itself be a tracked file.
    as_written = Path(os.path.abspath(file))  # noqa: PTH100
    paths = [
        path.relative_to(root) for path in (as_written, file.resolve()) if path.is_relative_to(root)
    ]
    # Not by the entries of a tree, which leave out the folder that steps write.
    return any(source.is_tracked(path.as_posix()) for path in paths)


def _expand(document: Document, environ: Mapping[str, str]) -> dict[KeyPath, ConfigurationError]:
    """Replace ${NAME} and ${NAME:-default} in place; returns the settings that lack a variable."""
    unset: dict[KeyPath, ConfigurationError] = {}
    for path, text in list(documents.walk_strings(document.value)):
        if path[0] not in EXPANDED_SECTIONS:
            continue
        secret = path[0] == "hosts" and path[-1] == "password"
        if secret:
            _check_password(document, path, text)
        if path[0] == "secrets" and _ONE_VARIABLE.fullmatch(text):
            continue  # whoever builds gets the variable by its name
        try:
            value = _VARIABLE.sub(functools.partial(_variable_value, document, path, environ), text)
        except _UnsetVariable as error:
            if path[0] not in _MAY_LACK_VARIABLES or len(path) < 2:
                raise error.cause from None
            # Not raised: a stage that builds has no kubeconfig, and must be able to read the file.
            unset[path] = error.cause
            if path[0] == "hosts":
                _set_value(document.value, path, "")  # what is written there must never be sent
            continue
        # After expanding: ${NAME:-file:/x} may stand for a file as well.
        if path[0] == "secrets":
            _check_secret(document, path, value)
        if secret and not text.startswith("file:"):
            # From here on no log, error or record shows it.
            redact.register(value)
        _set_value(document.value, path, value)
    return unset


class _UnsetVariable(Exception):
    def __init__(self, cause: ConfigurationError) -> None:
        super().__init__(cause)
        self.cause = cause


def _variable_value(
    document: Document, path: KeyPath, environ: Mapping[str, str], variable: re.Match[str]
) -> str:
    """What stands for one ${NAME} or ${NAME:-default} at a key."""
    inner = variable[1]
    name_and_default = _NAME_DEFAULT.fullmatch(inner)
    if not name_and_default:
        message = f"{format_key(path)}: ${{{inner}}} is not the name of a variable"
        raise ConfigurationError(
            message, where=where(document, path), advice="write ${NAME} or ${NAME:-default}"
        )
    # As a shell has it: `:-` gives its default for an empty variable, too; without a default an
    # empty one counts as set.
    value = environ.get(name_and_default["name"]) or name_and_default["default"]
    if value is None and name_and_default["name"] in environ:
        value = ""
    if value is None:
        message = (
            f"{format_key(path)} needs the variable {name_and_default['name']}, which is not set"
        )
        advice = f"set it, or give a default: ${{{name_and_default['name']}:-…}}"
        raise _UnsetVariable(
            ConfigurationError(message, where=where(document, path), advice=advice)
        )
    return value


def _check_password(document: Document, path: KeyPath, text: str) -> None:
    if _ONE_VARIABLE.fullmatch(text) or (text.startswith("file:") and len(text) > len("file:")):
        return
    raise ConfigurationError(
        f"{format_key(path)} is a password written into the file",
        where=where(document, path),
        advice='write password: "${NAME}" or password: file:PATH, and change the password: it is in the history now',
    )


def _check_secret(document: Document, path: KeyPath, text: str) -> None:
    if not text.startswith("file:/") or text.endswith("/"):
        raise ConfigurationError(
            f"{format_key(path)} is neither a variable nor a file with an absolute path",
            where=where(document, path),
            advice='write "${NAME}" or "file:/PATH"; if it is a secret, change it: it is in the history now',
        )


def _set_value(value: Any, path: KeyPath, text: str) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = text


def _check_durations(document: Document) -> None:
    for path, text in documents.walk_strings(document.value):
        is_timeout = path[-1] == "timeout" and "tests" in path
        is_keep = path[:3] == ("channels", "snapshot", "keep") and text != "forever"
        if not is_timeout and not is_keep:
            continue
        try:
            clock.seconds(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{format_key(path)}: {error}",
                where=where(document, path),
                advice=clock.DURATION_ADVICE,
            ) from error


def _check_helm_args(language: Language, document: Document) -> None:
    tests_by_key: dict[KeyPath, ChartTests | None] = {("tests",): language.tests}
    tests_by_key.update(
        {("charts", number, "tests"): entry.tests for number, entry in enumerate(language.charts)}
    )
    for path, tests in tests_by_key.items():
        words = (tests.helm_args if tests else None) or ()
        locations = [where(document, (*path, "helm_args", n)) for n in range(len(words))]
        helm_args.parse(words, locations.__getitem__)


def _check_kube_versions(language: Language, document: Document) -> None:
    for number, version in enumerate(language.check.kube_versions):
        if parse_loosely(version) is None:
            path: KeyPath = ("check", "kube_versions", number)
            raise ConfigurationError(
                f"{format_key(path)}: {version!r} is not a version of Kubernetes",
                where=where(document, path),
                advice="write it like 1.34.0",
            )


def _warn_about_keys_without_effect(document: Document) -> None:
    for path in _WITHOUT_EFFECT:
        value: Any = document.value
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value:
            _warn_once(f"{where(document, path)}: {format_key(path)} has no effect yet")


@functools.cache
def _warn_once(message: str) -> None:
    """Say it once in a process, which may read the configuration for several steps."""
    log.warning("%s", message)
