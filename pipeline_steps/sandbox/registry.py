"""The sandbox's OCI registry: Debian's docker-registry over a folder of the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline_steps.toolbox import files, process
from pipeline_steps.toolbox.errors import ToolMissing

PROGRAM = "docker-registry"
CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: "{address}:{port}"}}
"""


def command(folder: Path, name: str) -> list[str]:
    """The command that serves the configuration `name`."""
    return [PROGRAM, "serve", str(folder / f"{name}.yml")]


def configure(folder: Path, name: str, address: str, port: int, *, readonly: bool = False) -> None:
    """Write the configuration `name`. Raises ToolMissing when docker-registry is not installed.

    readonly: for a second address of the same images, for a cluster that sees this machine there.
    """
    if process.which(PROGRAM) is None:
        raise ToolMissing(
            f"{PROGRAM} is not installed: the sandbox's registry is this program",
            advice=f"apt-get install {PROGRAM}, or whatever package of your system brings it",
        )
    text = CONFIG.format(
        data=json.dumps(str(folder / "registry")),
        readonly=str(readonly).lower(),
        address=address,
        port=port,
    )
    files.write(folder / f"{name}.yml", text.encode())
