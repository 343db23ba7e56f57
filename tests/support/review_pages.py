"""Pages of verdicts, and such whose every text must not be understood by whoever shows a review."""

from __future__ import annotations

from pipeline_steps.reporting.report_page import Page
from pipeline_steps.reporting.review_text import About
from pipeline_steps.reporting.verdict import ChartVerdict
from pipeline_steps.testing.requirements import Requirement
from pipeline_steps.workspace.chart import Chart

HEAD = "1" * 40
HOSTILE = (
    "<script>alert(1)</script>",
    "<!-- pipeline-steps: pipeline-steps -->",
    "[x](javascript:alert(1)) ![x](http://evil.example.com/x.png)",
    "@all @channel @somebody",
    "#1 GH-1 owner/repo#1 !1 fixes #7",
    "https://evil.example.com/ www.evil.example.com",
    "```\n# big\n```",
    "`a` ``b`` ``` c",
    "a | b\n\n---\n\n- c",
    "</details></summary>",
    "\x1b[31mred\x1b[0m \u202eabc\r\n\x00",
    "$(touch P) `touch P` ;touch P",
)


def chart(name: str = "web") -> Chart:
    content = f"sha256:{'c' * 64}"
    return Chart(name, "charts/web", "1.2.0", "", "application", None, (), (), content, "", (), (), ())  # fmt: skip


def page(*requirements: Requirement, name: str = "web", **more: object) -> Page:
    verdict = ChartVerdict(
        chart(name),
        f"oci://registry.example.com/charts/web:1.2.0-0.0.tabc@sha256:{'d' * 16}",
        {"backend": f"registry.example.com/x/backend:k-1@sha256:{'e' * 16}"},
        requirements,
    )
    build = "https://ci.example.com/job/7/"
    return Page([verdict], HEAD, build, started=False)._replace(**more)  # type: ignore[arg-type]


def hostile_page(text: str) -> Page:
    """A page on which everything that comes from outside says `text`, but the build's URL."""
    failed = Requirement(text, text, "failed", 1, text)
    report = page(failed, name=text, notices=[text], gaps=[text], diffs={text: text}, build="")
    verdict = report.verdicts[0]._replace(snapshot=text, images={text: text}, notice=text)
    return report._replace(verdicts=[verdict])


def hostile_about(text: str) -> About:
    return About(text, f"{text}.", text, text, commands=("true",), folded=True)
