"""The repositories of a channel: what is published there, and what cannot be published into."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.building import channels
from pipeline_steps.building.channels import Channel, WritableChannel
from pipeline_steps.config.language import Channels, Config, ProductionChannel, SnapshotChannel
from pipeline_steps.evidence.trust import channel_locations
from pipeline_steps.repositories.kinds import open_repository_of
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError
from tests.support.charts import packed
from tests.support.records import Story, digest


def production(folder: Path, *urls: str) -> Config:
    charts = urls or ((folder / "first").as_uri(), (folder / "second").as_uri())
    channels = Channels(production=ProductionChannel(charts=charts))
    return Config(charts=(), root=folder, channels=channels)


def released(folder: Path, outputs: dict[str, str]) -> Record:
    story = Story(State(folder / "state.jsonl"))
    return story.add("promote", "hello", "a", parameters={"version": "1.0.0"}, outputs=outputs)


def test_a_channel_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"channels\.snapshot\.charts is missing \(name a repository, like"
    ):
        Channel(production(tmp_path), "snapshot")


def test_a_channel_that_is_only_read_cannot_be_opened_to_publish(tmp_path: Path) -> None:
    config = production(tmp_path, tmp_path.as_uri(), "https://charts.example.com")
    assert len(Channel(config, "production").repositories) == 2
    with pytest.raises(
        ConfigurationError, match=r"^https://charts\.example\.com: .*only read \(name one of oci://"
    ):
        WritableChannel(config, "production")


def test_what_a_record_published_is_held_until_one_repository_loses_it(tmp_path: Path) -> None:
    channel = WritableChannel(production(tmp_path), "production")
    assert not channel.has_version("hello", "1.0.0") and channel.newest("hello") is None
    record = released(tmp_path, channel.publish(packed()))
    assert set(record.outputs) == {"tar", "chart", "chart-2"}
    assert channel.has_version("hello", "1.0.0")
    newest = channel.newest("hello")
    assert newest is not None and newest.archive == packed()
    assert channel.has_recorded(record, everywhere=True)
    (tmp_path / "second/index.yaml").unlink()
    assert not channel.has_recorded(record, everywhere=True) and channel.has_recorded(
        record, everywhere=False
    )
    (tmp_path / "first/index.yaml").unlink()
    assert not channel.has_recorded(record, everywhere=False)


def test_a_record_without_an_output_for_a_repository_is_not_held_there(tmp_path: Path) -> None:
    one = WritableChannel(production(tmp_path, (tmp_path / "first").as_uri()), "production")
    record = released(tmp_path, one.publish(packed()))
    two = Channel(production(tmp_path), "production")
    assert two.has_recorded(record, everywhere=False) and not two.has_recorded(
        record, everywhere=True
    )


def test_a_version_is_free_unless_it_has_another_tar_or_differs_in_build_metadata_only(
    tmp_path: Path,
) -> None:
    channel = WritableChannel(production(tmp_path), "production")
    channel.check_version_free(packed())
    channel.publish(packed())
    channel.check_version_free(packed())
    with pytest.raises(Conflict, match="already there with another content"):
        channel.check_version_free(packed(more="description: other\n"))
    with pytest.raises(Conflict, match="only in build metadata"):
        channel.check_version_free(packed(version="1.0.0+b"))


def test_find_recorded_refuses_another_tar_and_a_lost_version(tmp_path: Path) -> None:
    channel = WritableChannel(production(tmp_path), "production")
    record = released(tmp_path, channel.publish(packed()))
    assert channels.find_recorded(record, channel.first).archive == packed()
    other = released(tmp_path, {**record.outputs, "tar": "sha256:0"})
    with pytest.raises(EvidenceError, match=r"has the tar sha256:\w+, recorded is sha256:0"):
        channels.find_recorded(other, channel.first)
    (tmp_path / "first/index.yaml").unlink()
    with pytest.raises(EvidenceError, match=r"the promote file://\S+ is gone"):
        channels.find_recorded(record, channel.first)


def test_references_in_a_folder_with_an_unusual_name_belong_to_its_channel(tmp_path: Path) -> None:
    """As Jenkins calls workspaces: `state verify` asked no index, and no record was of this channel."""
    url = f"file://{tmp_path}/my job@2"
    config = production(tmp_path, url, "git+https://h.example.com/p")
    reference = WritableChannel(production(tmp_path, url), "production").publish(packed())["chart"]
    repository = open_repository_of(reference, channels.repository_urls(config), {})
    assert repository is not None and repository.resolve("hello", "1.0.0") == reference
    here = (reference, f"git+https://h.example.com/p#gh-pages/hello-1.0.0.tgz@{digest('b')}")
    story = Story(State(tmp_path / "state.jsonl", channel_locations=channel_locations(config)))
    for place in (f"file:///elsewhere/hello-1.0.0.tgz@{digest('c')}", *here):
        story.add("promote", "hello", "a", outputs={"chart": place})
    in_order = story.state.preferred(story.state.records())
    assert {record.outputs["chart"] for record in in_order[:2]} == {*here}


def test_a_reference_belongs_to_the_longest_url_that_it_begins_with(tmp_path: Path) -> None:
    production = ProductionChannel(charts=("git+https://h/p#charts", "github-releases:o/r"))
    snapshot = SnapshotChannel(charts="github-releases:o/r-2")
    config = Config(
        charts=(), root=tmp_path, channels=Channels(snapshot=snapshot, production=production)
    )
    for reference, url in (
        ("github-releases:o/r/web-1.0.0/web-1.0.0.tgz", "github-releases:o/r"),
        ("github-releases:o/r-2/web-1.0.0/web-1.0.0.tgz", "github-releases:o/r-2"),
        ("git+https://h/p#charts/web-1.0.0.tgz@sha256:0", "git+https://h/p#charts"),
    ):
        repository = open_repository_of(reference, channels.repository_urls(config), {})
        assert repository is not None and repository.url == url
    assert (
        open_repository_of(
            "git+https://h/p#other/web-1.0.0.tgz", channels.repository_urls(config), {}
        )
        is None
    )
