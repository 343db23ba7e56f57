"""What differs between two renderings of the same chart: randAlphaNum, genCA, now, uuidv4 and so
on.

Pure. Texts are compared word by word, so that the text beside a random word is still compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: Replaces random parts in texts for people.
MARK = "<chance>"
#: Letters, digits, and what base64 is made of.
_WORD = r"[A-Za-z0-9+/=]+"
#: The lines between BEGIN and END of a PEM block (RFC 7468) count as one word, however many
#: they are.
_PEM_BODY = rf"(?<=-----\n){_WORD}(?:\n{_WORD})*(?=\n-----END )"
#: Salt and hash of htpasswd as crypt(3) writes them: their alphabet has dots, which otherwise
#: separate words.
_CRYPT = r"(?<=\$)[./A-Za-z0-9]{22,}"
#: A shorter text that must stay a word of its own would cut random words in pieces.
_SHORTEST_UNIT = 4


def common_parts(texts: Sequence[str], units: Iterable[str] = ()) -> list[str]:
    """The texts that all of `texts` share, in order. Random parts are between them.

    A single part means that the texts are equal. units: texts that count as one word wherever they
    occur.

    >>> common_parts(["a-x7Kq:1", "a-Zz0p:1"])
    ['a-', ':1']
    >>> keys = ("aB\\ncD", "bC")
    >>> common_parts([f"-----BEGIN X-----\\n{key}\\n-----END X-----" for key in keys])
    ['-----BEGIN X-----\\n', '\\n-----END X-----']
    >>> common_parts(["u:$2a$10$sTq.OpSsqw2FJI08kQJFMuP", "u:$2a$10$9zh/gNNpTGrumDghG3eXbOE"])
    ['u:$2a$10$', '']
    >>> common_parts(["web:k-0123abXy", "web:k-0123abQr"], ["k-0123ab"])
    ['web:k-0123ab', '']
    """
    if len(set(texts)) == 1:
        return [texts[0]]
    longest = sorted((unit for unit in units if len(unit) >= _SHORTEST_UNIT), key=len, reverse=True)
    pattern = "|".join([*map(re.escape, longest), _PEM_BODY, _CRYPT, _WORD, r"[^A-Za-z0-9+/=]"])
    words = [re.findall(pattern, text) for text in texts]
    if _same_shape(words):
        return _word_by_word(words)
    # Different shapes, for example a random number of words in one line: compare line by line,
    # so that only that line is masked.
    lines = [text.split("\n") for text in texts]
    if len(lines[0]) > 1 and len({len(each) for each in lines}) == 1:
        return _line_by_line(lines, longest)
    return _ends(words)


def mask_random(texts: Sequence[str]) -> str:
    """The first text, with a mark where another one differs.

    >>> mask_random(["a-x7Kq:1", "a-Zz0p:1"])
    'a-<chance>:1'
    """
    return MARK.join(common_parts(texts))


def _same_shape(words: Sequence[Sequence[str]]) -> bool:
    """Whether the texts differ only in words."""
    if len({len(each) for each in words}) > 1:
        return False
    columns = (set(column) for column in zip(*words, strict=True))
    return all(len(column) == 1 or all(_is_word(word) for word in column) for column in columns)


def _is_word(text: str) -> bool:
    return bool(re.fullmatch(rf"{_WORD}(?:\n{_WORD})*|[./A-Za-z0-9]{{22,}}", text))


def _word_by_word(words: Sequence[Sequence[str]]) -> list[str]:
    parts = [""]
    for variants in zip(*words, strict=True):
        if len(set(variants)) == 1:
            parts[-1] += variants[0]
        else:
            parts.append("")
    return parts


def _line_by_line(lines: Sequence[Sequence[str]], units: Sequence[str]) -> list[str]:
    parts = [""]
    for number, variants in enumerate(zip(*lines, strict=True)):
        first_part, *later_parts = common_parts(variants, units)
        parts[-1] += ("\n" if number else "") + first_part
        parts += later_parts
    return parts


def _ends(words: Sequence[Sequence[str]]) -> list[str]:
    """The words that all texts begin with, and those that all end with."""
    shortest = min(map(len, words))
    head = _common(words, shortest)
    tail = _common([each[::-1] for each in words], shortest - head)
    first = words[0]
    return ["".join(first[:head]), "".join(first[len(first) - tail :])]


def _common(words: Sequence[Sequence[str]], limit: int) -> int:
    """How many words all texts begin with, at most `limit`."""
    count = 0
    while count < limit and len({each[count] for each in words}) == 1:
        count += 1
    return count
