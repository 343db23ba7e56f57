"""What a deployment installs: a chart of the checkout with all that is known of it, or a chart from
a repository.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.audits import chain
from pipeline_steps.building import packaging
from pipeline_steps.charts import paths
from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.language import Config
from pipeline_steps.deployments.place import Place
from pipeline_steps.evidence.trust import open_state
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.redact import MASK, redact
from pipeline_steps.workspace.checkout import Checkout, open_checkout

log = logging.getLogger("pipeline_steps.deploy")

#: Characters of a diff that are kept: with all else it must fit into a Secret (1 MiB).
MAX_DIFF = 200_000
_SECRET_LINE = re.compile(
    r"(?im)^(?P<key>[ +-]\s*[\w.\"'-]*(?:passw|secret|token|credential|private|api_?key)[\w.\"'-]*\s*[:=])"
    r"\s*\S.*$"
)


class Package(NamedTuple):
    """A chart to install.

    content, revision: None of a chart from a repository. source: where it is from, for people.
    modified: paths that differ from the revision; diff: how, redacted. images: image name →
    reference with digest. inputs: name → digest of what it was made from, values files among them.
    uses: ids of records. values: path → bytes of the values files.
    """

    archive: Archive
    source: str
    content: str | None = None
    revision: str | None = None
    modified: tuple[str, ...] = ()
    diff: str = ""
    images: Mapping[str, str] = {}
    inputs: Mapping[str, str] = {}
    uses: tuple[str, ...] = ()
    values: Mapping[str, bytes] = {}

    def __str__(self) -> str:
        return f"{self.archive.name} {self.archive.version}"


def package(place: Place, config: Config, state: State, *, modified: bool) -> Package:
    """What a deployment installs.

    modified: whether files may differ from the revision. Raises EvidenceError when they do and may
    not, an image was not built, or the evidence of a chart from a repository does not hold;
    ConfigurationError, MachineError, Temporary.
    """
    if "://" in place.deployment.chart:
        return of_repository(place, config, state, modified=modified)
    return of_checkout(place, config, state, modified=modified)


def of_checkout(place: Place, config: Config, state: State, *, modified: bool) -> Package:
    """The deployment's chart as the checkout has it, with the images that are recorded for it.

    modified: whether it may differ from the revision. Raises EvidenceError when it differs and may
    not, or an image was not built; ConfigurationError.
    """
    checkout = open_checkout(config)
    chart = checkout.chart(place.deployment.chart)
    if chart.type == "library":
        raise ConfigurationError(
            f"deployment {place.name}: {chart.name} is a library chart, which cannot be installed",
            where=config.where(f"deployments.{place.name}.chart"),
            advice="deploy a chart that depends on it",
        )
    changed = _modified(checkout, chart.modified, place)
    _refuse_modified(changed, place, modified=modified)
    packed = packaging.read_package(checkout, chart, state)
    values = _values(checkout, place, config)
    return Package(
        packed.pack(),
        f"{checkout.source.system} {checkout.revision}",
        content=chart.content,
        revision=checkout.revision,
        modified=changed,
        diff=_diff_of_checkout(checkout, changed),
        images={name: str(image) for name, image in packed.images.items()},
        inputs={**packed.inputs, **_value_digests(values)},
        uses=packed.uses,
        values=values,
    )


def of_repository(place: Place, config: Config, state: State, *, modified: bool) -> Package:
    """A chart from a repository, byte for byte, with the deployment's values files of this checkout.

    Raises EvidenceError when its chain of evidence does not hold, as `verify` does.
    """
    reference = place.deployment.chart
    published = chain.fetch(reference, config)
    # The records that count are those that count for `verify`, whoever may write others.
    links = chain.links(
        published, open_state(config, "verify", state.path, write=False), config.hosts
    )
    for link in links:
        log.info("%s", link)
    # Also an unknown link: what nobody can check is installed no more than what is wrong.
    broken = [link.what for link in links if link.status != "holds"]
    if broken:
        raise EvidenceError(
            f"{len(broken)} of {len(links)} links do not hold: {'; '.join(broken[:3])}",
            where=published.reference,
            advice=f"see what pipeline-steps verify {reference} says",
        )
    inputs = {"chart": published.archive.digest}
    if not place.deployment.values:
        return Package(published.archive, published.reference, inputs=inputs)
    checkout = open_checkout(config)
    changed = _modified(checkout, (), place)
    _refuse_modified(changed, place, modified=modified)
    values = _values(checkout, place, config)
    return Package(
        published.archive,
        published.reference,
        revision=checkout.revision,
        modified=changed,
        diff=_diff_of_checkout(checkout, changed),
        inputs={**inputs, **_value_digests(values)},
        values=values,
    )


def write(package: Package, folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """Write archive and values files below `folder`, for helm; where they are."""
    archive = folder / f"{package.archive.name}.tgz"
    archive.write_bytes(package.archive.tgz)
    written = []
    for number, data in enumerate(package.values.values()):
        # Numbered file names: helm splits the value of --values at commas.
        written.append(folder / f"values-{number}.yaml")
        written[-1].write_bytes(data)
    return archive, tuple(written)


def _values(checkout: Checkout, place: Place, config: Config) -> dict[str, bytes]:
    names = [paths.relative_path(name) for name in place.deployment.values]
    entries = checkout.tree.entries()
    for name in names:
        if name not in entries or entries[name].kind not in ("file", "executable"):
            raise ConfigurationError(
                f"deployment {place.name} names the values file {name}, which the source does not "
                "store",
                where=config.where(f"deployments.{place.name}.values"),
                advice="add the file to the source; its path is relative to pipeline.yaml's folder",
            )
    data = checkout.tree.read(names)
    return {name: data[name] for name in names}


def _value_digests(values: Mapping[str, bytes]) -> dict[str, str]:
    return {f"values:{name}": sha256(data) for name, data in values.items()}


def _modified(checkout: Checkout, chart: Iterable[str], place: Place) -> tuple[str, ...]:
    """The changed files that a deployment rests on: its chart's, and its values files."""
    changed = set(checkout.tree.modified)
    values = [paths.relative_path(name) for name in place.deployment.values]
    return tuple(dict.fromkeys((*chart, *(name for name in values if name in changed))))


