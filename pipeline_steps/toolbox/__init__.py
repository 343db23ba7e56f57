"""Processes, HTTP, files, redaction, the clock: the only places that touch them. Nothing here knows
the domain.
"""
