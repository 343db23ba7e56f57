"""Releases: the proof that a content may be released, and the derived production chart."""
