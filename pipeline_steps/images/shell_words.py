"""Words of a Dockerfile with quotes and variables, as BuildKit's lexer expands them.

Source: moby/buildkit frontend/dockerfile/shell/lex.go, and "Environment replacement" in Docker's
Dockerfile reference. Python's shlex knows no variables, and string.Template no defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from pipeline_steps.toolbox import wildcards

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")


class Unreadable(ValueError):
    """A word that BuildKit refuses: an open quote or brace, an unknown expansion, `${name:?why}`."""


class Unset(Unreadable):
    """A variable without a value and without a default."""


def split(text: str, escape: str = "\\") -> list[str]:
    """The words of an instruction, as they are written; blanks within quotes do not part words.

    >>> split('A=1 B="x y" C')
    ['A=1', 'B="x y"', 'C']
    """
    words, word, quote, position = [], "", "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == escape and quote != "'" and position < len(text):
            word += char + text[position]
            position += 1
        elif not quote and char.isspace():
            words += [word] if word else []
            word = ""
        else:
            if char in "\"'" and quote in ("", char):
                quote = "" if quote else char
            word += char
    return [*words, word] if word else words


def expand(
    text: str,
    variables: Mapping[str, str],
    escape: str = "\\",
    *,
    unset: str | None = None,
    unknown: Collection[str] = (),
) -> str:
    """A word without its quotes, variables replaced. unset: stands for a variable without a value;
    None: that is an error. unknown: variables whose values only the build knows: none stands for
    them. Raises Unreadable, Unset.

    >>> expand('${R:-"registry.example.com"}/$N', {"N": "web"})
    'registry.example.com/web'
    >>> expand("${T%-*}", {"T": "1.2-alpine"}), expand("${T#*-}", {"T": "1.2-alpine"})
    ('1.2', 'alpine')
    """
    return _Reader(text, variables, escape, unset, unknown).word("")


class _Reader:
    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        escape: str,
        unset: str | None,
        unknown: Collection[str],
    ) -> None:
        self._text = text
        self._unset = unset
        self._unknown = unknown
        self._variables = variables
        self._escape = escape
        self._position = 0
        #: How many expansions around the position are not needed, as `:-` of a variable with a value.
        self._unneeded = 0

    def word(self, end: str) -> str:
        """Everything up to the character `end` ("": the end of the text), which is taken, too."""
        parts: list[str] = []
        while self._position < len(self._text):
            char = self._next()
            if char == end:
                return "".join(parts)
            if char == "'":
                parts.append(self._until("'"))
            elif char == '"':
                parts.append(self._quoted())
            elif char == "$":
                parts.append(self._variable())
            elif char == self._escape:
                parts.append(self._next() if self._position < len(self._text) else "")
            else:
                parts.append(char)
        if end:
            raise Unreadable(f"{self._text} has no closing {end}")
        return "".join(parts)

    def _next(self) -> str:
        self._position += 1
        return self._text[self._position - 1]

    def _until(self, end: str) -> str:
        stop = self._text.find(end, self._position)
        if stop < 0:
            raise Unreadable(f"{self._text} has no closing {end}")
        text, self._position = self._text[self._position : stop], stop + len(end)
        return text

    def _quoted(self) -> str:
        """Within double quotes, where only $, the quote and the escape itself can be escaped."""
        parts: list[str] = []
        while self._position < len(self._text):
            char = self._next()
            if char == '"':
                return "".join(parts)
            if char == "$":
                parts.append(self._variable())
            elif char == self._escape and self._text[self._position : self._position + 1] in (
                '"',
                "$",
                self._escape,
            ):
                parts.append(self._next())
            else:
                parts.append(char)
        raise Unreadable(f'{self._text} has no closing "')

    def _variable(self) -> str:
        braced = self._text.startswith("{", self._position)
        name = _NAME.match(self._text, self._position + braced)
        if name is None:
            if braced:
                raise Unreadable(f"{self._text} has ${{ without the name of a variable")
            return "$"
        self._position = name.end()
        if name[0] in self._unknown and not self._unneeded:
            raise Unset(f"{name[0]} has no value before the build, whose platform decides it")
        value = self._variables.get(name[0], "" if self._unneeded else None)
        return self._given(name[0], value) if not braced else self._braced(name[0], value)

    def _given(self, name: str, value: str | None) -> str:
        if value is None and self._unset is None:
            raise Unset(f"{name} has no value")
        return value if value is not None else self._unset or ""

    def _braced(self, name: str, value: str | None) -> str:
        sign = self._next() if self._position < len(self._text) else ""
        if sign == "}":
            return self._given(name, value)
        empty_counts = sign != ":"
        if sign == ":":
            sign = self._next() if self._position < len(self._text) else ""
        given = value is not None and (empty_counts or value != "")
        if sign in ("-", "+", "?"):
            word = self._lazy_word(needed=given == (sign == "+"))
            if sign == "-":
                return str(value) if given else word
            if sign == "+":
                return word if given else ""
            if not given:
                raise Unreadable(f"{name}: {word or 'is not set'}")
            return str(value)
        if empty_counts and sign in ("#", "%", "/"):
            return self._cut(sign, name, value)
        raise Unreadable(f"{self._text} has an expansion that is unknown: {sign or 'no end'}")

    def _lazy_word(self, *, needed: bool) -> str:
        """The word of an expansion; what is not needed may name variables that have no value."""
        self._unneeded += not needed
        word = self.word("}")
        self._unneeded -= not needed
        return word

    def _cut(self, sign: str, name: str, value: str | None) -> str:
        doubled = self._text.startswith(sign, self._position)
        self._position += doubled
        if sign == "/":
            pattern, replacement = self.word("/"), self.word("}")
            return re.sub(
                _pattern(pattern),
                lambda _: replacement,
                self._given(name, value),
                count=0 if doubled else 1,
            )
        pattern = self.word("}")
        value = self._given(name, value)
        ends, fits = range(len(value) + 1), _fits(pattern)
        if sign == "#":
            order = reversed(ends) if doubled else ends
            cuts = (value[end:] for end in order if fits(value[:end]))
        else:
            order = ends if doubled else reversed(ends)
            cuts = (value[:end] for end in order if fits(value[end:]))
        return next(cuts, value)


def _fits(glob: str) -> Callable[[str], bool]:
    """Does a text fit a shell pattern? In linear time, however many * it has."""
    signs = {"*": wildcards.ANY, "?": "."}
    pieces = [signs.get(char) or re.escape(char) for char in re.sub(r"\*+", "*", glob)]
    return wildcards.Pattern(pieces).matches


def _pattern(glob: str) -> str:
    """A shell pattern as a regular expression: * and ? are the only signs with a meaning."""
    signs = {"*": ".*", "?": "."}
    return "".join(signs.get(char) or re.escape(char) for char in re.sub(r"\*+", "*", glob))
