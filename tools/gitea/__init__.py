"""A real Gitea, a forge with pull requests, built from source, for the demo and the tests."""
