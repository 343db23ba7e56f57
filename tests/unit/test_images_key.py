"""An image's key: everything that shapes the image changes it, nothing else does, and it never
changes by itself.
"""

from __future__ import annotations

import pytest

from pipeline_steps.building.build_definition import BuildDefinition, digests_from_record
from pipeline_steps.config.language import ImageEntry
from pipeline_steps.images import dockerfile
from pipeline_steps.images.context import Context, Input
from pipeline_steps.images.ignore import IgnoreRules
from pipeline_steps.state.record import Record

D = "sha256:" + "a" * 64
BASE = "r.example.com/base:1"
TEXT = f"FROM {BASE}\nCOPY . /\n"


def definition(
    folder: str = "/somewhere", text: str = TEXT, kind: str = "buildx", **entry: object
) -> BuildDefinition:
    made = dockerfile.parse(text.encode(), "app/Dockerfile", args={})
    inputs = Context((Input("hello", "file", D),), str.encode, folder)
    entry_of_app = ImageEntry(context="app", **entry)  # type: ignore[arg-type]
    return BuildDefinition("app", entry_of_app, "sha256:content", made, inputs, IgnoreRules(), kind)  # type: ignore[arg-type]


def record(**inputs: str) -> Record:
    return Record(
        schema=1,
        id="x",
        step="build_image",
        subject="app",
        key="k",
        result="passed",
        started="",
        inputs=inputs,
    )


GOLDEN = definition().image_key({BASE: D})


def test_it_is_what_it_was() -> None:
    """Images of former versions are found again; a change here needs a new FORMAT."""
    assert GOLDEN == "sha256:20c6ffde4294e08d22ac9ebe92a9aa7ea28d4766dd05d6f98e81cdf423c40eda"


@pytest.mark.parametrize(
    "other",
    [
        definition(text=TEXT + "# comment"),
        definition(kind="docker"),
        definition(args={"A": "1"}),
        definition(target="run"),
        definition(platforms=("linux/amd64",)),
        definition(secrets=("npmrc",)),
        definition()._replace(context=Context((Input("hello", "executable", D),), str.encode)),
        definition()._replace(context=Context((Input("hello2", "file", D),), str.encode)),
        definition()._replace(context=Context((), str.encode)),
    ],
)
def test_everything_that_shapes_the_image_changes_it(other: BuildDefinition) -> None:
    assert other.image_key({BASE: D}) != GOLDEN


def test_bases_count_by_digest_and_places_do_not_count() -> None:
    assert definition().image_key({BASE: D.replace("a", "b")}) != GOLDEN
    assert definition(folder="/elsewhere").image_key({BASE: D}) == GOLDEN
    assert definition(dockerfile="other/Dockerfile").image_key({BASE: D}) == GOLDEN
    assert definition()._replace(content="sha256:other").image_key({BASE: D}) == GOLDEN


def test_former_digests_are_used_only_when_they_cover_all_bases() -> None:
    old, new = {BASE: D}, {BASE: D.replace("a", "b")}
    assert digests_from_record(definition(), [record(), record(**new), record(**old)]) == new, (
        "which counts first is first"
    )
    assert digests_from_record(definition(), [record(other=D)]) is None
    assert digests_from_record(definition(text="FROM scratch"), []) is None


def test_former_digests_hold_generated_files_where_the_entry_names_some() -> None:
    generated = {"generated:target/app.jar": D}
    jar = definition(generated={"target/*.jar": ("src",)})
    assert digests_from_record(jar, [record(**{BASE: D}, **generated)]) == {BASE: D, **generated}
    assert digests_from_record(jar, [record(**{BASE: D})]) is None
    assert digests_from_record(definition(), [record(**{BASE: D}, **generated)]) is None
    assert jar.image_key({BASE: D, **generated}) != jar.image_key(
        {BASE: D, "generated:target/app.jar": D.replace("a", "b")}
    )
