"""Chart repositories filled from tags or from other repositories: what `regenerate` stands on."""
