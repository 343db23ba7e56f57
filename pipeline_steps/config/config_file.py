"""Find, read, merge and expand pipeline.yaml, the site file and --config overlays into a Config (design.md §6, §17).

Later wins: pipeline.yaml, then the site file (a section it has comes from there alone), then each --config. In a
build of a review, what decides about trust comes from the target branch's pipeline.yaml. What the keys mean does not
belong here, and neither does refusing what a later version implements.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline_steps.ci.build import Build, detect
from pipeline_steps.config import document as documents
from pipeline_steps.config.convert import convert, where
from pipeline_steps.config.document import Document, KeyPath, spelled
from pipeline_steps.config.language import Config, Language, Needy
from pipeline_steps.sources.kinds import is_top, open_source
from pipeline_steps.toolbox import clock, redact
from pipeline_steps.toolbox.errors import ConfigurationError

NAME = "pipeline.yaml"
SITE = "PIPELINE_STEPS_SITE"
#: What a site decides for all its repositories (design.md §17).
OF_SITE = ("channels", "hosts", "clusters", "release", "review", "approvals", "evidence")
#: What a review cannot change for its own build (design.md §17).
OF_TARGET = ("channels", "hosts", "release", "review", "approvals", "evidence")
EXPANDED = ("channels", "hosts", "clusters", "evidence")
#: Sections of named settings, of which a stage may use some without having the variables of all.
_NEEDY = ("hosts", "clusters")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME_DEFAULT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<said>:-(?P<default>.*))?", re.DOTALL)

log = logging.getLogger(__name__)


def load(files: Sequence[Path] = (), *, environ: Mapping[str, str] = os.environ, start: Path | None = None) -> Config:
    """The configuration for a step started in the folder `start` (None: here) with --config `files`.

    pipeline.yaml is the nearest one in `start` or above, up to the top of the checkout, unless a file of that
    name is among `files`. environ: for the site file and ${NAME}.
    Raises ConfigurationError.
    """
    start = start or Path.cwd()
    base, overlays = _base(files, start.resolve())
    site = Path(environ[SITE]).absolute() if environ.get(SITE) else None
    upper = _site(site) if site else None
    document = documents.read(base, _short(base, start))
    document = _of_target(document, base, detect(environ), upper.value if upper else {})
    if upper:
        document = _with_site(document, upper)
    for overlay in overlays:
        document = documents.merge(document, documents.read(overlay, _short(overlay, start)))
    unset = _expand(document, environ)
    language = convert(document, Language)
    _check_durations(document)
    read = (base, *([site] if site else []), *overlays)
    written = {"charts": document.value["charts"], "images": document.value.get("images", {})}
    return _config(language, unset, root=base.parent, files=read, places=_places(document), written=written)


def entries(data: bytes, name: str) -> Document:
    """The sections `charts` and `images` of a pipeline.yaml, checked, nothing expanded.

    name: the file in errors, with its revision. Raises ConfigurationError.
    """
    document = documents.only(documents.parse(data, name), ("charts", "images"))
    convert(document, Language)
    return document


def _config(language: Language, unset: dict[KeyPath, ConfigurationError], **more: Any) -> Config:
    settings = {field: getattr(language, field) for field in language.__struct_fields__}
    for section in _NEEDY:
        missing = {str(path[1]): error for path, error in reversed(unset.items()) if path[0] == section}
        settings[section] = Needy(settings[section], missing)
    channels = language.channels
    if channels.production.evidence is None and language.evidence:
        production = msgspec.structs.replace(channels.production, evidence=(language.evidence,))
        settings["channels"] = msgspec.structs.replace(channels, production=production)
    return Config(**settings, **more)


def _base(files: Sequence[Path], start: Path) -> tuple[Path, list[Path]]:
    """pipeline.yaml and the overlays, absolute."""
    given = [(start / file).absolute() for file in files]
    named = next((file for file in given if file.name == NAME), None)
    base = named or _above(start)
    if base is None:
        looked = "in this folder and above, up to the top of the checkout"
        raise ConfigurationError(
            f"there is no {NAME} {looked}",
            where=str(start),
            advice="pipeline-steps init writes one, --config names one",
        )
    return base, [file for file in given if file != base]


def is_above(start: Path) -> bool:
    """Whether there is a pipeline.yaml in the folder `start` or above, up to the top of the checkout."""
    return _above(start.resolve()) is not None


def _above(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        if (folder / NAME).is_file():
            return folder / NAME
        if is_top(folder):
            return None
    return None


def _short(path: Path, start: Path) -> str:
    """The name for errors: relative to where the user is, when below it."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


