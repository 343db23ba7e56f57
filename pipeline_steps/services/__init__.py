"""API clients for GitHub, GitLab, Gerrit, Launchpad: login, paging, errors. Callers know the
resources.
"""
