"""What differs between renderings of one and the same chart: randAlphaNum, genCA, now, uuidv4 and
the like.

Pure. Texts are compared word by word, so that what stands beside a random word is compared all the
same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: What stands for chance in a text that people read.
MARK = "<chance>"
#: Letters, digits, and what base64 is made of.
_WORD = r"[A-Za-z0-9+/=]+"
#: What stands between the first and the last line of a PEM block (RFC 7468): one word, however many
#: lines it has.
_PEM_BODY = rf"(?<=-----\n){_WORD}(?:\n{_WORD})*(?=\n-----END )"
#: Salt and hash as crypt(3) writes them, of htpasswd: their alphabet has dots, which no shape can
#: be told from.
_CRYPT = r"(?<=\$)[./A-Za-z0-9]{22,}"
#: A shorter text that must stay a word of its own would cut random words in pieces.
_SHORTEST_UNIT = 4


def common_parts(texts: Sequence[str], units: Iterable[str] = ()) -> list[str]:
    """What all `texts` have in common, in order: what is by chance stands between two of them.

    One literal: the texts are equal. units: words of their own, wherever they begin and end.

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
    lines = [text.split("\n") for text in texts]
    if len(lines[0]) > 1 and len({len(each) for each in lines}) == 1:
        return _line_by_line(lines, longest)
    return _ends(words)


def mask_random(texts: Sequence[str]) -> str:
    """The first of `texts`, with a mark where another one of them differs.

    >>> mask_random(["a-x7Kq:1", "a-Zz0p:1"])
    'a-<chance>:1'
    """
    return MARK.join(common_parts(texts))


def _same_shape(words: Sequence[Sequence[str]]) -> bool:
    """Do the texts differ in nothing but words?"""
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
    """How many words all begin with, `limit` at the most."""
    count = 0
    while count < limit and len({each[count] for each in words}) == 1:
        count += 1
    return count
