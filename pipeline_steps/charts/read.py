"""Chart.yaml as typed values: names, versions, dependencies, checked at least as strictly as helm
does.

Editing does not belong here (`edit`), nor do archives (`archive`).
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

from pipeline_steps.charts import version
from pipeline_steps.charts.metadata import FIELDS
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, PipelineError
from pipeline_steps.toolbox.wording import with_article
from pipeline_steps.toolbox.yaml_reader import Mapping, Node, Scalar, Sequence

#: Source: helm's own rule for chart names, pkg/lint/rules (RFC 1123 label).
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
#: Source: helm, Dependency.Validate ("aliasNameFormat").
ALIAS = re.compile(r"[a-zA-Z0-9_-]+")
#: Of charts that exist: what is safe in a file's name and a URL.
_READABLE_NAME = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")
#: The file that charts of apiVersion v1 have their dependencies in; helm reads it beside v2, too.
REQUIREMENTS = "requirements.yaml"
#: The lock of apiVersion v1, and that of v2.
LOCKS = ("requirements.lock", "Chart.lock")
LONGEST_NAME = 250
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `dependencies`. version: a version or a range, as written; repository: "" when
    vendored. digest: of its archive, in locks that have it for each dependency (helm/helm#32243).
    """

    name: str
    version: str = ""
    repository: str = ""
    alias: str | None = None
    condition: str | None = None
    digest: str = ""

    @property
    def local(self) -> bool:
        """Whether it is a folder of this source (file://…)."""
        return self.repository.startswith("file://")

    @property
    def folder(self) -> str:
        """The path after file://, relative to the chart."""
        return self.repository.removeprefix("file://")


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed Chart.yaml.

    fields: everything in it, unknown keys too, as texts, lists, dicts and booleans.
    """

    name: str
    version: str
    api_version: str
    app_version: str | None = None
    type: str = "application"
    description: str | None = None
    dependencies: tuple[Dependency, ...] = ()
    fields: dict[str, Any] = {}


def read_metadata(
    data: bytes,
    where: str,
    *,
    requirements: bytes | None = None,
    strict: bool = True,
    error: type[PipelineError] = ConfigurationError,
) -> Metadata:
    """Parse a Chart.yaml.

    Args:
        where: names the file in errors, which also name the line.
        requirements: the requirements.yaml beside it, None where there is none. Whatever the
            apiVersion, helm reads it over Chart.yaml (pkg/chart/v2/loader, LoadFiles).
        strict: as charts are made here. Charts of others are read as helm reads them: without
            apiVersion (v1), with a key twice (the last counts), versions like v1.2.0, names with
            other signs, unquoted numbers where helm wants text.
        error: class of the error to raise.
    """
    return _read_metadata(data, where, requirements, strict, error)  # type: ignore[arg-type]  # a class can be hashed


@functools.lru_cache(
    maxsize=16
)  # a chart that is gathered and packed is read several times in a row
def _read_metadata(
    data: bytes, where: str, requirements: bytes | None, strict: bool, error: type[PipelineError]
) -> Metadata:
    _, root = yaml_reader.parse(data, where, error=error, duplicates=not strict)
    if not isinstance(root, Mapping):
        raise error(
            "Chart.yaml is not a mapping of keys", where=where, advice="begin with apiVersion: v2"
        )
    place, over = where, None
    if requirements is not None:
        place = f"{where.removesuffix('Chart.yaml')}{REQUIREMENTS}"
        over = _requirements(requirements, place, strict, error)
        root = root._replace(items=[*_others(root, over), *over.items])
        place = place if over.get("dependencies") else where
    reader = _Fields(root, where, strict, error)
    name, chart_version = reader.required("name"), reader.required("version")
    chart_type = reader.text("type") or "application"
    # helm allows more characters; names become parts of Kubernetes names and registry paths.
    allowed = NAME if strict else _READABLE_NAME
    if len(name) > LONGEST_NAME or not allowed.fullmatch(name):
        raise reader.fail(
            "name", f"chart name {name!r} is not allowed", "use lower-case letters, digits and -"
        )
    if version.parse(chart_version) is None and (
        strict or version.parse_loosely(chart_version) is None
    ):
        advice = "write three numbers like 1.2.3, without a leading v or zeros"
        raise reader.fail("version", f"version {chart_version!r} is not a SemVer 2 version", advice)
    api_version = reader.required("apiVersion") if strict else reader.text("apiVersion") or "v1"
    if api_version not in ("v1", "v2"):
        raise reader.fail("apiVersion", f"apiVersion {api_version!r} is not v1 or v2", "write v2")
    if chart_type not in ("application", "library"):
        raise reader.fail(
            "type", f"type {chart_type!r} is neither application nor library", "write application"
        )
    reader.check_other_keys()
    return Metadata(
        name=name,
        version=chart_version,
        api_version=api_version,
        app_version=reader.text("appVersion"),
        type=chart_type,
        description=reader.text("description"),
        dependencies=_dependencies(root.get("dependencies"), place, strict, error),
        fields=_without_null(yaml_reader.plain_value(root)),
    )


def _requirements(data: bytes, where: str, strict: bool, error: type[PipelineError]) -> Mapping:
    """The keys of a requirements.yaml that helm reads over those of Chart.yaml."""
    _, root = yaml_reader.parse(data, where, error=error, duplicates=not strict)
    if _is_null(root):
        return Mapping([], 0, False, None)
    if not isinstance(root, Mapping):
        raise error(
            "requirements.yaml is not a mapping of keys",
            where=where,
            advice="begin with dependencies:",
        )
    items = [(key, node) for key, node in root.items if key.value in FIELDS]
    for key, _ in items:
        if strict and key.value != "dependencies":
            raise error(
                f"requirements.yaml sets {key.value}, which helm reads over that of Chart.yaml",
                where=f"{where}:{key.line + 1}",
                advice="remove it there",
            )
    return root._replace(items=items)


def _others(root: Mapping, over: Mapping) -> list[tuple[Scalar, Node]]:
    """The items of `root` whose keys `over` does not have."""
    return [(key, node) for key, node in root.items if key.value not in over.keys]


def linked_file_error(where: str) -> ConfigurationError:
    """The refusal of a Chart.yaml or requirements.yaml that is a symbolic link: what it says would
    change with a file that is not the chart's.
    """
    return ConfigurationError(
        "the file is a symbolic link, which is followed for other files of a chart only",
        where=where,
        advice="put the file itself there",
    )


def written_name(data: bytes) -> tuple[str, str]:
    r"""Name and version in a Chart.yaml that may be bad; "" for what is not there, or not readable.

    >>> written_name(b"name: web\nversion: v1.0\nname: web\n"), written_name(b"name: [")
    (('web', 'v1.0'), ('', ''))
    """
    try:
        root = yaml_reader.parse(data, "", duplicates=True)[1]
    except ConfigurationError:
        return "", ""
    nodes = [root.get(key) if isinstance(root, Mapping) else None for key in ("name", "version")]
    name, version = (node.value if isinstance(node, Scalar) else "" for node in nodes)
    return name, version


def read_dependencies(
    data: bytes, where: str, error: type[PipelineError] = ConfigurationError
) -> tuple[Dependency, ...]:
    """The `dependencies` in a Chart.lock or requirements.lock. Two may have one name: locks have no
    aliases.
    """
    _, root = yaml_reader.parse(data, where, error=error)
    if not isinstance(root, Mapping):
        raise error(
            "the file is not a mapping of keys", where=where, advice="run: helm dependency update"
        )
    return _dependencies(root.get("dependencies"), where, False, error, unique=False)


def _dependencies(
    node: Node | None, where: str, strict: bool, error: type[PipelineError], *, unique: bool = True
) -> tuple[Dependency, ...]:
    if node is None or _is_null(node):
        return ()
    if not isinstance(node, Sequence):
        raise error(
            "dependencies is not a list",
            where=f"{where}:{node.line + 1}",
            advice="write - name: … entries",
        )
    dependencies: list[Dependency] = []
    for item in node.items:
        if not isinstance(item, Mapping):
            raise error(
                "an entry of dependencies is not a mapping",
                where=f"{where}:{item.line + 1}",
                advice="write name: …",
            )
        dependencies.append(_dependency(_Fields(item, where, strict, error)))
    names = [dependency.alias or dependency.name for dependency in dependencies]
    # helm would silently use the last one.
    for name in names if unique else ():
        if names.count(name) > 1:
            advice = "give one of them an alias"
            raise error(
                f"two dependencies are called {name!r}",
                where=f"{where}:{node.line + 1}",
                advice=advice,
            )
    return tuple(dependencies)


def _dependency(fields: _Fields) -> Dependency:
    for key in ("tags", "import-values"):
        fields.entries(key)
    fields.check_boolean("enabled")
    name, alias = fields.required("name"), fields.text("alias") or None
    if not NAME.fullmatch(name) and not ALIAS.fullmatch(name):
        raise fields.fail(
            "name", f"dependency name {name!r} is not allowed", "use letters, digits, - and _"
        )
    if alias is not None and not ALIAS.fullmatch(alias):
        raise fields.fail(
            "alias", f"alias {alias!r} is not allowed", "use letters, digits, - and _"
        )
    return Dependency(
        name=name,
        version=fields.text("version") or "",
        repository=fields.text("repository") or "",
        alias=alias,
        condition=fields.text("condition"),
        digest=fields.text("digest") or "",
    )


class _Fields:
    """Reads values from one mapping; its errors name the line."""

    def __init__(self, node: Mapping, where: str, strict: bool, error: type[PipelineError]) -> None:
        self.node = node
        self.where = where
        self.strict = strict
        self.error = error

    def fail(self, key: str, problem: str, advice: str) -> PipelineError:
        node = self.node.get(key)
        line = self.node.line if node is None else node.line
        return self.error(problem, where=f"{self.where}:{line + 1}", advice=advice)

    def required(self, key: str) -> str:
        value = self.text(key)
        if not value:
            raise self.fail(key, f"{key} is missing", f"add {key}: to it")
        return value

    def text(self, key: str) -> str | None:
        """The text at `key`, None when it is absent or null."""
        node = self.node.get(key)
        if node is None:
            return None
        if not isinstance(node, Scalar):
            raise self.fail(key, f"{key} is not a text", f'write {key}: "…"')
        if node.meaning == "null":
            return None
        if self.strict and node.meaning not in ("text", "timestamp"):
            problem = (
                f"{key}: {node.value} is read as {with_article(node.meaning)}, helm wants text here"
            )
            raise self.fail(key, problem, f'write {key}: "{node.value}"')
        # The pattern is slow to compile.
        if not node.value.isprintable() and _CONTROL.search(node.value):
            raise self.fail(
                key, f"{key} contains control characters: {node.value!r}", "remove them"
            )
        return node.value

    def check_other_keys(self) -> None:
        """Check the types of keys that are not used here, as helm does
        (pkg/chart/v2/metadata.go).
        """
        for key in ("home", "icon", "kubeVersion", "condition", "tags"):
            self.text(key)
        self.check_boolean("deprecated")
        for key in ("sources", "keywords"):
            for item in self.entries(key):
                if not isinstance(item, Scalar):
                    raise self.fail(key, f"an entry of {key} is not a text", f"write {key}: [a, b]")
        for item in self.entries("maintainers"):
            if not isinstance(item, Mapping):
                raise self.fail(
                    "maintainers",
                    "an entry of maintainers is not a mapping",
                    "write - name: … entries",
                )
            for key in ("name", "email", "url"):
                _Fields(item, self.where, False, self.error).text(key)
        annotations = self.node.get("annotations")
        if not _is_null(annotations) and not isinstance(annotations, Mapping):
            raise self.fail(
                "annotations", "annotations is not a mapping of keys", "write key: value pairs"
            )
        for _, item in annotations.items if isinstance(annotations, Mapping) else ():
            if not isinstance(item, Scalar):
                raise self.fail(
                    "annotations",
                    "an entry of annotations is not a text",
                    "write it as one, behind |",
                )

    def entries(self, key: str) -> list[Node]:
        """The list at `key`, empty when it is absent or null."""
        node = self.node.get(key)
        if _is_null(node):
            return []
        if not isinstance(node, Sequence):
            raise self.fail(key, f"{key} is not a list", f"write {key}: [a, b]")
        return node.items

    def check_boolean(self, key: str) -> None:
        node = self.node.get(key)
        if not _is_null(node) and not (isinstance(node, Scalar) and node.meaning == "bool"):
            raise self.fail(key, f"{key} is neither true nor false", f"write {key}: true")


def _is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.meaning == "null")


def _without_null(fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
