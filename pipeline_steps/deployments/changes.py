"""What a deploy would change against what runs, rendered on the server; values of Secrets are never
shown.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline_steps.charts import diff
from pipeline_steps.charts.compare import split_documents
from pipeline_steps.clusters.helm import Helm, Target, error_text, manifests
from pipeline_steps.clusters.releases import Release
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ChartFailed
from pipeline_steps.toolbox.redact import redact
from pipeline_steps.toolbox.wording import counted

#: Keys of a Secret that say what it is; all others may hold what it keeps.
_SHOWN = frozenset({"apiVersion", "kind", "metadata", "type", "immutable"})


def changes(
    helm: Helm,
    chart: Path,
    target: Target,
    values: Sequence[Path],
    running: Release | None,
    *,
    names: tuple[str, str],
    timeout: float,
) -> list[diff.Difference]:
    """The resources that a deploy would add, remove or change.

    running: the revision that runs, None when none does. names: chart-version of both sides, of
    which labels consist that differ every time. Raises ChartFailed.
    """
    verb: Literal["install", "upgrade"] = "upgrade" if running else "install"
    rendered = []
    for _ in range(2):  # what differs between the two is chance
        completed = helm.dry_run(verb, chart, target, values=values, timeout=timeout)
        if not completed.ok:
            raise ChartFailed(
                f"the chart cannot be rendered on the server: {error_text(completed)}",
                where=f"{target.release} in {target.namespace}",
                advice="correct the template or value that helm names",
            )
        rendered.append(manifests(completed))
    key = secrets.token_bytes(16)
    new, again = (hide_secrets(text, key) for text in rendered)
    old = hide_secrets(running.manifests, key) if running else ""
    before, after = ({name: "CHART-VERSION"} if name else {} for name in names)
    return diff.differences(diff.Side(old, old, before), diff.Side(new, again, after))


def text(differences: Sequence[diff.Difference]) -> str:
    """The differences for people, redacted."""
    if not differences:
        return "nothing would change"
    parts = [f"--- {each.name} ({each.word})\n{each.text}" for each in differences]
    return redact(f"{counted(len(differences), 'resource')} would change\n" + "\n".join(parts))


def hide_secrets(rendered: str, key: bytes) -> str:
    """A rendering whose Secrets have digests under `key` for values: equal for equal ones, and of no
    use to whoever does not have the key.
    """
    return "".join(
        f"---\n# Source: {document.template}\n{_hidden_document(document.text, key)}\n"
        for document in split_documents(rendered)
    )


def _hidden_document(text: str, key: bytes) -> str:
    try:
        value = yaml_reader.load_bounded(text)
        hidden = _hidden(value, key)
    except (yaml.YAMLError, ValueError):
        return f"unreadable: {_digest(text, key)}"
    return text if hidden == value else yaml.dump(hidden, Dumper=yaml.CSafeDumper)


def _hidden(value: Any, key: bytes) -> Any:
    if isinstance(value, list):
        return [_hidden(item, key) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") != "Secret":
        return {name: _hidden(item, key) for name, item in value.items()}
    return {
        name: item
        if name in _SHOWN
        else {each: _digest(inner, key) for each, inner in item.items()}
        if isinstance(item, dict)
        else _digest(item, key)
        for name, item in value.items()
    }


def _digest(value: Any, key: bytes) -> str:
    digest = hmac.new(key, repr(value).encode(errors="surrogatepass"), hashlib.sha256)
    return f"hidden:{digest.hexdigest()[:12]}"
