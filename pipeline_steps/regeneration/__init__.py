"""Fill chart repositories from tags or from other repositories: the work of `regenerate`."""
