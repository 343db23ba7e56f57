"""OCI registries: parsed names, logins, the distribution API, copying by digest. Nothing about charts or builds."""
