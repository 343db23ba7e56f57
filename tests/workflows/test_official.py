"""The official workflow whole: pull request, CI, discussion, two approvals, release, `helm install`.

The forge is a real Gitea, CI is act with the workflow files of examples/, the engine, the registry,
the cluster, git and helm are real.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.giteas import Forge
from tests.support.official import Official, Systems
from tests.support.registries import Running, fetch
from tools.demo import forge as forge_demo


@pytest.fixture
def official(
    forge: Forge, docker_engine: machine.Engine, registry: Running, tmp_path: Path
) -> Iterator[Official]:
    with machine.kubernetes_node(registry.host) as node:
        systems = Systems(forge, registry.host, node.kubeconfig, docker_engine.environment)
        yield Official(systems, tmp_path)


def test_a_chart_goes_from_a_pull_request_to_an_installation(official: Official) -> None:
    """`make demo-forge` tells this: all arrows are there, and here what they left is looked at."""
    repository = official.repository
    # 1 to 7: proposed, tested, talked about, refused with one approval, merged with two, released
    pull = forge_demo.story(official)

    # 3 the verdict, and 4 what they talk about
    status = repository.status(pull.head)
    assert (status["status"], status["context"]) == ("success", "pipeline-steps")
    (comment,) = repository.comments(pull.number)
    assert comment["user"]["login"] == "ci" and "hello" in comment["body"]

    # 5 exactly this commit is merged
    assert repository.pull(pull.number)["merged"]
    repository.checkout.git("fetch", "-q", "--tags", "origin")
    assert pull.head in repository.checkout.git("rev-list", "--parents", "-1", "origin/main")

    # 6, 7 tagged, and promoted
    message = repository.checkout.git("tag", "--list", "--format=%(contents)", "hello-0.1.0")
    tested = message.partition("Pipeline-Image: hello hello ")[2].split()[0]
    (page,) = repository.call("GET", "/releases", "member")
    assert (page["tag_name"], page["name"]) == ("hello-0.1.0", "hello 0.1.0")
    (asset,) = page["assets"]
    assert asset["name"] == "hello-0.1.0.tgz"

    # 8 the member installs what was tested
    namespace = f"member-{official.folder.parent.name.rpartition('-')[2]}"
    _, image = forge_demo.install(official, namespace)
    assert tested in image
    promoted = (official.folder / "pages/hello-0.1.0.tgz").read_bytes()
    assert fetch(asset["browser_download_url"]) == promoted


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
