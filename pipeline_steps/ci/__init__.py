"""What the CI system around a step says about its build, read from environment variables; no network."""
