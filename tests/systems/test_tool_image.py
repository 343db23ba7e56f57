"""examples/Dockerfile: the tool image on a Debian that is given as build argument, built and used."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline_steps.images.builders import find_buildx_plugin
from tests.support import charts
from tests.support.base_images import layer, push_image
from tests.support.registries import Running
from tools.machine import cache, installed_at_once, locked
from tools.programs import programs
from tools.programs.wheels import pip

ROOT = Path(__file__).resolve().parents[2]


def wheels() -> Path:
    """What the image's pip installs, downloaded once for these requirements."""
    requirements = ROOT / "requirements/run.txt"
    folder = cache() / "wheels" / hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    with locked(cache() / "wheels/.lock", "wheels"):
        if not folder.exists():
            with installed_at_once(folder) as aside:
                what = ["--requirement", requirements, "setuptools", "wheel"]
                command = [*pip(), "download", "--quiet", "--dest", aside, *what]
                subprocess.run(list(map(str, command)), check=True)
    return folder


@pytest.fixture
def sources(registry: Running) -> dict[str, str]:
    """Build argument → an image with what the Dockerfile takes from it."""
    docker = shutil.which("docker")
    plugin = find_buildx_plugin(os.environ)
    assert docker, "the package docker.io"
    assert plugin, "the fixture buildkit"
    rootfs = (programs.get("debian") / "rootfs.tar.gz").read_bytes()
    packages = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/opt/wheels",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    plugins = "/usr/local/libexec/docker/cli-plugins/docker-buildx"
    return {
        "BASE": push_image(
            registry.host,
            "debian",
            "12",
            [rootfs, layer({"/opt/wheels": wheels()})],
            environment=packages,
        ),
        "DOCKER_IMAGE": push_image(
            registry.host,
            "docker",
            "cli",
            [layer({"/usr/local/bin/docker": Path(docker), plugins: plugin})],
        ),
        "HELM_IMAGE": push_image(
            registry.host, "helm", "4", [layer({"/usr/bin/helm": programs.get("helm4") / "helm"})]
        ),
    }


def test_the_tool_image_is_built_on_a_given_debian_and_checks_a_chart(
    buildkit: None, registry: Running, sources: dict[str, str], tmp_path: Path
) -> None:
    image = f"{registry.host}/ci/pipeline-steps:0.1"
    context = tmp_path / "context"
    subprocess.run(["git", "clone", "-q", ROOT, context], check=True)
    for name in ("examples/Dockerfile", "requirements/run.txt"):
        shutil.copy(ROOT / name, context / name)
    arguments = [
        word for name, value in sources.items() for word in ("--build-arg", f"{name}={value}")
    ]
    arguments += ["--build-arg", "PACKAGES=subversion brz"]
    subprocess.run(
        [
            str(find_buildx_plugin(os.environ)), "build", "--quiet",
            "--file", str(context / "examples/Dockerfile"), *arguments,
            f"--output=type=image,name={image},push=true,registry.insecure=true", str(context),
        ],
        check=True,
    )  # fmt: skip
    work = tmp_path / "work"
    for name, data in charts.files().items():
        place = work / "charts/hello" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (work / "pipeline.yaml").write_text("charts: [{path: charts/*}]\n")
    subprocess.run(["git", "init", "-q", work], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "-C", work, "add", "-A"], check=True)
    subprocess.run(["git", "-C", work, *identity, "commit", "-q", "-m", "hello"], check=True)
    line = "pipeline-steps check && docker buildx version && helm version --short && git --version"
    line += " && svn --version --quiet && brz version --short"
    ran = subprocess.run(
        ["docker", "run", "--rm", "--network", "host", "--volume", f"{work}:/work", "--workdir",
         "/work", image, "sh", "-ec", line],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "hello: passed" in ran.stderr
    assert "v4." in ran.stdout
