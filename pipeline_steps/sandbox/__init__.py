"""A local CI environment on one engineer's machine: registry, chart repository, cluster.

Steps know nothing about it: it only writes a configuration overlay. Everything it starts is
recorded in one folder, so that `down` leaves nothing. It never touches an engine or a cluster that
it did not create.
"""
