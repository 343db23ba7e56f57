"""Access to registries and repositories: hosts, logins, tokens, and references."""
