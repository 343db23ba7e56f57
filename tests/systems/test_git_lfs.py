"""Files in Git LFS: charts and images are made of their bytes, never of the pointers; with the real
git-lfs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.building import packaging
from pipeline_steps.config import config_file
from pipeline_steps.sources import git_lfs
from pipeline_steps.sources.kinds import open_source
from pipeline_steps.toolbox.errors import EvidenceError, MachineError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

DASHBOARD = b'{"panels": []}\n' * 200


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    made = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.config))
    made.git("lfs", "install", "--local")
    made.put(".gitattributes", "*.json filter=lfs diff=lfs merge=lfs -text\n")
    made.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
    made.put("charts/web/Chart.yaml", chart("web"))
    made.put("charts/web/dashboards/x.json", DASHBOARD)
    made.commit()
    assert git_lfs.pointer(made.git("show", "HEAD:charts/web/dashboards/x.json").encode() + b"\n")
    return made


def checkout(repo: Repo) -> Checkout:
    return Checkout(config_file.load(environ={}, start=repo.root))


def test_a_chart_holds_the_bytes_of_a_file_in_lfs_and_not_its_pointer(repo: Repo) -> None:
    opened = checkout(repo)
    assert packaging.package_files(opened, opened.chart("web"))["dashboards/x.json"] == DASHBOARD


@pytest.mark.parametrize("revision", [None, "HEAD"])
def test_trees_read_and_hash_the_bytes_whether_or_not_they_are_checked_out(
    repo: Repo, revision: str | None
) -> None:
    repo.git("lfs", "uninstall", "--local")
    repo.git("config", "filter.lfs.smudge", "cat")
    repo.git("config", "filter.lfs.clean", "cat")
    path = "charts/web/dashboards/x.json"
    (repo.root / path).unlink()
    repo.git("checkout", path)
    assert git_lfs.pointer((repo.root / path).read_bytes()), "as GIT_LFS_SKIP_SMUDGE leaves it"
    source = open_source(repo.root)
    tree = source.tree(source.revision(revision) if revision else None, "")
    assert tree.read([path]) == {path: DASHBOARD} and tree.digests([path]) == {
        path: sha256(DASHBOARD)
    }


def test_a_changed_file_in_lfs_is_read_as_it_lies_here(repo: Repo) -> None:
    repo.put("charts/web/dashboards/x.json", DASHBOARD + b"{}\n")
    opened = checkout(repo)
    assert opened.chart("web").modified == ("charts/web/dashboards/x.json",)
    assert (
        packaging.package_files(opened, opened.chart("web"))["dashboards/x.json"]
        == DASHBOARD + b"{}\n"
    )


def bare_of_lfs(repo: Repo) -> list[Path]:
    """Leave the checkout as a clone is that fetched no objects: pointers lie in it. Returns the
    files of the store.
    """
    repo.git("lfs", "uninstall", "--local")
    (repo.root / ".gitattributes").unlink()
    repo.git("rm", "-q", "--cached", ".gitattributes")
    (repo.root / "charts/web/dashboards/x.json").unlink()
    repo.git("checkout", "charts/web/dashboards/x.json")
    repo.commit("as where git-lfs is not installed")
    return [place for place in (repo.root / ".git/lfs/objects").rglob("*") if place.is_file()]


def test_an_object_that_was_not_fetched_is_refused_by_file_and_command(repo: Repo) -> None:
    [stored] = bare_of_lfs(repo)
    stored.unlink()
    words = r"charts/web/dashboards/x\.json: the Git LFS object sha256:[0-9a-f]{64} \(3000 bytes\).*git lfs pull"
    with pytest.raises(MachineError, match=words):
        checkout(repo).chart("web")


def test_an_object_with_other_bytes_is_refused(repo: Repo) -> None:
    [stored] = bare_of_lfs(repo)
    stored.chmod(0o644)
    stored.write_bytes(DASHBOARD[:-1])
    with pytest.raises(
        EvidenceError,
        match=r"is not the Git LFS object of its name \(run git lfs fsck: it says which",
    ):
        checkout(repo).chart("web")


def test_text_that_only_looks_like_a_pointer_is_a_file() -> None:
    head = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n"
    assert git_lfs.pointer(head) == git_lfs.Pointer("a" * 64, 5)
    for other in (
        b"x" + head,
        head + b"more\n",
        head.replace(b"sha256", b"md5"),
        head.replace(b"size 5", b"size x"),
    ):
        assert git_lfs.pointer(other) is None
