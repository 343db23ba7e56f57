"""The lock for large libraries that are imported where they are used.

Python locks imports module by module and lets a thread see a module half loaded where waiting would
be a deadlock. Two threads that enter the same circular imports at different modules (the Docker and
the Kubernetes client both bring `requests`) then fail with "partially initialized module".
"""

from __future__ import annotations

import threading

#: Held while a large library is imported for the first time in a process.
LATE_IMPORT = threading.RLock()
