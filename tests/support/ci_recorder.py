"""A `pipeline-steps` on PATH that notes how CI definitions call it, and names that try to run something.

What the steps themselves do is tested elsewhere; here it is what reaches them, through a real shell.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

_PROGRAM = """\
#!{python} -I
import fcntl, json, os, pathlib, subprocess, sys
note = {{"argv": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
kubeconfig = pathlib.Path(os.environ.get("CI_KUBECONFIG", "."))
note["kubeconfig"] = kubeconfig.read_text() if kubeconfig.is_file() else ""
if sys.argv[1] == "tag_release":
    identity = ["git", "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"]
    note["tagger"] = subprocess.run(identity, capture_output=True, text=True).stdout
with open({log!r}, "a") as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    log.write(json.dumps(note) + "\\n")
reports = pathlib.Path(".pipeline/junit")
reports.mkdir(parents=True, exist_ok=True)
shard = os.environ.get("PIPELINE_STEPS_SHARD", "").replace("/", "-of-")
(reports / f"{{sys.argv[1]}}{{shard}}.xml").write_text('<testsuite><testcase name="a"/></testsuite>')
print("pipeline-steps", *sys.argv[1:])
sys.exit({exits!r}.get(sys.argv[1], 0))
"""


class Call(NamedTuple):
    """One call of pipeline-steps. kubeconfig: what was in the file $CI_KUBECONFIG at the time.
    tagger: as whom git would have tagged, "" for nobody; of tag_release only.
    """

    argv: list[str]
    folder: str
    environment: dict[str, str]
    kubeconfig: str
    tagger: str = ""


class Recorder:
    """`bin` belongs on PATH. exits: the first argument of a call → its exit code, 0 for others."""

    def __init__(self, folder: Path, exits: dict[str, int] | None = None) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._log = folder / "calls.jsonl"
        program = self.bin / "pipeline-steps"
        program.write_text(
            _PROGRAM.format(python=sys.executable, log=str(self._log), exits=exits or {})
        )
        program.chmod(0o755)

    @property
    def calls(self) -> list[Call]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [Call(**json.loads(line)) for line in lines]

    @property
    def lines(self) -> list[str]:
        """Every call as it would be typed."""
        return [" ".join(call.argv) for call in self.calls]


def hostile_refs(canary: Path) -> list[str]:
    """Names that git takes for branches and tags, each of which a shell that reads it as code would
    follow and make the file `canary`.
    """
    touch = f"touch${{IFS}}{canary}"
    return [
        f"$({touch})",
        f"`{touch}`",
        f"x;{touch};x",
        f"x|{touch}",
        f"x&&{touch}",
        f"x&{touch}&",
        f"'\"$({touch})\"'",
        f'";{touch};"',
        f"';{touch};'",
        f"x)${{IFS}};{touch}",
        f"x>{canary}",
        f"--upload-pack={touch}",
        f"-oProxyCommand={touch}",
        "${{github.token}}",
        f"{{{{{touch}}}}}",
    ]


def hostile_texts(canary: Path) -> list[str]:
    """Titles, authors and file names of the same kind."""
    touch = f"touch {canary}"
    return [
        f"$({touch})",
        f"`{touch}`",
        f"\n{touch}\n",
        f"'; {touch}; '",
        f'"; {touch}; "',
        f"x' || {touch} #",
        f"${{'{touch}'.execute()}}",
        f"${{{{ fromJSON('{{}}') }}}} $({touch})",
        f"::set-output name=x::$({touch})",
        f'<img src=x onerror="{touch}">',
        f"-- {touch}",
    ]
