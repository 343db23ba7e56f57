"""Since which tag changes need an approval: the last one whose content production has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.approvals.mainline import last_release
from pipeline_steps.approvals.production import released_versions
from pipeline_steps.building.packaging import package_files
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.config_file import load
from pipeline_steps.repositories.kinds import open_writable
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

VALUES = "charts/web/values.yaml"


class Releases:
    """A chart in git and what a folder has of its versions."""

    def __init__(self, folder: Path) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        self.production = open_writable(f"file://{folder}/production", {})
        (folder / "production").mkdir()
        self.state = State(folder / "state" / "state.jsonl")
        self.repo.put(
            "pipeline.yaml",
            f'charts: [{{path: charts/*}}]\nchannels: {{production: {{charts: "file://{folder}/production"}}}}\n',
        )

    def commit(self, version: str, values: str = "a: 1\n") -> str:
        self.repo.put("charts/web/Chart.yaml", chart("web", version))
        self.repo.put(VALUES, values)
        return self.repo.commit()

    def checkout(self) -> Checkout:
        return Checkout(load([self.repo.root / "pipeline.yaml"]))

    def packed(self, **files: bytes) -> Archive:
        """The archive of what is checked out. files: others than those of the source, by name."""
        checkout = self.checkout()
        found = package_files(checkout, checkout.chart("web"))
        found.update({f"{name}.yaml": data for name, data in files.items()})
        return archives.pack(found, found.executables)

    def promoted(self, version: str, archive: Archive) -> None:
        """A record of promote for the content that is checked out."""
        published = self.production.publish(archive)
        fields: dict[str, Any] = {
            "step": "promote",
            "subject": "web",
            "key": f"sha256:{'0' * 64}",
            "content": self.checkout().chart("web").content,
            "parameters": {"version": version},
            "started": "2026-01-01T00:00:00Z",
            "result": "passed",
            "outputs": {"chart": published.reference, "tar": archive.tar_digest},
        }
        self.state.add(fields)

    def last(self) -> str | None:
        checkout = self.checkout()
        is_released = released_versions(checkout.config, "web", self.state)
        found = last_release(checkout, checkout.chart("web"), is_released)
        return found and found.name


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


def test_a_tag_that_was_moved_ends_no_list(releases: Releases) -> None:
    """With a record of promote, and without any."""
    for version, with_record in (("1.0.0", False), ("1.1.0", True)):
        tagged = releases.commit(version)
        releases.repo.tag(f"web-{version}", tagged)
        if with_record:
            releases.promoted(version, releases.packed())
        else:
            releases.production.publish(releases.packed())
        releases.commit("2.0.0", "pushed: true\n")
        assert releases.last() == f"web-{version}"
    pushed = releases.commit("1.1.0", "pushed: true\n")
    releases.repo.git("tag", "-f", "web-1.1.0", pushed)
    releases.commit("2.0.0", "pushed: true\n")
    assert releases.last() == "web-1.0.0"
    releases.repo.git("tag", "-f", "web-1.0.0", pushed)
    assert releases.last() is None


def test_a_tag_that_was_set_where_an_older_pipeline_published_without_one(
    releases: Releases,
) -> None:
    releases.commit("1.0.0")
    releases.production.publish(releases.packed())
    pushed = releases.commit("1.0.0", "pushed: true\n")
    releases.repo.tag("web-1.0.0", pushed)
    releases.commit("2.0.0", "pushed: true\n")
    assert releases.last() is None


def test_the_archive_may_differ_from_the_tag_where_promote_says_so(releases: Releases) -> None:
    """As where references of images are set; and where `helm package` wrote Chart.yaml anew."""
    tagged = releases.commit("1.0.0")
    releases.repo.tag("web-1.0.0", tagged)
    releases.promoted("1.0.0", releases.packed(values=b"a: replaced\n"))
    tagged = releases.commit("1.1.0")
    releases.repo.tag("web-1.1.0", tagged)
    written = b"apiVersion: v2\nname: web\nversion: 1.1.0\n"
    releases.production.publish(releases.packed(Chart=b"# anew\n" + written))
    releases.commit("2.0.0")
    assert releases.last() == "web-1.1.0"
    releases.commit("1.1.0")
    assert releases.last() == "web-1.0.0"


def test_a_version_that_promote_made_of_other_content_is_none_of_the_tag(
    releases: Releases, caplog: pytest.LogCaptureFixture
) -> None:
    releases.commit("1.0.0", "other: true\n")
    releases.promoted("1.0.0", releases.packed())
    tagged = releases.commit("1.0.0")
    releases.repo.tag("web-1.0.0", tagged)
    releases.commit("2.0.0")
    assert releases.last() is None
    assert "the tag web-1.0.0 is not taken for the last release" in caplog.text
    assert "has other files than it names" in caplog.text
