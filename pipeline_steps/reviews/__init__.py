"""Review systems: which review is this, at which revision, set its verdict, keep one comment, read approvals, merge.

One Protocol, one file for each system (github, gitlab, gerrit, launchpad), which talks to it through `services`.
What the verdict is does not belong here (`core.verdict`), nor how it looks (`core.verdict_page`).
"""
