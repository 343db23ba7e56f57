"""Checks of whole chart repositories and of chains of evidence, for `audit` and `verify`."""
