"""The redactor for everything that is printed, logged, recorded or raised.

Whoever reads a secret registers it here first; every way out (process funnel, HTTP errors, records,
the error boundary) calls `redact`. Encoded forms are covered: URL-quoted, base64 at its three
alignments and in lines of any width, JSON-escaped. So are credentials in URLs that nobody
registered. `printable` also takes what would obey a terminal out of foreign texts.
"""

from __future__ import annotations

import base64
import bisect
import itertools
import json
import re
from urllib.parse import quote

MASK = "[redacted]"
#: Shorter values would mask ordinary words; a password of three letters cannot be hidden in a text
#: anyway.
SHORTEST = 4


class _Forms(set[str]):
    """Forms of secrets, and one pattern for all of them, compiled when a text is first searched."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None

    def add_all(self, forms: set[str]) -> None:
        self.update(form for form in forms if len(form) >= SHORTEST)
        self._pattern = None

    @property
    def pattern(self) -> re.Pattern[str]:
        if self._pattern is None:
            longest_first = sorted(self, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return self._pattern


_forms, _base64_forms = _Forms(), _Forms()
#: A name alone is no secret for ssh, where records must keep it (git+ssh://git@host/…); for others
#: it may be a token.
_userinfo = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?:(?<!ssh://)[^/\s@'\"]+|[^/\s@:'\"]*:[^/\s@'\"]*)@"
)

#: A parameter of a URL whose name says that it is a secret (GitLab's private_token, signatures of
#: object stores).
_parameter = re.compile(
    r"(?P<name>[?&;][\w.-]{0,40}(?:token|secret|passw|signature|sig|key|credential|auth)[\w.-]{0,40}=)"
    r"[^&;#\s'\"<>)]+",
    re.IGNORECASE,
)
#: Ends of lines as they are or JSON-escaped, and what lies between them and blanks.
_line_end = re.compile(r"[\r\n]|\\[rn]")
_word = re.compile(r"(?:\s|\\[rn])*((?:(?!\\[rn])\S)+)")
#: What no page and no terminal shows as it is: control characters but tab and line ends, what turns
#: the direction of the text around it, and halves of surrogate pairs, which are no text.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    r"|\r(?!\n)"
)


def register(secret: str) -> str:
    """Remember `secret` for `redact` and return it unchanged."""
    if len(secret) >= SHORTEST and secret not in _forms:
        in_base64 = _in_base64(secret)
        _forms.add_all(_encodings(secret) | in_base64)
        _base64_forms.add_all(in_base64)
    return secret


def redact(text: str) -> str:
    """`text` with every registered secret masked, and user information and secret parameters of
    URLs.

    >>> redact("push to https://me:hunter2@registry.example.com/v2/")
    'push to https://[redacted]@registry.example.com/v2/'
    >>> redact("git+ssh://git@host/a ssh://me:hunter2@host/b https://token@host/c")
    'git+ssh://git@host/a ssh://[redacted]@host/b https://[redacted]@host/c'
    """
    if "=" in text:
        text = _parameter.sub(rf"\g<name>{MASK}", text)
    if "@" in text:
        text = _userinfo.sub(rf"\g<scheme>{MASK}@", text)
    if _base64_forms and _line_end.search(text):
        text = _mask_wrapped(text)
    return _forms.pattern.sub(MASK, text) if _forms else text


def _mask_wrapped(text: str) -> str:
    """`text` without base64 of secrets that has blanks and ends of lines in it."""
    words = [*_word.finditer(text)]
    offsets = [0, *itertools.accumulate(len(word[1]) for word in words)]

    def place(offset: int) -> int:
        number = bisect.bisect_right(offsets, offset) - 1
        return words[number].start(1) + offset - offsets[number]

    unwrapped = "".join(word[1] for word in words)
    for match in reversed([*_base64_forms.pattern.finditer(unwrapped)]):
        text = f"{text[: place(match.start())]}{MASK}{text[place(match.end() - 1) + 1 :]}"
    return text


def printable(text: str, *, lines: bool = True) -> str:
    r"""`text` without secrets, and with "�" for what would not stay in its place on a page or obey
    a terminal.

    lines: keep tabs and the ends of lines.

    >>> printable("a\x1b[1m\u202eb\nc"), printable("a\nb", lines=False)
    ('a�[1m�b\nc', 'a�b')
    """
    text = _CONTROL.sub("�", redact(text))
    return text if lines else re.sub(r"[\t\r\n]", "�", text)


def _encodings(secret: str) -> set[str]:
    raw = _bytes(secret)
    return {secret, quote(raw, safe=""), quote(raw), json.dumps(secret)[1:-1]}


def _in_base64(secret: str) -> set[str]:
    raw, forms = _bytes(secret), set()
    for before in range(3):
        # The characters at both ends also carry bits of the neighbours, so they are left out.
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        start = (0, 2, 3)[before]
        stop = len(encoded) - (1 if (len(raw) + before) % 3 else 0)
        forms.add(encoded[start:stop])
    return forms


def _bytes(secret: str) -> bytes:
    """What the secret was read from; variables and files may hold others than UTF-8."""
    return secret.encode(errors="surrogateescape")
