"""API clients for GitHub, GitLab, Gerrit, Gitea, Launchpad: login, paging, errors. Callers know the
resources.
"""
