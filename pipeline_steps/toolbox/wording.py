"""Numbers and articles in sentences for people."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number with what it counts. many: where it is not `one` with an s.

    >>> counted(1, "tag"), counted(0, "tag"), counted(2, "thing is", "things are")
    ('1 tag', '0 tags', '2 things are')
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def with_article(word: str) -> str:
    """A word behind its article.

    >>> with_article("int"), with_article("float")
    ('an int', 'a float')
    """
    return f"{'an' if word[:1].lower() in 'aeio' else 'a'} {word}"
