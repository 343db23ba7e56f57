"""Break each guard by hand, in a scratch copy, and see whether its tests notice.

    python -m tests.mutants                          # all of them, after the tests themselves
    python -m tests.mutants --seconds 75 --seed 7    # as many as fit, in the order of a seed
    python -m tests.mutants fsync-of-state           # those named

Exit code 1: a change that no test notices, a text that is not there exactly once, or a test that
does not run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Queue

from tests.mutants.guards import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
ENVIRONMENT = ".venv"
#: Seconds the tests of one mutant may take.
LIMIT = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, help="start no further mutant after these")
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    arguments = parser.parse_args()
    chosen = [each for each in MUTANTS if each.name in arguments.names or not arguments.names]
    if unknown := set(arguments.names) - {each.name for each in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    if arguments.seconds:
        print(f"seed {arguments.seed}")
        random.Random(arguments.seed).shuffle(chosen)
    with tempfile.TemporaryDirectory(prefix="pipeline-steps-mutants-") as folder:
        outcomes = list(judge_all(chosen, Path(folder), arguments.seconds))
    wrong = [
        f"{mutant.name}: {outcome}"
        for mutant, outcome in outcomes
        if not outcome.startswith("noticed ")
    ]
    print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} changes noticed, {len(MUTANTS)} in all")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def judge_all(
    mutants: Sequence[Mutant], folder: Path, seconds: float | None
) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with what its tests made of it; those that do not fit into `seconds` are left out."""
    copies: Queue[Path] = Queue()
    for number in range(WORKERS):
        copies.put(copy_checkout(folder / str(number)))
    end = time.monotonic() + seconds if seconds else None
    if not seconds and (broken := run(copies.queue[0], {t for m in mutants for t in m.tests})):
        raise SystemExit(f"the tests fail without any change:\n{broken[1]}")

    def work(mutant: Mutant) -> str | None:
        copy = copies.get()
        try:
            return None if end and time.monotonic() > end else judge(mutant, copy)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(WORKERS) as pool:
        started = {pool.submit(work, mutant): mutant for mutant in mutants}
        for future in as_completed(started):
            mutant, outcome = started[future], future.result()
            if outcome is not None:
                print(f"{mutant.name:42} {outcome.partition(chr(10))[0]}", flush=True)
                yield mutant, outcome


def judge(mutant: Mutant, copy: Path) -> str:
    """ "noticed", or what is wrong."""
    file = copy / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        return f"{mutant.file} holds its text {text.count(mutant.old)} times: correct the pair"
    try:
        write(file, text.replace(mutant.old, mutant.new))
        failed = run(copy, mutant.tests)
    finally:
        write(file, text)
    if failed is None:
        return f"SURVIVES {', '.join(mutant.tests)}"
    if failed[0] != 1:
        return f"its tests do not run ({failed[0]}):\n{failed[1]}"
    return f"noticed by {failed[1].rpartition('FAILED ')[2].partition(' - ')[0].strip()}"


def write(file: Path, text: str) -> None:
    """Write a module; Python compares compiled ones by time and size, which may be the same."""
    file.write_text(text)
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
        compiled.unlink()


def run(copy: Path, tests: Sequence[str] | set[str]) -> tuple[int, str] | None:
    """Run tests in a copy: None when all pass, else pytest's exit code and its last words."""
    programs = copy / ENVIRONMENT / "bin"
    options = ("-q", "-x", "-p", "no:randomly", "--no-header", "--tb=line")
    try:
        done = subprocess.run(
            [programs / "python", "-m", "pytest", *options, *sorted(tests)],
            cwd=copy,
            env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {LIMIT} s"
    return None if done.returncode == 0 else (done.returncode, done.stdout[-2000:])


def copy_checkout(target: Path) -> Path:
    """The files of this checkout that git knows or would add, and a virtual environment for them.

    The environment of this checkout is used but for the package itself, which programs that tests
    start must find in the copy, too, whatever their environment.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    venv.create(target / ENVIRONMENT, symlinks=True)
    [site] = (target / ENVIRONMENT).glob("lib/python*/site-packages")
    (site / "copy.pth").write_text(f"{target}\n{sysconfig.get_path('purelib')}\n")
    script = Path(sys.executable).with_name("pipeline-steps").read_text().partition("\n")[2]
    program = target / ENVIRONMENT / "bin/pipeline-steps"
    program.write_text(f"#!{program.with_name('python')}\n{script}")
    program.chmod(0o755)
    return target


if __name__ == "__main__":
    sys.exit(main())
