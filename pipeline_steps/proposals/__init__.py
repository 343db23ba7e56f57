"""Proposed revisions on this machine: their checkout, what must hold before they are merged, and
the merge for review systems that make none.
"""
