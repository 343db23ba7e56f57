"""Whole chart repositories and single chains of evidence, checked: what `audit` and `verify` stand
on.
"""
