"""T12: the same outputs in another environment: umask, time zone, locale, clock, user, folder,
hashing, order of entries, helm."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.world import STEPS, World, copy, difference

CLOCK = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Way(NamedTuple):
    """How the chain runs. before: words before the interpreter; cwd: below the checkout; again: how
    often each step; locale: language and encoding, made for the run.
    """

    name: str
    more: Mapping[str, str] = {}
    before: tuple[str, ...] = ()
    cwd: str = ""
    helm: int = 4
    again: int = 1
    shuffled: bool = False
    other_user: bool = False
    locale: tuple[str, str] | None = None


def _clock(days: str) -> Mapping[str, str]:
    return {"LD_PRELOAD": CLOCK, "FAKETIME": days}


WAYS = (
    *(
        Way(f"umask {mask}", before=("sh", "-c", f'umask {mask}; exec "$@"', "sh"))
        for mask in ("000", "022", "077")
    ),
    *(
        Way(f"time zone {zone}", {"TZ": zone})
        for zone in ("UTC", "Asia/Kathmandu", "America/St_Johns")
    ),
    *(Way(f"locale {name}", {"LC_ALL": name}) for name in ("C", "C.UTF-8", "POSIX")),
    *(
        Way(f"locale {'.'.join(locale)}", locale=locale)
        for locale in (("de_DE", "ISO-8859-1"), ("tr_TR", "UTF-8"))
    ),
    *(Way(f"clock {days} day", _clock(f"{days}d")) for days in ("+1", "-1")),
    *(Way(f"PYTHONHASHSEED {seed}", {"PYTHONHASHSEED": str(seed)}) for seed in range(1, 10)),
    Way("another working folder", cwd="charts/common/templates"),
    Way("another order of entries", shuffled=True),
    Way("another user", other_user=True),
    Way("helm 3", helm=3),
    Way("every step twice", again=2),
    Way("every step ten times", again=10),
)
#: Ways left out of a sample: others are much like them.
FULL = (*(f"PYTHONHASHSEED {seed}" for seed in range(2, 10)), "every step ten times")


def everywhere(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: ways in which the chain leaves what it leaves in the plain way."""
    ways = WAYS if settings.full else [way for way in WAYS if way.name not in FULL]

    def run(number: int, way: Way) -> str:
        wrong = _chain(worlds[number], way)
        return f"{way.name}: {wrong}" if wrong else ""

    wrong = spread(ways, settings.workers, run)
    what = "umask, zone, locale, clock, hashing, folder, order, user, helm, repeated: same outputs"
    return [counted("T12", what, ways, wrong)]


def _chain(world: World, way: Way) -> str:
    world.back(STEPS[0])
    before, more = way.before, dict(way.more)
    if way.shuffled:
        _shuffle(world.root)
    _require_effect(way)
    if way.locale:
        more |= _localized(world.root.parent / "locales", *way.locale)
    if way.other_user:
        world.root.parent.chmod(0o755)
        subprocess.run(["chown", "-R", "nobody:nogroup", world.root], check=True)
        before = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
        base, packages = _reachable(world.root.parent)
        world.python = str(base / "bin" / Path(sys.executable).resolve().name)
        more |= {"PYTHONPATH": f"{world.code}:{packages}", "LD_LIBRARY_PATH": str(base / "lib")}
    world.helm_major, major = way.helm, world.helm_major
    try:
        for number, step in enumerate(STEPS):
            if step.before and number:
                step.before(world)
            for _ in range(way.again):
                completed = world.run(step, *before, cwd=world.source / way.cwd, more=more)
                if completed.returncode:
                    return f"{step.name} exits {completed.returncode}: {completed.stderr.strip()[-500:]}"
            if wrong := difference(world.expected[step.name], world.outcome()):
                return f"{step.name}: {wrong}"
            if world.state.stat().st_mode & 0o777 != 0o600:
                return f"{step.name}: the state has mode {world.state.stat().st_mode & 0o777:o}"
        return ""
    finally:
        world.helm_major, world.python = major, sys.executable


def _require_effect(way: Way) -> None:
    """A library or a zone that is not installed would change nothing, without a word."""
    if way.more.get("TZ", "UTC") != "UTC":
        zone = subprocess.run(["date", "+%z"], env=way.more, capture_output=True, text=True).stdout
        assert zone.strip() != "+0000", f"{way.name}: the zone is not installed"
    if days := way.more.get("FAKETIME"):
        clock = subprocess.run(["date", "+%s"], env=way.more, capture_output=True, text=True)
        assert abs(int(clock.stdout) - time.time()) > 80_000, f"{way.name}: no clock of {days}"


def _localized(folder: Path, language: str, encoding: str) -> dict[str, str]:
    """The variables of a locale that is compiled into a folder; one that cannot be had would be C
    without a word.
    """
    folder.mkdir(exist_ok=True)
    name = f"{language}.{encoding}"
    compiling = ["localedef", "-i", language, "-f", encoding, str(folder / name)]
    subprocess.run(compiling, check=True, capture_output=True)
    variables = {"LC_ALL": name, "LOCPATH": str(folder)}
    seen = subprocess.run(["locale", "charmap"], env=variables, capture_output=True, text=True)
    assert seen.stdout.strip() == encoding, f"{name}: {seen.stdout}{seen.stderr}"
    return variables


def _reachable(folder: Path) -> tuple[Path, Path]:
    """This Python and its packages where every account can reach them: they may lie in a closed
    home.
    """
    base, packages = folder / "python", folder / "packages"
    for source, target in ((sys.base_prefix, base), (sysconfig.get_path("purelib"), packages)):
        target.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "--bind", source, target], check=True
        )  # in the mounts that are ours alone
    return base, packages


def _shuffle(root: Path) -> None:
    """Make every file anew in the opposite order: a file system in memory lists the newest first."""
    aside = root.parent / "aside"
    copy(root, aside)
    source = aside / "source"
    paths = sorted((path for path in source.rglob("*") if ".git" not in path.parts), reverse=True)
    for path in paths:
        if path.is_file():
            target = root / "source" / path.relative_to(source)
            data = target.read_bytes()
            target.unlink()
            target.write_bytes(data)
