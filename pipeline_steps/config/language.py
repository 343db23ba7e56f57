"""The configuration language of pipeline.yaml as frozen types (design.md §6); nothing here reads a
file.

`config_file` reads, merges and expands it; `make doc` writes its JSON Schema. A key that is not
here does not exist. Keys of later versions are types too: they are accepted, and refused with "not
yet" where they are used.
"""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.toolbox.errors import ConfigurationError

Value = TypeVar("Value")


class Settings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """Base of everything written in pipeline.yaml: unknown keys are refused."""


class ChartTests(Settings, frozen=True):
    """How charts are tested, for all (`tests`) or for some (`charts[].tests`); None: not said here.

    timeout: a duration (5m) for one scenario. values: a glob below the chart; every match is a
    scenario. upgrade_from: versions to upgrade from, "published" is the newest below this one.
    none: why there is no test.
    """

    none: str | None = None
    timeout: str | None = None
    prepare: tuple[str, ...] | None = None
    clusters: tuple[str, ...] | None = None
    values: str | None = None
    upgrade_from: tuple[str, ...] | None = None
    breaking: Literal["test", "skip"] | None = None
    namespace: str | None = None
    pull_secret: bool | None = None
    helm_args: tuple[str, ...] | None = None
    parallel: int | None = None


class ChartEntry(Settings, frozen=True):
    """One entry of `charts`: a folder or glob below pipeline.yaml and what holds for the charts
    there.

    images: image name → values key (or Chart.appVersion) → template of {registry} {path}
    {repository} {tag} {digest} {reference}.
    """

    path: str
    paths: tuple[str, ...] | None = None
    images: dict[str, dict[str, str]] | None = None
    tests: ChartTests | None = None


class ImageEntry(Settings, frozen=True):
    """One entry of `images`: built from `context`, or `existing` elsewhere, or neither (taken from
    the values).

    generated: pattern of files in the context that an earlier stage makes -> the sources (files,
    folders, globs, relative to the context) that they are made from. The sources are content; the
    files go in by digest.
    """

    context: str | None = None
    dockerfile: str = "Dockerfile"
    target: str | None = None
    args: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    generated: dict[str, tuple[str, ...]] = {}
    existing: str | None = None


class Keep(Settings, frozen=True):
    """How long `sweep` leaves snapshots alone: a duration, or "forever"."""

    unreleased: str = "forever"
    abandoned: str = "7d"
    released: str = "30d"


class SnapshotChannel(Settings, frozen=True):
    """Where snapshots go. images: registry path; charts: chart repository URLs, the first is
    authoritative.
    """

    images: str | None = None
    charts: str | tuple[str, ...] = ()
    keep: Keep = Keep()


class ProductionChannel(Settings, frozen=True):
    """Where releases go and what one needs (`requires`); the evidence stores it believes (None: the
    one below).
    """

    images: str | None = None
    charts: str | tuple[str, ...] = ()
    requires: tuple[str, ...] = ("check", "integration_test")
    evidence: tuple[str, ...] | None = None


class Channels(Settings, frozen=True):
    snapshot: SnapshotChannel = SnapshotChannel()
    production: ProductionChannel = ProductionChannel()


class Cluster(Settings, frozen=True):
    """A cluster by kubeconfig file (path) and context (None: the file's current one)."""

    kubeconfig: str
    context: str | None = None


class Check(Settings, frozen=True):
    """commands: further checks, each a program with arguments; {chart} is the chart's folder."""

    commands: tuple[str, ...] = ()


class Gerrit(Settings, frozen=True):
    url: str
    label: str = "Verified"


class Review(Settings, frozen=True):
    """The review system and what its verdict needs."""

    gerrit: Gerrit | None = None
    github: dict[str, Any] | None = None
    gitlab: dict[str, Any] | None = None
    launchpad: dict[str, Any] | None = None
    requires: tuple[str, ...] = ("check", "integration_test")


class Approval(Settings, frozen=True):
    """One named approval: who or which label gives it, and whose own does not count."""

    gerrit: str | None = None
    github: str | None = None
    gitlab: str | None = None
    launchpad: str | None = None
    by: str | tuple[str, ...] | None = None
    not_by: tuple[str, ...] = ()


