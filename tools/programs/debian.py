"""Debian packages, by the purpose they serve: what is missing, why it is needed, and installing it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.machine import Cannot, Misuse, agreed, find_program, locked, say

#: purpose -> package -> why it is needed
PACKAGES: dict[str, dict[str, str]] = {
    "python": {
        "python3-pip": "downloads programs that come as wheels",
        "python3-venv": "the checkout's virtual environment",
    },
    "engine": {
        "docker.io": "dockerd and the docker command: builds images",
        "runc": "runs the build steps of images",
        "git": "docker builds from repositories",
    },
    "registry": {
        "docker-registry": "an OCI registry for images and charts",
        "apache2-utils": "htpasswd: a registry that asks for a login",
    },
    "example": {"busybox-static": "the one program in the example's image"},
    "kubernetes": {
        "etcd-server": "the store of the Kubernetes API server",
        "containerd": "runs the containers of pods",
        "runc": "runs the containers of pods",
        "containernetworking-plugins": "the network of pods",
        "conntrack": "kube-proxy cleans connections to services with it",
        "iptables": "kube-proxy's service addresses",
        "iproute2": "kubelet and the clean-up look at addresses and routes with it",
        "openssl": "certificates of the API server",
    },
    "sources": {
        "git": "charts kept in git",
        "git-lfs": "large files of charts and images kept in git",
        "subversion": "charts kept in Subversion",
        "brz": "charts kept in Bazaar",
    },
    "gitea": {
        "gcc": "compiles the database in a forge, SQLite",
        "libc6-dev": "headers for that",
        "git": "the repositories of a forge",
        "util-linux": "setpriv: runs a forge without root's rights",
    },
    "browser": {
        "chromium": "opens the pages we write, as people do",
        "fonts-dejavu-core": "letters for its pictures of them",
    },
    "gerrit": {
        "openjdk-17-jdk-headless": "runs a real Gerrit, and compiles its launcher",
        "maven": "downloads Gerrit's jars",
        "git": "configures it",
    },
    "image": {"debootstrap": "a Debian for the tool image to stand on"},
    "definitions": {
        "groovy": "runs the Jenkins pipelines: 2.4, the Groovy of Jenkins",
        "openjdk-17-jre-headless": "runs groovy",
        "libguava-java": "a library of groovy-cps, which makes pipelines resumable",
        "maven": "fetches groovy-cps",
        "rsync": "gitlab-ci-local gives each job a copy of the checkout",
    },
    "node": {
        "nodejs": "runs gitlab-ci-local",
        "npm": "installs gitlab-ci-local from its lock file",
    },
    "measuring": {
        "strace": "counts what a step does to the system, and breaks it",
        "faketime": "another day for a step",
        "tzdata": "another time zone for a step",
        "locales": "another language and encoding for a step",
        "procps": "ps and sysctl: what a test left",
        "time": "memory and CPU time of a process",
    },
}


def missing(purposes: list[str]) -> dict[str, str]:
    """Packages of these purposes that are not installed -> why they are needed."""
    for purpose in purposes:
        if purpose not in PACKAGES:
            raise Misuse(f"no purpose {purpose}: known are {', '.join(PACKAGES)}")
    reasons = {package: why for purpose in purposes for package, why in PACKAGES[purpose].items()}
    installed_packages = installed(list(reasons))
    return {package: why for package, why in reasons.items() if package not in installed_packages}


def installed(packages: list[str]) -> set[str]:
    """Which of the packages are installed now."""
    try:
        completed = subprocess.run(
            ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages],
            capture_output=True, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise Cannot(
            f"no dpkg here: install what gives you {', '.join(packages)} with your own "
            "package manager"
        )
    rows = [line.split() for line in completed.stdout.splitlines()]
    return {row[0] for row in rows if row[1:] == ["installed"]}


def install(purposes: list[str], *, yes: bool) -> None:
    """Install what is missing, after saying what and why.

    As root with apt-get, no questions but one (y/n, when a person is there to answer and not
    `yes`); else, and when the answer is no, raises Cannot with the line to run.
    """
    needed = missing(purposes)
    if not needed:
        return
    say(f"Debian packages missing for {', '.join(purposes)}:")
    for package, why in needed.items():
        say(f"  {package:28} {why}")
    line = f"apt-get install --yes --no-install-recommends {' '.join(needed)}"
    if os.geteuid() != 0:
        raise Cannot(f"packages are missing and this is not root. Run:\n  sudo {line}")
    if sys.stdin.isatty() and not yes and not agreed("Install them now?"):
        raise Cannot(f"packages are missing. Run:\n  {line}")
    with locked(Path("/run/pipeline-steps/apt.lock"), "apt-get"), services_held_back():
        apt_get(line.split()[1:])


def apt_get(arguments: list[str]) -> None:
    """Run apt-get without questions. Package lists are fetched first when there are none, or when
    it fails with old.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    say(f"  apt-get {' '.join(arguments)}")
    for attempt in ("lists as they are", "lists fetched anew"):
        if attempt == "lists fetched anew":
            subprocess.run(
                [*command, "update"], env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL
            )
        completed = subprocess.run(
            [*command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if completed.returncode == 0:
            return
    raise Cannot(
        f"apt-get {' '.join(arguments)} "
        f"failed:\n{completed.stdout[-1500:]}{completed.stderr[-1500:]}".rstrip()
    )


@contextlib.contextmanager
def services_held_back() -> Iterator[None]:
    """Keep packages from starting the services they bring, now (policy-rc.d) and at the next boot
    (systemctl).
    """
    policy = Path("/usr/sbin/policy-rc.d")
    before = {name for name in SERVICES if enabled(name)}
    is_own = not policy.exists()
    if is_own:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if is_own:
            policy.unlink(missing_ok=True)
        for name in SERVICES:
            if name not in before and enabled(name):
                subprocess.run(["systemctl", "--quiet", "disable", name], capture_output=True)


#: units that the packages above would start at every boot
SERVICES = (
    "docker.service",
    "docker.socket",
    "docker-registry.service",
    "containerd.service",
    "etcd.service",
)


def enabled(unit: str) -> bool:
    """Whether systemd starts the unit at boot; works without a running systemd."""
    systemctl = find_program("systemctl")
    if systemctl is None:
        return False
    return (
        subprocess.run([systemctl, "--quiet", "is-enabled", unit], capture_output=True).returncode
        == 0
    )
