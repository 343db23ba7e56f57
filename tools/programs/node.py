"""Programs that come as npm packages: installed by npm from a lock file with the digest of every
package, without running their install scripts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tools.machine import Cannot, find_program

#: package.json names the programs; package-lock.json every package below them, by version and digest
LOCKED = Path(__file__).resolve().parent / "npm"


def install_package(name: str) -> Callable[[Path], None]:
    """Put the program of an npm package that LOCKED names into a folder, under the package's name."""

    def put(folder: Path) -> None:
        npm = find_program("npm")
        if npm is None or find_program("node") is None:
            raise Cannot("no npm and node: python3 tools/programs/programs.py packages node")
        for file in LOCKED.iterdir():
            shutil.copy(file, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        completed = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if completed.returncode:
            raise Cannot(f"npm cannot install {name}: {completed.stderr.strip()[-1500:]}")
        package = folder / "node_modules" / name
        programs = json.loads((package / "package.json").read_text())["bin"]
        program = programs if isinstance(programs, str) else programs[name]
        # relative: the folder gets its final name when it is complete
        (folder / name).symlink_to((package / program).relative_to(folder))

    return put