class Release(Settings, frozen=True):
    """Names of releases. tag, image_tag: templates of {name} and {version}; branches: globs of
    mainlines.

    image_tag: of a chart's images in production; by default {version} for an image of one chart,
    and {name}-{version}, with the name of the released chart, for one that several charts use.
    """

    tag: str = "{name}-{version}"
    branches: tuple[str, ...] = ("main", "master", "trunk", "release/*")
    image_tag: str | None = None
    withdrawn: tuple[str, ...] = ()
    pin: Literal["ours", "all"] = "ours"
    sign: dict[str, Any] = {}


class Deployment(Settings, frozen=True):
    chart: str
    cluster: str
    namespace: str
    release: str | None = None
    values: tuple[str, ...] = ()
    test: bool = True
    on_failure: Literal["rollback", "keep"] = "rollback"


class Language(Settings, frozen=True):
    """The whole of pipeline.yaml.

    secrets: name for `images.X.secrets` → "${NAME}", the variable that holds it, or "file:/PATH".
    """

    charts: tuple[ChartEntry, ...]
    images: dict[str, ImageEntry] = {}
    channels: Channels = Channels()
    evidence: str | None = None
    hosts: dict[str, Host] = {}
    secrets: dict[str, str] = {}
    clusters: dict[str, Cluster] = {}
    tests: ChartTests = ChartTests()
    check: Check = Check()
    review: Review = Review()
    approvals: dict[str, Approval] = {}
    release: Release = Release()
    deployments: dict[str, Deployment] = {}


class Needy(dict[str, Value]):
    """Named settings of which some need variables that are not set here; asking for such a one says
    so.

    A stage that does not test runs without the clusters' credentials. unset: name → what is
    missing.
    """

    def __init__(
        self, settings: Mapping[str, Value], unset: Mapping[str, ConfigurationError]
    ) -> None:
        super().__init__(settings)
        self.unset = dict(unset)

    def __getitem__(self, name: str) -> Value:
        if name in self.unset:
            raise self.unset[name]
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict does, but raises ConfigurationError when the setting needs a variable that is
        not set.
        """
        return self[name] if super().__contains__(name) else default


class Config(Language, frozen=True, kw_only=True):
    """What a step is given: the language, and where it was read.

    root: the folder of pipeline.yaml, absolute. files: all that was read, pipeline.yaml first.
    places: key path, like "charts[0].path", → file and line. written: `charts` and `images` as
    plain values.
    """

    root: Path
    files: tuple[Path, ...] = ()
    places: dict[str, str] = {}
    written: dict[str, Any] = {}

    def where(self, key: str) -> str:
        """File and line of a key, or of the nearest one above it."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, str(self.files[0]) if self.files else "pipeline.yaml")


#: What holds where neither a chart nor `tests` says anything.
TEST_DEFAULTS = ChartTests(
    timeout="5m",
    prepare=(),
    clusters=(),
    values="ci/*-values.yaml",
    upgrade_from=("published",),
    breaking="test",
    namespace="fresh",
    pull_secret=True,
    helm_args=(),
    parallel=4,
)


def merged(*layers: ChartTests) -> ChartTests:
    """Test settings of later layers over earlier ones, key by key; `none` and the like fall through
    when unsaid.

    >>> merged(TEST_DEFAULTS, ChartTests(timeout="20m")).timeout
    '20m'
    """
    said: dict[str, Any] = {}
    for layer in layers:
        said.update({k: v for k, v in msgspec.structs.asdict(layer).items() if v is not None})
    return ChartTests(**said)


def several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """A setting that may be written as one text or as a list."""
    return (value,) if isinstance(value, str) else value


def named(template: str, name: str, version: str) -> str:
    """A name of `release` (tag, image_tag) for a chart: its template with {name} and {version} put
    in.

    >>> named("{name}-{version}", "web", "1.4.0")
    'web-1.4.0'
    """
    return template.replace("{name}", name).replace("{version}", version)
