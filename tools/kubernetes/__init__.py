"""A real Kubernetes of one node, built from source, for the demo and the tests."""
