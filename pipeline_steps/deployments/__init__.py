"""What `deploy` does: one release in one namespace, changed by one process at a time."""
