"""OCI registries: distribution API, manifests, copying by digest. Logins and references are in
`auth`.
"""
