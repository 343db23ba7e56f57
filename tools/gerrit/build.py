"""Gerrit's jars, its launcher and an empty site, made once and kept outside the checkout.

Maven Central has no war of this version, but two jars hold the whole server: the acceptance
framework has the programs, the plugin API the rest.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

from tools.machine import (
    Cannot,
    cache,
    installed_at_once,
    locked,
    need_programs,
    say,
    seconds_since,
)

SOURCES = Path(__file__).resolve().parent
VERSION = "3.10.0"
#: In the order of the class path: the framework's classes come before the API's.
JARS = {
    f"gerrit-acceptance-framework-{VERSION}.jar":
        "7e974b68bfff81082642e8349794fa0f46b8f60f46dd6da91dfe586e049a852b",
    f"gerrit-plugin-api-{VERSION}.jar":
        "d9c9e068065428a916a0313e326defca50eba9252fc6bc3bdc70744dbf59c4f5",
    "bcprov-jdk18on-1.78.jar": "1bf721b09758b3f55f2a5c875b6178ec6c41dddad854b0dead4b27a236f1943a",
    "bcpg-jdk18on-1.78.jar": "21b79c26b374705c5b8295b458144c368e545cb5dad3ba9210e5bef1269e05be",
    "bcpkix-jdk18on-1.78.jar": "ce36b14a90e6b3e9a2c9964e67440d4c758bd257189e7cd745d29a3817611861",
    "bcutil-jdk18on-1.78.jar": "f584cf9ba2c64a9255160ec8a3be72a112f50c4b5e9e456671d1805ed159eb50",
}  # fmt: skip
#: What Gerrit's own start script opens for it, and a compiler that starts fast: these servers live
#: for minutes.
JAVA_OPTIONS = (
    *(
        word
        for package in ("java.net", "java.lang.invoke", "java.lang")
        for word in ("--add-opens", f"java.base/{package}=ALL-UNNAMED")
    ),
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx512m",
)
#: Nobody listens for mails, and topics are submitted whole, as where several projects belong
#: together.
SETTINGS = {
    "sshd.listenAddress": "off",
    "sendemail.enable": "false",
    "change.submitWholeTopic": "true",
}
#: Files of a site that a server started from jars does not read; the war among them has 60 MB.
UNUSED = ("bin", "logs")


def folder() -> Path:
    """Where the jars and the site lie; another version or site, another folder."""
    parts = [(SOURCES / name).read_bytes() for name in ("pom.xml", "Run.java", "build.py")]
    return cache() / "gerrit" / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def built() -> Path:
    """Folder with `jars`, `classes` and the empty `site`, made when it is not there: a minute the
    first time. Raises Cannot.
    """
    target = folder()
    if not target.exists():
        with locked(cache() / "gerrit/.lock", "gerrit"):
            if not target.exists():
                make(target)
    return target


def make(target: Path) -> None:
    need_programs(("mvn", "javac", "git"), "Gerrit", "gerrit")
    start = time.monotonic()
    say(f"gerrit {VERSION}: downloading (Maven Central, 90 MB) and making an empty site")
    with installed_at_once(target) as aside:
        fetch(aside / "jars")
        run(["javac", "-d", aside / "classes", "-cp", class_path(aside), SOURCES / "Run.java"])
        site = aside / "site"
        run([*java(aside), "Init", "--batch", "--dev", "--no-auto-start", "-d", site])
        run(["rm", "-r", *(site / name for name in UNUSED)])
        for key, value in SETTINGS.items():
            run(["git", "config", "-f", site / "etc/gerrit.config", key, value])
    say(f"gerrit {VERSION}: ready in {seconds_since(start)}")


def fetch(jars: Path) -> None:
    """Get the jars of pom.xml. Raises Cannot when they are not the pinned ones."""
    pom = f"--file={SOURCES / 'pom.xml'}"
    run(["mvn", "--quiet", "--batch-mode", pom, f"-DoutputDirectory={jars}", "dependency:copy"])
    for name, digest in JARS.items():
        if hashlib.sha256((jars / name).read_bytes()).hexdigest() != digest:
            raise Cannot(f"{name} from Maven Central has other bytes than those pinned here")


def class_path(built_folder: Path) -> str:
    jars = (built_folder / "jars" / name for name in JARS)
    return ":".join(map(str, (built_folder / "classes", *jars)))


def java(built_folder: Path) -> list[str]:
    """The command that runs one of Gerrit's programs; its name and arguments follow."""
    # Init would put the key in ~/.ssh into the site.
    home = f"-Duser.home={built_folder}"
    return ["java", *JAVA_OPTIONS, home, "-cp", class_path(built_folder), "Run"]


def run(command: list[str | Path]) -> None:
    completed = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if completed.returncode:
        output = "\n".join(completed.stdout.splitlines()[-15:])
        raise Cannot(f"{command[0]} ended with {completed.returncode}:\n{output}")