def _site(site: Path) -> Document:
    document = documents.read(site, str(site))
    strange = next((key for key in document.value if key not in OF_SITE), None)
    if strange is not None:
        message = f"the site file ({SITE}) cannot say anything about {strange}"
        raise ConfigurationError(
            message, where=where(document, (strange,)), advice=f"it may have: {', '.join(OF_SITE)}"
        )
    return document


def _with_site(document: Document, upper: Document) -> Document:
    replaced = [key for key in upper.value if key in document.value]
    if replaced:
        log.info("%s: %s come from the site file", NAME, ", ".join(replaced))
    return documents.merge(documents.without(document, tuple(upper.value)), upper)


def _of_target(document: Document, base: Path, build: Build, site: Mapping[str, Any]) -> Document:
    """In a review build, the document with the sections of OF_TARGET as the target branch has them."""
    sections = tuple(key for key in OF_TARGET if key not in site)
    if not build.review or not sections:
        return document
    if not build.target:
        if not any(key in document.value for key in sections):
            return document
        message = f"the CI does not say which branch review {build.review} goes to, whose {', '.join(sections)} count"
        raise ConfigurationError(message, where=str(base), advice=f"name them in the site file ({SITE})")
    source = open_source(base.parent)
    folder = base.parent.relative_to(source.root).as_posix()
    tree = source.tree(source.tip(build.target), "" if folder == "." else folder)
    there = Document({}, {})
    if base.name in tree.entries():
        name = f"{base.name}@{build.target}"
        there = documents.only(documents.parse(tree.read([base.name])[base.name], name), sections)
    changed = [key for key in sections if document.value.get(key) != there.value.get(key)]
    if changed:
        log.warning("%s: this review changes %s; that takes effect after the merge", base.name, ", ".join(changed))
    return documents.merge(documents.without(document, sections), there)


def _expand(document: Document, environ: Mapping[str, str]) -> dict[KeyPath, ConfigurationError]:
    """Replace ${NAME} and ${NAME:-default} in place; what is unset in `hosts` and `clusters`, by path."""
    unset: dict[KeyPath, ConfigurationError] = {}
    for path, text in list(documents.texts(document.value)):
        if path[0] not in EXPANDED:
            continue
        secret = path[0] == "hosts" and path[-1] == "password"
        if secret:
            _check_password(document, path, text)
        try:
            value = _VARIABLE.sub(lambda found, at=path: _value(document, at, found[1], environ), text)  # type: ignore[misc]
        except _Unset as error:
            if path[0] not in _NEEDY or len(path) < 2:
                raise error.cause from None
            unset[path] = error.cause
            continue
        if secret and not text.startswith("file:"):
            redact.register(value)
        _put(document.value, path, value)
    return unset


class _Unset(Exception):
    def __init__(self, cause: ConfigurationError) -> None:
        super().__init__(cause)
        self.cause = cause


def _value(document: Document, path: KeyPath, inner: str, environ: Mapping[str, str]) -> str:
    found = _NAME_DEFAULT.fullmatch(inner)
    if not found:
        message = f"{spelled(path)}: ${{{inner}}} is not the name of a variable"
        raise ConfigurationError(message, where=where(document, path), advice="write ${NAME} or ${NAME:-default}")
    value = environ.get(found["name"]) or found["default"]
    if value is None and found["name"] in environ:
        value = ""
    if value is None:
        message = f"{spelled(path)} needs the variable {found['name']}, which is not set"
        advice = f"set it, or give a default: ${{{found['name']}:-…}}"
        raise _Unset(ConfigurationError(message, where=where(document, path), advice=advice))
    return value


def _check_password(document: Document, path: KeyPath, text: str) -> None:
    if re.fullmatch(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", text) or (text.startswith("file:") and len(text) > len("file:")):
        return
    raise ConfigurationError(
        f"{spelled(path)} is a password written into the file",
        where=where(document, path),
        advice='write password: "${NAME}" or password: file:PATH, and change the password: it is in the history now',
    )


def _put(value: Any, path: KeyPath, text: str) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = text


def _check_durations(document: Document) -> None:
    for path, text in documents.texts(document.value):
        is_timeout = path[-1] == "timeout" and "tests" in path
        is_keep = path[:3] == ("channels", "snapshot", "keep") and text != "forever"
        if not is_timeout and not is_keep:
            continue
        try:
            clock.seconds(text)
        except ValueError as error:
            raise ConfigurationError(f"{spelled(path)}: {error}", where=where(document, path)) from error


def _places(document: Document) -> dict[str, str]:
    return {spelled(path): place.where for path, place in document.places.items()}
