"""How charts are tested: settings, scenarios, the keys of required records, one test run in a
cluster.
"""
