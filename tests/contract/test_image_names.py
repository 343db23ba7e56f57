"""The tags of built images in a real registry: given once, never moved; and whether an image is
whole.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline_steps.auth.reference import Reference
from pipeline_steps.images.existing import tag_image
from pipeline_steps.oci.claim import put_tag_once
from pipeline_steps.oci.completeness import missing_digests
from pipeline_steps.oci.manifest import Descriptor
from pipeline_steps.oci.registry import Registry
from pipeline_steps.toolbox.errors import MachineError
from tests.support.images import push_base
from tests.support.registries import Running, registry

PATH = "snap/app"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with registry(tmp_path / "registry") as running:
        yield running


def test_a_free_tag_is_given_an_equal_digest_confirms_it_and_another_stands_beside(
    running: Running,
) -> None:
    here = Registry(running.host, plain_http=True)
    target = Reference(running.host, PATH, "k-0123456789ab")
    one, two = (push_base(here, PATH, f"pushed-{text}", text.encode()) for text in ("one", "two"))
    for _ in range(2):
        assert tag_image(here, target, one) == target._replace(digest=one)
    beside = target._replace(tag=f"k-0123456789ab-{two[7:15]}")
    for _ in range(2):
        assert tag_image(here, target, two) == beside._replace(digest=two)
    assert [
        getattr(here.head(PATH, str(name.tag)), "digest", None) for name in (target, beside)
    ] == [one, two]
    with pytest.raises(MachineError, match="which is not there"):
        tag_image(here, target._replace(tag="k-other"), f"sha256:{'0' * 64}")


class Together(Registry):
    """A registry's client that first lists tags when `number` of its kind are about to: the claims
    of all are there then.
    """

    def __init__(self, host: str, barrier: threading.Barrier) -> None:
        super().__init__(host, plain_http=True)
        self.barrier: threading.Barrier | None = barrier

    def tags(self, path: str) -> list[str]:
        if self.barrier:
            self.barrier.wait(30)
            self.barrier = None
        return super().tags(path)


@pytest.mark.parametrize(
    "contents", [(1, 2), (1, 2, 3, 4, 5, 6), (1, 1), (1, 1, 2), (1, 1, 2, 2)], ids=str
)
def test_of_many_that_name_at_once_one_gets_the_tag(
    running: Running, contents: tuple[int, ...]
) -> None:
    """All saw each other's claims and went away: the tag of the key was never set."""
    here = Registry(running.host, plain_http=True)
    target = Reference(running.host, PATH, "k-0123456789ab")
    digests = [push_base(here, PATH, f"pushed-{number}", b"%d" % number) for number in contents]
    barrier = threading.Barrier(len(contents))
    with ThreadPoolExecutor(len(contents)) as pool:
        clients = [Together(running.host, barrier) for _ in contents]
        names = list(pool.map(tag_image, clients, [target] * len(contents), digests))
    for name, digest in zip(names, digests, strict=True):
        current = here.head(PATH, str(name.tag))
        assert current and current.digest == digest == name.digest
    tagged = here.head(PATH, str(target.tag))
    assert tagged
    for name, digest in zip(names, digests, strict=True):
        assert (name.tag == target.tag) is (digest == tagged.digest), "all others stand beside"


class Asking(Registry):
    """A registry's client that remembers of which names it asked what they are."""

    def __init__(self, host: str) -> None:
        super().__init__(host, plain_http=True)
        self.asked: list[str] = []

    def head(self, path: str, name: str) -> Descriptor | None:
        self.asked.append(name)
        return super().head(path, name)


def test_a_publisher_that_comes_late_waits_for_the_first(running: Running) -> None:
    """Its content would be first by name, and the first one has looked round already."""
    here = Registry(running.host, plain_http=True)
    digests = sorted(push_base(here, PATH, f"pushed-{n}", b"%d" % n) for n in range(2))
    late, first = digests
    manifest = here.manifest(PATH, first)
    assert manifest
    here.put_manifest(
        PATH, f"claim-k-0123456789ab-{first[7:19]}-00000000", manifest.body, manifest.media_type
    )
    with ThreadPoolExecutor(1) as pool:
        target = Reference(running.host, PATH, "k-0123456789ab")
        publisher = Asking(running.host)
        named = pool.submit(tag_image, publisher, target, late)
        # Once before its claim, once before it looks whether it is the first, and again.
        while not named.done() and publisher.asked.count(str(target.tag)) < 3:
            time.sleep(0.02)
        assert not named.done() and here.head(PATH, str(target.tag)) is None
        here.put_manifest(PATH, str(target.tag), manifest.body, manifest.media_type)
        assert named.result(30).tag == f"{target.tag}-{late[7:15]}"


def test_a_publisher_that_was_killed_is_not_waited_for_for_ever(running: Running) -> None:
    here = Registry(running.host, plain_http=True)
    tag = "k-0123456789ab"
    killed, ours = (push_base(here, PATH, f"pushed-{n}", b"%d" % n) for n in range(2))
    manifests = {digest: here.manifest(PATH, digest) for digest in (killed, ours)}
    dead, living = manifests[killed], manifests[ours]
    assert dead and living
    here.put_manifest(PATH, f"claim-{tag}-{killed[7:19]}-00000000", dead.body, dead.media_type)
    assert put_tag_once(here, PATH, tag, living, patience=0.5) is None
    assert here.head(PATH, tag) is None, "nobody knows whether it is going to put it"


def test_what_is_lost_of_an_image_is_named_down_to_its_layers(running: Running) -> None:
    here = Registry(running.host, plain_http=True)
    digest = push_base(here, PATH, "1", b"base")
    assert missing_digests(here, PATH, digest) == []
    manifest = here.manifest(PATH, digest)
    assert manifest
    for blob in manifest.blobs:
        shutil.rmtree(
            running.folder
            / f"data/docker/registry/v2/repositories/{PATH}/_layers/sha256/{blob.digest[7:]}"
        )
        assert blob.digest in missing_digests(here, PATH, digest)
    assert missing_digests(here, PATH, f"sha256:{'0' * 64}") == [f"sha256:{'0' * 64}"]
