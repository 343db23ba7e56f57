"""OCI registries: the distribution API, manifests, copying by digest. Logins and parsed names are
in `auth`.
"""
