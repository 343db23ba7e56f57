"""Chart tests: settings, scenarios, the keys of required records, one test run in a cluster."""
