"""Pinned programs and Debian packages for the demo and the tests."""
