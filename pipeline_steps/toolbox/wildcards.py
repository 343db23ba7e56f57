"""Patterns with wildcards in time linear in the text, however many wildcards they have.

Python's `re` tries every way to share a text between them: `a*a*a*a*…b` never ends.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

#: Regular expressions of wildcards: within one name, any text, and any number of folders.
IN_NAME, ANY, FOLDERS = "[^/]*", ".*", "(?:.*/)?"
_WILDCARDS = frozenset({IN_NAME, ANY, FOLDERS})
#: States that are kept, of patterns and texts that need many.
_MOST_STATES = 10_000


class Pattern:
    """A pattern of pieces: wildcards, and regular expressions of exactly one character each.

    Raises re.error for a piece that is none.

    >>> Pattern(["a", IN_NAME, r"\\."]).matches("a b.")
    True
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._expression = re.compile("".join(pieces), re.DOTALL)
        self._simple = _is_simple(pieces)
        self._pieces = pieces
        self._forget()

    def matches(self, text: str) -> bool:
        """Does the whole of `text` fit?"""
        if self._simple:
            return self._expression.fullmatch(text) is not None
        if len(self._states) > _MOST_STATES:
            self._forget()
        state = 0
        for character in text:
            following = self._next[state].get(character)
            state = self._step(state, character) if following is None else following
        return len(self._pieces) in self._states[state]

    def _forget(self) -> None:
        """Know the first state only; others get their numbers when a text first leads to them."""
        self._states = [self._with_skips({0})]
        self._next: list[dict[str, int]] = [{}]
        self._numbers = {self._states[0]: 0}

    def _step(self, number: int, character: str) -> int:
        """The number of the state after one more character, which is remembered."""
        state = self._after(self._states[number], character)
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
            self._next.append({})
        self._next[number][character] = self._numbers[state]
        return self._numbers[state]

    def _after(self, state: frozenset[int], character: str) -> frozenset[int]:
        """The state after one more character. A state: the numbers of the pieces that may come next,
        -1 - number within FOLDERS, which ends with a slash only.
        """
        following: set[int] = set()
        for number in state:
            inside = number < 0
            place = -1 - number if inside else number
            piece = self._pieces[place] if place < len(self._pieces) else ""
            if piece == FOLDERS:
                following.add(-1 - place)
                if character == "/":
                    following.add(place + 1)
            elif piece == ANY or (piece == IN_NAME and character != "/"):
                following.add(place)
            elif piece and piece != IN_NAME and _fits(piece, character):
                following.add(place + 1)
        return self._with_skips(following)

    def _with_skips(self, numbers: set[int]) -> frozenset[int]:
        """With the places behind wildcards, each of which may fit nothing."""
        every = set(numbers)
        for number in numbers:
            while 0 <= number < len(self._pieces) and self._pieces[number] in _WILDCARDS:
                number += 1
                every.add(number)
        return frozenset(every)


def _is_simple(pieces: Sequence[str]) -> bool:
    """Does `re` take linear time, since no two wildcards can share the same text?"""
    inner = pieces[:-1] if pieces and pieces[-1] == ANY else pieces
    names = "".join(
        "*" if piece == IN_NAME else piece for piece in inner if piece in ("/", IN_NAME)
    )
    return sum(piece in (FOLDERS, ANY) for piece in inner) < 2 and "**" not in names


@functools.lru_cache(maxsize=100_000)
def _fits(piece: str, character: str) -> bool:
    return re.fullmatch(piece, character, re.DOTALL) is not None
