"""What `merge` asks before anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import GiteaReview
from pipeline_steps.proposals import merging
from pipeline_steps.reviews.gitea import GiteaReviews
from pipeline_steps.reviews.review import Review
from pipeline_steps.toolbox.errors import ConfigurationError


def test_a_rule_that_asks_nobody_merges_nothing(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(
        "charts: [{path: charts/*}]\napprovals: {code: {count: 0}}\n"
    )
    config = load(start=tmp_path)
    # It answers nobody, and is not asked.
    system = GiteaReviews(GiteaReview(url="http://127.0.0.1:9"), "team/charts", {}, environ={})
    revision = "1" * 40
    review = Review("gitea", "1", "u", "t", "dev", "dev", "main", revision, (revision,), "open")
    with pytest.raises(ConfigurationError, match="count is 0: nobody would have to approve"):
        merging.require_approvals(config, system, review, revision)
