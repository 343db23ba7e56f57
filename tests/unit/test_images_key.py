"""An image's key: everything that shapes the image changes it, nothing else does, and it never
changes by itself.
"""

from __future__ import annotations

import pytest

from pipeline_steps.building.recipe import Recipe, former_digests
from pipeline_steps.config.language import ImageEntry
from pipeline_steps.images import dockerfile
from pipeline_steps.images.context import Context, Input
from pipeline_steps.images.ignore import Ignored
from pipeline_steps.state.record import Record

D = "sha256:" + "a" * 64
BASE = "r.example.com/base:1"
TEXT = f"FROM {BASE}\nCOPY . /\n"


def recipe(
    folder: str = "/somewhere", text: str = TEXT, kind: str = "buildx", **entry: object
) -> Recipe:
    made = dockerfile.parse(text.encode(), "app/Dockerfile", args={})
    inputs = Context((Input("hello", "file", D),), str.encode, folder)
    entry_of_app = ImageEntry(context="app", **entry)  # type: ignore[arg-type]
    return Recipe("app", entry_of_app, "sha256:content", made, inputs, Ignored(), kind)  # type: ignore[arg-type]


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


GOLDEN = recipe().key({BASE: D})


def test_it_is_what_it_was() -> None:
    """Images of former versions are found again; a change here needs a new FORMAT."""
    assert GOLDEN == "sha256:20c6ffde4294e08d22ac9ebe92a9aa7ea28d4766dd05d6f98e81cdf423c40eda"


@pytest.mark.parametrize(
    "other",
    [
        recipe(text=TEXT + "# comment"),
        recipe(kind="docker"),
        recipe(args={"A": "1"}),
        recipe(target="run"),
        recipe(platforms=("linux/amd64",)),
        recipe(secrets=("npmrc",)),
        recipe()._replace(context=Context((Input("hello", "executable", D),), str.encode)),
        recipe()._replace(context=Context((Input("hello2", "file", D),), str.encode)),
        recipe()._replace(context=Context((), str.encode)),
    ],
)
def test_everything_that_shapes_the_image_changes_it(other: Recipe) -> None:
    assert other.key({BASE: D}) != GOLDEN


def test_bases_count_by_digest_and_places_do_not_count() -> None:
    assert recipe().key({BASE: D.replace("a", "b")}) != GOLDEN
    assert recipe(folder="/elsewhere").key({BASE: D}) == GOLDEN
    assert recipe(dockerfile="other/Dockerfile").key({BASE: D}) == GOLDEN
    assert recipe()._replace(content="sha256:other").key({BASE: D}) == GOLDEN


def test_former_digests_are_used_only_when_they_cover_all_bases() -> None:
    old, new = {BASE: D}, {BASE: D.replace("a", "b")}
    assert former_digests(recipe(), [record(), record(**new), record(**old)]) == new, (
        "which counts first is first"
    )
    assert former_digests(recipe(), [record(other=D)]) is None
    assert former_digests(recipe(text="FROM scratch"), []) is None


def test_former_digests_hold_generated_files_where_the_entry_names_some() -> None:
    generated = {"generated:target/app.jar": D}
    jar = recipe(generated={"target/*.jar": ("src",)})
    assert former_digests(jar, [record(**{BASE: D}, **generated)]) == {BASE: D, **generated}
    assert former_digests(jar, [record(**{BASE: D})]) is None
    assert former_digests(recipe(), [record(**{BASE: D}, **generated)]) is None
    assert jar.key({BASE: D, **generated}) != jar.key(
        {BASE: D, "generated:target/app.jar": D.replace("a", "b")}
    )
