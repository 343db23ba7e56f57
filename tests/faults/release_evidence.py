"""X1, X2: only records of believed builds count, whatever tags, files and channels hold."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

from pipeline_steps.charts.archive import pack
from pipeline_steps.oci.registry import Registry
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.repositories.repository import Writable
from tests.faults.release_runs import (
    AFTER,
    BEFORE,
    GIT,
    TAG_BUILD,
    Case,
    Ended,
    add_ignored,
    builders,
    image_files,
    passed,
    published,
    refused,
    release,
    with_image,
)
from tests.faults.same import CLOCK
from tests.support import images
from tests.support.release_line import CHART, MAP, Line


def tag_on_other_content(line: Line) -> str:
    line.repo.tag("common-1.0.0", line.repo.commit())
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    return refused(release(line), 5, "a tag is never moved")


def failed_gate(line: Line) -> str:
    line.configure(", requires: [check, integration_test, scan]")
    line.repo.commit()
    line.run("record", "--name", "scan", "--subject", "common", "--", "false")
    return refused(release(line), 4, "scan")


def state_that_the_source_stores(line: Line) -> str:
    line.tested()
    add_ignored(line, ".pipeline/state.jsonl")
    line.repo.commit()
    return refused(release(line), 2, "the source tracks this state file")


def state_that_the_source_stores_beside_a_store(line: Line) -> str:
    """What it says of the content is handed to no store that releases believe."""
    line.tested()
    store = _stores(line, believed="believed", own="believed")
    add_ignored(line, ".pipeline/state.jsonl")
    line.repo.commit()
    wrong = refused(release(line), 2, "the source tracks this state file")
    return wrong or (f"{store} has records" if store.exists() else "")


def tag_moved_to_another_commit(line: Line) -> str:
    """After tag_release somebody moves the tag to what nobody tested."""
    if wrong := refused(release(line, skip=["promote"]), 0, ""):
        return wrong
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    line.repo.git("tag", "--force", "common-1.0.0")
    done = line.run("promote", "--tag", "common-1.0.0")
    return refused(Ended(done.returncode, done.stderr, published(line)), 4, "no record of check")


def records_of_another_build(line: Line) -> str:
    line.tested()
    line.repo.git("tag", "common-1.0.0")
    return refused(release(line, **TAG_BUILD), 4, "not of this build")


def withdrawn(line: Line) -> str:
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f"{text}release: {{withdrawn: [common-1.0.0]}}\n")
    line.repo.commit()
    return refused(release(line), 5, "is withdrawn")


def state_file_given_by_option(line: Line) -> str:
    line.tested()
    line.repo.put("kept/state.jsonl", (line.repo.root / ".pipeline/state.jsonl").read_bytes())
    line.repo.commit()
    ended = release(line, "--state", "kept/state.jsonl")
    return refused(ended, 2, "the source tracks this state file")


def staged_state_file(line: Line) -> str:
    line.tested()
    add_ignored(line, ".pipeline/state.jsonl")
    return refused(release(line), 2, "the source tracks this state file")


def record_in_a_store_that_no_release_believes(line: Line) -> str:
    stores = _stores(line, believed="believed", own="of-reviews")
    line.repo.commit()
    release(line, skip=AFTER)
    shutil.rmtree(line.repo.root / ".pipeline")
    line.repo.git("tag", "common-1.0.0")
    ended = release(line, skip=[*BEFORE, "tag_release"], **TAG_BUILD)
    return "" if stores.is_dir() and not refused(ended, 4, "no record") else str(ended)


def _stores(line: Line, *, believed: str, own: str) -> Path:
    """Configure evidence stores; the folder of the one that is written."""
    line.configure(f', evidence: ["file://{line.folder}/{believed}"]')
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f'{text}evidence: "file://{line.folder}/{own}"\n')
    return line.folder / own


def image_planted_under_the_tag_of_its_key(line: Line) -> str:
    """Another checkout finds the tag that it would give its own image on somebody else's."""
    with_image(line)
    line.ok("build_image", "--chart", "common", **builders())
    output = line.records("build_image")[-1]["outputs"]["image"]
    tag = output.partition("@")[0].rpartition(":")[2]
    shutil.rmtree(line.repo.root / ".pipeline")
    api = Registry(line.host, plain_http=True)
    planted = images.push_base(api, "snap/app", tag, b"planted")
    ended = release(line)
    if wrong := passed(ended):
        return wrong
    head = api.head("snap/app", tag)
    if head is None or head.digest != planted:
        return "the tag was moved"
    return "" if "app/hello" in image_files(line) else "the planted image was released"


