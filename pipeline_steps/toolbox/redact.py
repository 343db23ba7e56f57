"""One redactor for everything that is printed, logged, recorded or raised.

Whoever reads a secret registers it here first; every way out (process funnel, HTTP errors, records,
the error boundary) calls `redact`. Encoded forms are covered: URL-quoted, base64 at its three
alignments, JSON-escaped.
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

MASK = "[redacted]"
#: Shorter values would mask ordinary words; a password of three letters cannot be hidden in a text
#: anyway.
SHORTEST = 4

_forms: set[str] = set()
_pattern: re.Pattern[str] | None = None
#: A name alone is no secret for ssh, where records must keep it (git+ssh://git@host/…); for others
#: it may be a token.
_userinfo = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?:(?<!ssh://)[^/\s@'\"]+|[^/\s@:'\"]*:[^/\s@'\"]*)@"
)


def register(secret: str) -> str:
    """Remember `secret` for `redact` and return it unchanged."""
    global _pattern
    if len(secret) >= SHORTEST and secret not in _forms:
        _forms.update(form for form in _encodings(secret) if len(form) >= SHORTEST)
        _pattern = re.compile(
            "|".join(re.escape(form) for form in sorted(_forms, key=len, reverse=True))
        )
    return secret


def redact(text: str) -> str:
    """`text` with every registered secret and every user information in a URL masked.

    >>> redact("push to https://me:hunter2@registry.example.com/v2/")
    'push to https://[redacted]@registry.example.com/v2/'
    >>> redact("git+ssh://git@host/a ssh://me:hunter2@host/b https://token@host/c")
    'git+ssh://git@host/a ssh://[redacted]@host/b https://[redacted]@host/c'
    """
    if "@" in text:
        text = _userinfo.sub(rf"\g<scheme>{MASK}@", text)
    return _pattern.sub(MASK, text) if _pattern else text


def _encodings(secret: str) -> set[str]:
    raw = secret.encode()
    forms = {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1]}
    for before in range(3):
        # The characters at both ends also carry bits of the neighbours, so they are left out.
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        start = (0, 2, 3)[before]
        stop = len(encoded) - (1 if (len(raw) + before) % 3 else 0)
        forms.add(encoded[start:stop])
    return forms
