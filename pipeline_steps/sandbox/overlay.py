"""The configuration overlay that points a pipeline at the sandbox; see design.md §6 for its language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline_steps.sandbox.ledger import Ledger

FILE = "overlay.yaml"
#: The folder of the evidence store, below the sandbox's.
EVIDENCE = "evidence"
#: What the overlay calls the sandbox's cluster.
CLUSTER = "sandbox"


def settings(folder: Path, known: Ledger) -> dict[str, Any]:
    """The overlay as plain values."""
    host = f"127.0.0.1:{known.ports['registry']}"
    made = known.cluster
    entry: dict[str, Any] = {"plain_http": True}
    # kind, k3d and minikube nodes pull under our own name, from the mirror they were told; others by another name.
    if made is not None and made.kind == "kubeconfig" and made.pull_from:
        entry["pull_as"] = f"{made.pull_from}:{known.ports['registry']}"
    evidence = (folder / EVIDENCE).as_uri()
    found: dict[str, Any] = {
        "channels": {
            "snapshot": {"images": f"{host}/snapshot", "charts": f"oci://{host}/snapshot-charts"},
            "production": {
                "images": f"{host}/production",
                "charts": [f"oci://{host}/charts", (folder / "charts").as_uri()],
                "evidence": [evidence],  # a release into the sandbox rests on what was done with the sandbox
            },
        },
        "evidence": evidence,
        "hosts": {host: entry},
    }
    if made is not None:
        named = {"kubeconfig": made.kubeconfig, **({"context": made.context} if made.context else {})}
        found["clusters"] = {CLUSTER: named}
    return found


def text(folder: Path, known: Ledger) -> str:
    """The overlay as YAML (of which JSON is a part), with words for whoever opens it."""
    web = f"http://127.0.0.1:{known.ports['web']}/"
    return (
        "# Written by `pipeline-steps sandbox up`; give it to any step with --config, after your pipeline.yaml.\n"
        f"# The folder repository of channels.production is served at {web}\n"
        f"{json.dumps(settings(folder, known), indent=2)}\n"
    )