def tag_of_an_image_moved_after_its_test(line: Line) -> str:
    """Somebody moves the k- tag of what was tested: what is released was recorded by its digest."""
    with_image(line)
    if before := release(line, skip=AFTER).words:
        return before
    output = line.records("build_image")[-1]["outputs"]["image"]
    api, tag = Registry(line.host, plain_http=True), output.partition("@")[0].rpartition(":")[2]
    images.push_base(api, "snap/app", tag, b"planted")
    moved = line.run("state", "verify")
    if moved.returncode != 4 or "changed: build_image of app (" not in moved.stdout:
        return f"state verify: exit {moved.returncode}: {moved.stdout[-300:]}"
    ended = release(line, skip=BEFORE)
    return passed(ended) or (
        "" if "app/hello" in image_files(line) else "the planted image was released"
    )


def chart_planted_under_the_version_of_a_snapshot(line: Line) -> str:
    """A channel holds another chart under the version that this content's snapshot gets."""
    overlay = line.folder / "elsewhere.yaml"
    (line.folder / "elsewhere").mkdir()
    overlay.write_text(f'channels: {{snapshot: {{charts: "file://{line.folder}/elsewhere"}}}}\n')
    line.ok("snapshot", "--chart", "common", "--config", str(overlay))
    version = line.records("snapshot")[-1]["parameters"]["version"]
    shutil.rmtree(line.repo.root / ".pipeline")
    chart = {"Chart.yaml": CHART.format(version=version).encode(), "templates/map.yaml": b"a: b\n"}
    repository = open_repository(f"{line.base}/snapshots", {})
    assert isinstance(repository, Writable)
    repository.publish(pack(chart))
    return refused(release(line), 5, version)


def contradiction(line: Line) -> str:
    """A required program passed on one agent and failed on another, neither knowing of the other."""
    line.configure(", requires: [check, integration_test, scan]")
    line.repo.commit()
    for number, program in enumerate(("true", "false")):
        place = line.folder / f"agent{number}/state.jsonl"
        place.parent.mkdir()
        scan = ("record", "--name", "scan", "--subject", "common", "--state", str(place))
        line.run(*scan, "--", program)
        line.repo.put(f".pipeline/state.agent{number}.jsonl", place.read_bytes())
    return refused(release(line), 4, "scan")


def approval_that_nobody_can_be_asked_for(line: Line) -> str:
    line.configure(", requires: [check, integration_test, approval.code]")
    line.repo.commit()
    # Where reviews exist, the system is missing; Subversion has none at all.
    reason = "no review system is configured" if line.system != "svn" else "svn has no reviews"
    return refused(release(line), 2, reason)


def tag_made_by_hand(line: Line) -> str:
    line.tested()
    line.repo.tag("common-1.0.0", line.repo.commit())
    done = line.run("promote", "--tag", "common-1.0.0")
    return passed(Ended(done.returncode, done.stderr, published(line)))


def tag_build_that_finds_the_tests_in_a_store(line: Line) -> str:
    """The branch was tested on another agent; the build of the tag has nothing but the store."""
    _stores(line, believed="believed", own="believed")
    line.repo.commit()
    release(line, skip=AFTER)
    shutil.rmtree(line.repo.root / ".pipeline")
    line.repo.git("tag", "common-1.0.0")
    return passed(release(line, skip=[*BEFORE, "tag_release"], **TAG_BUILD))


def clones_with_channels_of_their_own(line: Line) -> str:
    """Two sandboxes and one store: what one has in its channel blocks nothing in the other."""
    text = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f'{text}evidence: "file://{line.folder}/store"\n')
    line.repo.commit()
    overlay = line.folder / "own.yaml"
    (line.folder / "own").mkdir()
    overlay.write_text(f'channels: {{snapshot: {{charts: "file://{line.folder}/own"}}}}\n')
    for place, more in ((line, ()), (line.clone("clone"), ("--config", str(overlay)))):
        ended = release(place, *more, skip=AFTER)
        if ended.code:
            return f"exit {ended.code}: {ended.words.strip()[-500:]}"
    return passed(release(line))


def gate_repeated_by_an_agent_with_a_slow_clock(line: Line) -> str:
    line.configure(", requires: [check, integration_test, scan]")
    line.repo.commit()
    scan = ("record", "--name", "scan", "--subject", "common")
    line.run(*scan, "--", "false")
    line.ok(*scan, "--", "true", LD_PRELOAD=CLOCK, FAKETIME="-3d")
    return passed(release(line))


