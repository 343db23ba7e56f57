"""Review systems: GitHub pull requests, Gerrit changes, Gitea pull requests, GitLab merge requests,
Launchpad merge proposals. What a verdict or an approval means stands in `reporting` and `release`.
"""
