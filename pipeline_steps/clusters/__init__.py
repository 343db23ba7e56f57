"""Clusters and what runs in them: helm as a program, the Kubernetes API, namespaces, watching,
diagnosing.

Nothing here knows steps, records or configuration files, and nothing ever uses "the current
context": a cluster is always given as a `Connection`.
"""
