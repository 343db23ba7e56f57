"""APIs of GitHub, GitLab, Gerrit, Launchpad: login, paging, errors. What is asked of them does not
belong here.
"""
