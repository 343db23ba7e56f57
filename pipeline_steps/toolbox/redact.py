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

    def begun(self, text: str) -> dict[str, int]:
        """Forms that begin at the end of `text` → how many of their characters are there."""
        begun = {}
        for form in self:
            tail = text[-(len(form) - 1) :]
            start = tail.find(form[0])
            while start >= 0 and not form.startswith(tail[start:]):
                start = tail.find(form[0], start + 1)
            if start >= 0:
                begun[form] = len(tail) - start
        return begun


_forms, _base64_forms, _forms_of_lines = _Forms(), _Forms(), _Forms()
#: A name alone is no secret for ssh, where records must keep it (git+ssh://git@host/…); for others
#: it may be a token. Of the scheme its last character is enough: from each letter of a long word to
#: its end would take minutes.
_userinfo = re.compile(
    r"(?P<scheme>[a-zA-Z0-9+.-]://)(?:(?<!ssh://)[^/\s@'\"]+|[^/\s@:'\"]*:[^/\s@'\"]*)@"
)

#: A parameter of a URL whose name says that it is a secret (GitLab's private_token, signatures of
#: object stores).
_parameter = re.compile(
    r"(?P<name>[?&;][\w.-]{0,40}(?:token|secret|passw|signature|sig|key|credential|auth)[\w.-]{0,40}=)"
    r"[^&;#\s'\"<>)]+",
    re.IGNORECASE,
)
#: Characters behind the end of a text's beginning in which a secret that begins before it ends.
_BEHIND = 2**16
#: Ends of lines as they are or JSON-escaped, and what lies between them and blanks. BuildKit puts the
#: number of the step and the seconds before each line: "#7 0.123 ", in its summary "0.123 ".
_line_end = re.compile(r"[\r\n]|\\[rn]")
_word = re.compile(r"(?:\s|\\[rn]|(?m:^(?:#\d+ )?\d+\.\d+ ))*((?:(?!\\[rn])\S)+)")
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
        _forms_of_lines.add_all({secret} if "\n" in secret else set())
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


def beginning(text: str, most: int) -> str:
    """The first `most` characters of `text` without secrets: of one that is cut before it is masked,
    a part would stay.

    >>> beginning("push to https://me:hunter2@registry.example.com/v2/", 24)
    'push to https://[redacte'
    """
    return redact(text[: most + _BEHIND])[:most]


class LineRedactor:
    """Masks secrets in lines that arrive one by one, also those that go on in the next line.

    A line whose end may be the beginning of a secret is kept back until it is known.
    """

    #: Characters that are kept back at most. What still may be a secret then is masked.
    MOST = 2**14

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._size = 0
        #: Forms that the kept lines end with the beginning of, see `_Forms.begun`.
        self._in_base64: dict[str, int] = {}
        self._in_lines: dict[str, int] = {}

    def feed(self, line: str) -> list[str]:
        """The lines that can be shown after `line`, which has no line end."""
        if self._kept:
            self._in_base64 = _continued(self._in_base64, _Unwrapped(line).text)
            self._in_lines = _continued(self._in_lines, f"{line}\n")
        self._kept.append(line)
        self._size += len(line) + 1
        if self._size > self.MOST:
            self._keep([])
            return [MASK]
        # Only then is all of it looked at again: lines that go on cost what they are long.
        return [] if self._in_base64 or self._in_lines else self._shown()

    def end(self) -> list[str]:
        """The lines that were kept back: nothing follows."""
        lines = redact("\n".join(self._kept)).split("\n") if self._kept else []
        self._keep([])
        return lines

    def _shown(self) -> list[str]:
        """The kept lines, masked, but those from which on a secret may begin that is not whole."""
        text = redact("\n".join(self._kept))
        wrapped = _Unwrapped(text)
        in_base64, in_lines = _base64_forms.begun(wrapped.text), _forms_of_lines.begun(f"{text}\n")
        place = min(
            wrapped.place(len(wrapped.text) - max(in_base64.values())) if in_base64 else len(text),
            len(text) + 1 - max(in_lines.values(), default=1),
        )
        if place >= len(text):
            self._keep([])
            return text.split("\n")
        start = text.rfind("\n", 0, place) + 1
        self._keep(text[start:].split("\n"))
        self._in_base64, self._in_lines = in_base64, in_lines
        return text[: start - 1].split("\n") if start else []

    def _keep(self, lines: list[str]) -> None:
        self._kept, self._size = lines, sum(len(line) + 1 for line in lines)
        self._in_base64, self._in_lines = {}, {}


def _continued(begun: dict[str, int], text: str) -> dict[str, int]:
    """What of `begun` goes on through `text`; nothing when one ends in it: then all is to be
    looked at again.
    """
    if any(text.startswith(form[number:]) for form, number in begun.items()):
        return {}
    return {
        form: number + len(text) for form, number in begun.items() if form.startswith(text, number)
    }


class _Unwrapped:
    """A text without blanks and ends of lines, as base64 may have them, and places in the other."""

    def __init__(self, text: str) -> None:
        self._words = [*_word.finditer(text)]
        self._offsets = [0, *itertools.accumulate(len(word[1]) for word in self._words)]
        self.text = "".join(word[1] for word in self._words)

    def place(self, offset: int) -> int:
        """Where a character of the unwrapped text is in the other."""
        number = bisect.bisect_right(self._offsets, offset) - 1
        return self._words[number].start(1) + offset - self._offsets[number]


def _mask_wrapped(text: str) -> str:
    """`text` without base64 of secrets that has blanks and ends of lines in it."""
    wrapped = _Unwrapped(text)
    for match in reversed([*_base64_forms.pattern.finditer(wrapped.text)]):
        start, last = wrapped.place(match.start()), wrapped.place(match.end() - 1)
        text = f"{text[:start]}{MASK}{text[last + 1 :]}"
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