def _refuse_modified(changed: tuple[str, ...], place: Place, *, modified: bool) -> None:
    if changed and not modified:
        raise EvidenceError(
            f"there are local modifications: {', '.join(changed[:5])}",
            where=f"deployment {place.name}",
            advice="commit or revert them, or deploy them as they are with --modified",
        )


def _diff_of_checkout(checkout: Checkout, changed: Iterable[str]) -> str:
    """How files of the checkout differ from its revision; files outside of it are only named."""
    names = [name for name in changed if name in checkout.tree.modified]
    if not names:
        return ""
    base = open_checkout(checkout.config, checkout.revision)
    sides = [
        tree.read([name for name in names if _is_readable(tree.entries().get(name))])
        for tree in (base.tree, checkout.tree)
    ]
    return diff(*sides)


def _is_readable(entry: object) -> bool:
    return entry is not None and getattr(entry, "kind", "") != "submodule"


def diff(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    r"""A unified diff of files, redacted, and cut where it is too long to be kept.

    >>> print(diff({"a": b"one\npassword: old\n"}, {"a": b"one\npassword: new\n"}))
    --- a/a
    +++ b/a
    @@ -1,2 +1,2 @@
     one
    -password: [redacted]
    +password: [redacted]
    """
    parts = []
    for name in sorted({*before, *after}):
        old, new = (_lines(side.get(name, b"")) for side in (before, after))
        if old is None or new is None:
            parts.append(f"{name}: binary files differ")
            continue
        names = (
            f"a/{name}" if name in before else "/dev/null",
            f"b/{name}" if name in after else "/dev/null",
        )
        parts += difflib.unified_diff(old, new, *names, lineterm="")
    # The diff is kept in the cluster, where more people may read than in the checkout.
    text = _SECRET_LINE.sub(rf"\g<key> {MASK}", redact("\n".join(parts)))
    left_out = len(text) - MAX_DIFF
    return text if left_out <= 0 else f"{text[:MAX_DIFF]}\n… {left_out} more characters"


def _lines(data: bytes) -> list[str] | None:
    """The lines of a text, None for what is none."""
    try:
        return None if b"\0" in data else data.decode().splitlines()
    except UnicodeDecodeError:
        return None
