"""The tags of built images in a real registry: given once, never moved; and whether an image is
whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline_steps.auth.reference import Reference
from pipeline_steps.images.existing import tag_image
from pipeline_steps.oci.completeness import missing_digests
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


def test_of_many_that_name_at_once_none_moves_the_tag_of_another(running: Running) -> None:
    here = Registry(running.host, plain_http=True)
    target = Reference(running.host, PATH, "k-0123456789ab")
    digests = [push_base(here, PATH, f"pushed-{number}", b"%d" % number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(lambda digest: tag_image(here, target, digest), digests))
    for name, digest in zip(names, digests, strict=True):
        found = here.head(PATH, str(name.tag))
        assert found and found.digest == digest == name.digest


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
