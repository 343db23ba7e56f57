"""Paths and patterns in pipeline.yaml: relative to its folder, with "/", never outside of it."""

from __future__ import annotations

import bisect
import functools
import itertools
import posixpath
import re
from collections.abc import Sequence

from pipeline_steps.toolbox.errors import ConfigurationError

#: Patterns that one with braces may stand for.
_MOST_EXPANDED = 1000


def relative_path(path: str, *, base: str = "", where: str = "") -> str:
    """`path`, relative to `base`, as a path relative to the folder of pipeline.yaml ("" for
    itself).

    Raises ConfigurationError when it is absolute or outside the folder.

    >>> relative_path("../common/", base="charts/hello"), relative_path(".")
    ('charts/common', '')
    """
    plain = posixpath.normpath(posixpath.join(base, path))
    if path.startswith("/") or plain == ".." or plain.startswith("../"):
        raise ConfigurationError(
            f"{path!r} leaves the folder of pipeline.yaml",
            where=where,
            advice="move pipeline.yaml up, or the files below it",
        )
    return "" if plain == "." else plain


def expand_braces(pattern: str) -> list[str]:
    """All patterns that result from expanding braces, in their order. Raises ConfigurationError when
    they are too many: each pair of braces multiplies them.

    >>> expand_braces("charts/{api,worker}/{x,y}")
    ['charts/api/x', 'charts/api/y', 'charts/worker/x', 'charts/worker/y']
    """
    expanded, waiting = list[str](), [pattern]
    while waiting:
        current = waiting.pop()
        braces = re.search(r"\{([^{}]*)\}", current)
        if not braces:
            expanded.append(current)
            continue
        before, after = current[: braces.start()], current[braces.end() :]
        waiting += [f"{before}{part}{after}" for part in reversed(braces[1].split(","))]
        if len(expanded) + len(waiting) > _MOST_EXPANDED:
            raise ConfigurationError(
                f"the braces stand for more than {_MOST_EXPANDED} patterns",
                where=pattern[:100],
                advice="use *, or write several patterns",
            )
    return expanded


def is_glob(pattern: str) -> bool:
    """Whether `pattern` (without braces) may match several paths."""
    return any(sign in pattern for sign in "*?[")


@functools.lru_cache(maxsize=256)  # asked again for each of thousands of tags
def glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression for whole paths: * and ? stay in one part, ** crosses parts.

    >>> [bool(glob_pattern("charts/*").fullmatch(path)) for path in ("charts/a", "charts/a/b")]
    [True, False]
    >>> bool(glob_pattern("**/x").fullmatch("x")), bool(glob_pattern("**/x").fullmatch("a/b/x"))
    (True, True)
    """
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    texts_and_signs = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", glob)
    texts = map(re.escape, texts_and_signs[::2])
    expressions = (signs.get(sign) or _characters(sign) for sign in texts_and_signs[1::2])
    pairs = itertools.zip_longest(texts, expressions, fillvalue="")
    return re.compile("".join(itertools.chain.from_iterable(pairs)), re.S)


def _characters(part: str) -> str:
    """One of the characters between brackets, never a slash; an upside-down range holds nothing."""
    body = part[1:-1]
    negated = body[0] in "!^" and len(body) > 1
    pairs = re.findall(r"(.)(?:-(.))?", body[1:] if negated else body, re.DOTALL)
    ranges = [(low, high or low) for low, high in pairs if low <= (high or low)]
    if not ranges:
        return "[^/]" if negated else "(?!)"
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges)
    return f"(?!/)[{'^' if negated else ''}{inside}]"


def paths_below(paths: Sequence[str], folder: str) -> Sequence[str]:
    """The paths below `folder`; `paths` are sorted.

    >>> paths_below(["a", "a/b", "a/c/d", "a0"], "a")
    ['a/b', 'a/c/d']
    """
    if not folder:
        return paths
    # "0" is the character after "/" in ASCII, so f"{folder}0" sorts behind everything below folder.
    return paths[bisect.bisect_left(paths, f"{folder}/") : bisect.bisect_left(paths, f"{folder}0")]


def contains(place: str, path: str) -> bool:
    """Whether `path` is the file `place`, or is below the folder `place`."""
    return not place or path == place or path.startswith(f"{place}/")


def chart_yaml(folder: str) -> str:
    """Path of the Chart.yaml of the chart in `folder`."""
    return f"{folder}/Chart.yaml" if folder else "Chart.yaml"
