"""The official workflow whole: pull request, CI, discussion, two approvals, release, `helm install`.

The forge is a real Gitea, CI is act with the workflow files of examples/, the engine, the registry,
the cluster, git and helm are real.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.giteas import Forge
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.official import Official, Systems
from tests.support.pages import served
from tests.support.registries import Running, fetch


@pytest.fixture
def official(
    forge: Forge, docker_engine: machine.Engine, registry: Running, tmp_path: Path
) -> Iterator[Official]:
    with machine.kubernetes_node(registry.host) as node:
        systems = Systems(forge, registry.host, node.kubeconfig, docker_engine.environment)
        yield Official(systems, tmp_path)


def test_a_chart_goes_from_a_pull_request_to_an_installation(
    official: Official, tmp_path: Path
) -> None:
    repository = official.repository
    # 1 the member proposes a new chart
    official.write_chart()
    pull = repository.propose("hello", {}, "Add hello")

    # 2, 3 CI tests it, and tells the pull request
    build = official.pull_request_build(pull.number)
    assert build.code == 0, build.log
    status = repository.status(pull.head)
    assert (status["status"], status["context"]) == ("success", "pipeline-steps"), build.log
    (comment,) = repository.comments(pull.number)
    assert comment["user"]["login"] == "ci"

    # 4 which gives them something to talk about
    assert "hello" in comment["body"]
    said = {"body": "Why only one replica?"}
    repository.call("POST", f"/issues/{pull.number}/comments", "core", said)

    # 5 two people approve this commit, one its code and one its release; exactly that is merged
    repository.review(pull.number, "core", commit=pull.head)
    refused = official.asked(pull.number, "approval", "--review", str(pull.number))
    assert refused.returncode == 6, refused.stderr
    assert "chief" in refused.stderr
    repository.review(pull.number, "chief", commit=pull.head)
    approved = official.asked(pull.number, "approval", "--review", str(pull.number))
    assert approved.returncode == 0, approved.stderr
    merged = official.asked(pull.number, "merge", "--review", str(pull.number))
    assert merged.returncode == 0, merged.stderr

    # 6, 7 somebody starts a release: tagged, and promoted
    release = official.release_build("hello")
    assert release.code == 0, release.log
    repository.checkout.git("fetch", "-q", "--tags", "origin")
    message = repository.checkout.git("tag", "--list", "--format=%(contents)", "hello-0.1.0")
    tested = message.partition("Pipeline-Image: hello hello ")[2].split()[0]

    (page,) = repository.call("GET", "/releases", "member")
    assert (page["tag_name"], page["name"]) == ("hello-0.1.0", "hello 0.1.0")
    (asset,) = page["assets"]
    assert asset["name"] == "hello-0.1.0.tgz"

    # 8 the member installs what was tested
    clone = Repo(tmp_path / "pages", tmp_path / "gitconfig", str(official.pages))
    clone.git("checkout", "-q", "gh-pages")
    promoted = (clone.root / "hello-0.1.0.tgz").read_bytes()
    assert fetch(asset["browser_download_url"]) == promoted
    with served(clone.root) as url:
        assert tested in installed_image(official, url)


def test_what_only_one_of_two_has_approved_is_not_released(official: Official) -> None:
    repository = official.repository
    official.write_chart()
    pull = repository.propose("hello", {}, "Add hello")
    assert official.pull_request_build(pull.number).code == 0
    repository.review(pull.number, "core", commit=pull.head)
    fields = {"Do": "merge", "head_commit_id": pull.head}
    repository.call("POST", f"/pulls/{pull.number}/merge", "core", fields)
    release = official.release_build("hello")
    assert "exit status 6" in release.log
    assert repository.call("GET", "/tags", "member") == []
    assert not list(official.pages.glob("refs/heads/*"))


def installed_image(official: Official, url: str) -> str:
    """The image that runs after `helm install hello` from the repository at a URL."""
    kubeconfig = str(official.systems.kubeconfig)
    namespace = f"member-{official.folder.parent.name.rpartition('-')[2]}"
    environment = {
        "KUBECONFIG": kubeconfig,
        "HELM_NAMESPACE": namespace,
        "HOME": str(official.folder),
        "PATH": os.environ["PATH"],
    }

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    kubectl = str(helm(4).parent / "kubectl")
    try:
        run(
            str(helm(4)), "install", "hello", "hello", "--repo", url, "--version", "0.1.0",
            "--wait", "--timeout", "2m", "--create-namespace",
        )  # fmt: skip
        image = "--output=jsonpath={.items[*].spec.containers[*].image}"
        return run(kubectl, "get", "pods", "--namespace", namespace, image)
    finally:
        run(kubectl, "delete", "namespace", namespace, "--wait=false", "--ignore-not-found")
