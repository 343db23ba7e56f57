"""The main job both ways: our steps, and the script a user would write for the same with docker,
helm and crane.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import systems, users
from tools.demo import proof, repository

ROOT = Path(__file__).resolve().parents[1]
PAGE = "app/www/cgi-bin/index.cgi"


class Job:
    """A checkout of the example, a sandbox of its own, and a version that is raised before every
    run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "hello"
        self.number = 0
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "PIPELINE_STEPS_CHANNELS": "sandbox",
        }
        self.host = ""
        repository.ensure(self.checkout, ROOT / "examples/hello")

    @contextlib.contextmanager
    def sandbox(self) -> Iterator[None]:
        """Registry and repository up, known to the node; removed at the end."""
        kubeconfig = os.environ["KUBECONFIG"]
        try:
            overlay = self.run([*self.step("sandbox"), "up", "--kubeconfig", kubeconfig]).strip()
            self.overlay = Path(overlay)
            self.host = proof.registry(self.overlay)
            systems.node_up(
                users.Started(self.folder / "started.json", process=os.getpid()), [self.host]
            )
            yield
        finally:
            self.run([*self.step("sandbox"), "down"])

    def next_version(self) -> None:
        """Another app and another version, committed."""
        self.number += 1
        chart, page = self.checkout / "charts/hello/Chart.yaml", self.checkout / PAGE
        chart.write_text(
            re.sub(r"(?m)^version: .*$", f"version: 1.{self.number}.0", chart.read_text())
        )
        page.write_text(re.sub(r"<p>[^<]*</p>", f"<p>Round {self.number}</p>", page.read_text()))
        repository.git(
            self.checkout, "commit", "--quiet", "--all", "--message", f"Round {self.number}"
        )

    def step(self, name: str) -> list[str]:
        return [sys.executable, "-m", "pipeline_steps", name]

    def ours(self) -> None:
        """Check, build, snapshot, test with both values files, tag, promote; with all records."""
        self.run([*self.step("run"), "private", "--release"])

    def again(self, words: Sequence[str]) -> None:
        """One step alone; it must have nothing to do."""
        local = ["--local"] if words[-1] == "tag_release" else []
        completed = subprocess.run(
            [*words, *local, "--chart", "hello", "--config", str(self.overlay), *self.cluster(words[-1])],
            cwd=self.checkout, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        if completed.returncode or "already done" not in completed.stderr:
            raise SystemExit(
                f"{words[-1]} had something to do: {completed.returncode} {completed.stderr}"
            )

    @staticmethod
    def cluster(step: str) -> list[str]:
        return ["--cluster", "sandbox"] if step == "integration_test" else []

    def plain_script(self) -> None:
        """Build and push, package and push, install and test with both values files, copy, package
        and push.
        """
        version, name = f"1.{self.number}.0", f"plain-{self.number}"
        snapshot, production = (
            f"{self.host}/plain/hello:{version}",
            f"{self.host}/plain-production/hello:{version}",
        )
        output = f"type=image,name={snapshot},push=true,registry.insecure=true"
        self.run(
            [
                "docker",
                "buildx",
                "build",
                "--quiet",
                "--provenance=false",
                "--output",
                output,
                "app",
            ]
        )
        self.package(f"{version}-dev.{self.number}", snapshot, "plain-charts")
        self.plain_tests(name)
        self.run(["crane", "copy", "--insecure", snapshot, production])
        self.package(version, production, "plain-production-charts")

    def package(self, version: str, image: str, repository_path: str) -> None:
        repository_name, _, tag = image.rpartition(":")
        values = self.folder / "chart/values.yaml"
        self.run(["rm", "-rf", str(values.parent)])
        self.run(["cp", "-r", "charts/hello", str(values.parent)])
        text = re.sub(
            r"(?m)^  repository: .*$", f"  repository: {repository_name}", values.read_text()
        )
        values.write_text(re.sub(r'(?m)^  tag: ""$', f'  tag: "{tag}"', text))
        self.run(
            [
                "helm",
                "package",
                str(values.parent),
                "--version",
                version,
                "--destination",
                str(self.folder),
            ]
        )
        archive = self.folder / f"hello-{version}.tgz"
        self.run(
            ["helm", "push", str(archive), f"oci://{self.host}/{repository_path}", "--plain-http"]
        )

    def tests(self) -> None:
        """The step integration_test alone, once more: it renders what would be released, too."""
        self.run(
            [
                *self.step("integration_test"),
                *("--chart", "hello", "--again", "--cluster", "sandbox"),
                *("--config", str(self.overlay)),
            ]
        )

    def plain_tests(self, name: str) -> None:
        """Install and test what was packaged last, with each values file in a namespace of its own.

        name: of the namespaces, less a number.
        """
        files = sorted((self.checkout / "charts/hello/ci").glob("*-values.yaml"))
        for number, values in enumerate(files):
            self.install_and_test(f"{name}-{number}", values)

    def install_and_test(self, namespace: str, values: Path) -> None:
        archive = next(iter(sorted(self.folder.glob(f"hello-1.{self.number}.0-dev.*.tgz"))))
        install = [
            "helm",
            "install",
            "hello",
            str(archive),
            "--namespace",
            namespace,
            "--create-namespace",
        ]
        self.run([*install, "--values", str(values), "--wait", "--timeout", "2m"])
        self.run(["helm", "test", "hello", "--namespace", namespace])
        self.run(["kubectl", "delete", "namespace", namespace, "--wait=false"])

    def run(self, argv: list[str]) -> str:
        """Run a program in the checkout that must succeed; its stdout."""
        completed = subprocess.run(
            argv, cwd=self.checkout, env=self.environment, capture_output=True, text=True
        )
        if completed.returncode:
            raise SystemExit(
                f"{' '.join(argv[:6])} failed with "
                f"{completed.returncode}:\n{completed.stdout}{completed.stderr}"
            )
        return completed.stdout
