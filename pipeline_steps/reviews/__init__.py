"""Review systems: GitHub pull requests, Gerrit changes, Gitea pull requests, GitLab merge requests,
Launchpad merge proposals. What a verdict says is decided in `reporting`, whose votes
count in `approvals`.
"""
