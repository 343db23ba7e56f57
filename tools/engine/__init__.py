"""A docker engine and a buildkitd of their own, for the demo and the tests."""
