"""Findings as text, for systems that do not show them at their lines."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_steps.reviews.review import Finding

#: Findings in a comment, and characters of each; with these a comment is at most 12,000 longer.
_MOST, _LONGEST = 40, 240


def with_findings(text: str, findings: Sequence[Finding]) -> str:
    """A text in Markdown with the findings below it.

    They are shown as code: names of files and messages come from the review, and must not call
    people or look like our own words.

    >>> with_findings("1 failed", [Finding("web/Chart.yaml", 2, "no `version` for @team")])
    "1 failed\\n\\n- `web/Chart.yaml:2: no 'version' for @team`"
    >>> with_findings("all good", [])
    'all good'
    """
    lines = [
        f"- `{_code(f'{each.path}:{each.line}: {each.message}')}`" for each in findings[:_MOST]
    ]
    if len(findings) > _MOST:
        lines.append(f"- {len(findings) - _MOST} more")
    return "\n\n".join(filter(None, (text, "\n".join(lines))))


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())[:_LONGEST]