def two_agents_that_build_one_image(line: Line) -> str:
    """At the same time, each in a checkout of its own, with one registry and one store."""
    with_image(line, more=f'evidence: "file://{line.folder}/store"\n')
    clones = [line, line.clone("clone")]
    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(_built, clones))
    if any(done.returncode for done in built):
        return str([done.stderr[-300:] for done in built])
    return passed(release(clones[1]))


def _built(line: Line) -> CompletedProcess[str]:
    return line.run("build_image", "--chart", line.chart, **builders())


def lost_archive_of_a_release(line: Line) -> str:
    """verify names what is lost, promote puts it there again with the same bytes."""
    if wrong := passed(before := release(line)):
        return wrong
    reference = line.records("promote")[-1]["outputs"]["chart"]
    if line.base.startswith("file://"):
        (line.folder / "charts/common-1.0.0.tgz").unlink()
    else:
        lose_blobs(line, "charts/common")
    lost = line.run("verify", reference)
    if lost.returncode != 4:
        return f"verify: exit {lost.returncode}: {lost.stderr[-300:]}"
    return _healed(line, before, reference)


def lost_archive_of_a_snapshot(line: Line) -> str:
    """snapshot puts it there again, and what was tested with it is released."""
    line.tested()
    if line.base.startswith("file://"):
        [archive] = (line.folder / "snapshots").glob("*.tgz")
        archive.unlink()
    else:
        lose_blobs(line, "snapshots/common")
    advice = "run build_image, snapshot and integration_test"
    if wrong := refused(release(line, skip=BEFORE), 4, advice):
        return wrong
    tests = len(line.records("integration_test"))
    if wrong := passed(release(line, skip=("check", "build_image"))):
        return wrong
    again = len(line.records("integration_test")) - tests
    return f"{again} tests ran again" if again else ""


def lost_layer_of_a_released_image(line: Line) -> str:
    with_image(line)
    if wrong := passed(before := release(line)):
        return wrong
    reference = line.records("promote")[-1]["outputs"]["chart"]
    lose_blobs(line, "production/app")
    lost = line.run("verify", reference)
    if lost.returncode != 4 or "image:app" not in lost.stderr:
        return f"verify: exit {lost.returncode}: {lost.stderr[-300:]}"
    return _healed(line, before, reference)


def _healed(line: Line, before: Ended, reference: str) -> str:
    after = release(line, skip=[*BEFORE, "tag_release"])
    if wrong := passed(after):
        return wrong
    if after.published != before.published:
        return "another archive is published"
    whole = line.run("verify", reference)
    return "" if whole.returncode == 0 else f"still not whole: {whole.stderr[-300:]}"


def lose_blobs(line: Line, path: str) -> None:
    """Take all configurations and layers of a repository from the registry, not its manifests."""
    place = line.folder / f"registry/data/docker/registry/v2/repositories/{path}/_layers/sha256"
    shutil.rmtree(place)


MUST_NOT = (
    Case("a tag on other content", tag_on_other_content),
    Case("a required program that failed", failed_gate),
    Case("a required program that passed here and failed there", contradiction),
    Case("a required approval without a review system", approval_that_nobody_can_be_asked_for),
    Case("a state file that the source stores", state_that_the_source_stores),
    Case("a state file that the source stores, by --state", state_file_given_by_option),
    Case("a state file that is staged", staged_state_file),
    Case(
        "a state file that the source stores, beside a believed store",
        state_that_the_source_stores_beside_a_store,
    ),
    Case("a tag moved to another commit", tag_moved_to_another_commit, GIT),
    Case("what another build left in the workspace of a tag build", records_of_another_build, GIT),
    Case(
        "records in a store that no release believes",
        record_in_a_store_that_no_release_believes,
        GIT,
    ),
    Case("an image planted under the tag of its key", image_planted_under_the_tag_of_its_key),
    Case("a k- tag moved after the test", tag_of_an_image_moved_after_its_test),
    Case(
        "a chart planted under a snapshot's version", chart_planted_under_the_version_of_a_snapshot
    ),
    Case("a withdrawn version", withdrawn),
)
MAY = (
    Case("a tag made by hand", tag_made_by_hand),
    Case(
        "the build of a tag that finds the tests in a store",
        tag_build_that_finds_the_tests_in_a_store,
        GIT,
    ),
    Case(
        "a gate repeated by an agent with a slow clock", gate_repeated_by_an_agent_with_a_slow_clock
    ),
    Case("two agents that build one image", two_agents_that_build_one_image, GIT),
    Case("two clones with channels of their own", clones_with_channels_of_their_own, GIT),
    Case("the archive of a release was lost", lost_archive_of_a_release),
    Case("the archive of a tested snapshot was lost", lost_archive_of_a_snapshot),
    Case("a layer of a released image was lost", lost_layer_of_a_released_image),
)
