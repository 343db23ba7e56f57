"""Findings as the code quality report that GitLab shows in merge requests, at their lines.

Source: GitLab documentation 18, "Code Quality", section "Code Quality report format".
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

#: The name that GitLab's documentation gives the file; jobs name it in artifacts:reports:codequality.
FILE_NAME = "gl-code-quality-report.json"


def report(findings: Iterable[tuple[str, int, str]]) -> bytes:
    """The report of findings: path from the top of the source, line from 1, message.

    A fingerprint stays the same when lines move: GitLab tells by it which finding is new and which
    is gone. It has no line in it, and so counts equal messages of a file.
    """
    counts: Counter[tuple[str, str]] = Counter()
    entries = []
    for path, line, message in findings:
        counts[path, message] += 1
        identity = f"{path}\0{message}\0{counts[path, message]}"
        entries.append(
            {
                "description": message,
                "check_name": "pipeline-steps",
                "fingerprint": hashlib.sha256(identity.encode()).hexdigest(),
                "severity": "major",
                "location": {"path": path, "lines": {"begin": line}},
            }
        )
    return f"{json.dumps(entries, indent=1)}\n".encode()
