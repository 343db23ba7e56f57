"""Verdicts that are kept until their review system answers: how many, and what is read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.config.language import GiteaReview
from pipeline_steps.reporting import unsent
from pipeline_steps.reviews.gitea import GiteaReviews
from pipeline_steps.reviews.review import Finding, Verdict
from pipeline_steps.sources.kinds import open_source
from tests.support.gits import Repo

#: It answers nobody, and none of these tests asks it anything.
SYSTEM = GiteaReviews(GiteaReview(url="http://127.0.0.1:9"), "team/charts", {}, environ={})


def verdict(number: int) -> Verdict:
    finding = Finding("charts/web/Chart.yaml", 3, "`raise it`")
    return Verdict(f"{number:040}", "positive", "passed", "**passed**", "https://c", (finding,))


def test_only_the_newest_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [unsent.keep(tmp_path, SYSTEM, "1", verdict(number)) for number in range(23)]
    assert [path for path in paths if path and path.exists()] == paths[3:]
    assert caplog.text.count("is dropped") == 3
    assert all(path and path.stat().st_mode & 0o777 == 0o600 for path in paths[3:])


def test_a_later_verdict_on_a_revision_replaces_the_kept_one(tmp_path: Path) -> None:
    first = unsent.keep(tmp_path, SYSTEM, "1", verdict(1))
    assert unsent.keep(tmp_path, SYSTEM, "1", verdict(1)._replace(word="negative")) == first
    assert len([*(tmp_path / "unsent").iterdir()]) == 1
    unsent.forget(tmp_path, ["1"], verdict(1).revision)
    assert not [*(tmp_path / "unsent").iterdir()]


def test_one_that_was_kept_under_the_name_that_ci_gives_is_dropped_too(tmp_path: Path) -> None:
    for name in ("17", "charts~main~17", "18"):
        unsent.keep(tmp_path, SYSTEM, name, verdict(1))
    unsent.forget(tmp_path, {"17", "charts~main~17"}, verdict(1).revision)
    assert len([*(tmp_path / "unsent").iterdir()]) == 1


def test_what_cannot_be_sent_later_is_not_kept(tmp_path: Path) -> None:
    started = verdict(1)._replace(word="started")
    assert unsent.keep(tmp_path, SYSTEM, "1", started) is None
    assert unsent.keep(tmp_path, SYSTEM, "", verdict(1)) is None, "of no known review"
    assert not (tmp_path / "unsent").exists()


@pytest.mark.parametrize("text", ["", "{", '{"system": "gitea"}', "[]", '{"word": "yes"}'])
def test_a_file_that_is_no_verdict_is_told_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("a", "1")
    repo.commit()
    path = tmp_path / "unsent/a.json"
    path.parent.mkdir()
    path.write_text(text)
    assert list(unsent.send_kept(tmp_path, SYSTEM, open_source(repo.root))) == []
    assert "cannot read the kept verdict" in caplog.text and path.exists()


def test_a_kept_verdict_is_read_as_it_was(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("a", "1")
    repo.commit()
    path = unsent.keep(tmp_path, SYSTEM, "7", verdict(1))
    assert path
    read = unsent._read(path, open_source(repo.root))
    assert read and (read.system, read.review) == ("gitea", "7")
    assert read.findings == (("charts/web/Chart.yaml", 3, "`raise it`"),)
    assert (read.revision, read.url) == (verdict(1).revision, "https://c")


@pytest.mark.parametrize("link", [True, False])
def test_a_verdict_that_the_source_tracks_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, link: bool
) -> None:
    """Also where the folder is a link that the source tracks, to a place outside of it."""
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    folder = repo.root / ".pipeline"
    if link:
        unsent.keep(tmp_path, SYSTEM, "7", verdict(1))
        folder.mkdir(parents=True)
        (folder / "unsent").symlink_to(tmp_path / "unsent")
    else:
        unsent.keep(folder, SYSTEM, "7", verdict(1))
    repo.git("add", "--force", ".pipeline")
    repo.commit()
    assert list(unsent.send_kept(folder, SYSTEM, open_source(repo.root))) == []
    assert "is tracked by the source" in caplog.text
