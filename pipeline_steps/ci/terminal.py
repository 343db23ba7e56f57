"""No CI at all: a person's shell."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.ci.facts import Build


def build(environ: Mapping[str, str]) -> Build:
    """Nothing is known about the build here; tag, branch and revision come from the checkout and the options."""
    return Build("terminal")
