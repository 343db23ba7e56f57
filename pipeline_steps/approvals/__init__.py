"""Approvals: whose votes count, what of the mainline they cover, and which are missing."""
