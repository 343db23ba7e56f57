"""Helm charts as files and bytes: read, edited, versioned, packed, compared. No network, no helm,
no source system.
"""
