"""What CI has, on one engineer's machine: registry, chart repository, a cluster.

Steps know nothing of it: it only writes a configuration overlay. Everything it starts and makes is
recorded below one folder, so that `down` leaves nothing. It never touches an engine or a cluster it
did not make.
"""
