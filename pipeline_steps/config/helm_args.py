"""`tests.helm_args`: which arguments helm is given for the installs and renderings of tests, an
allow-list.

Anything else could move the release elsewhere (--namespace), read files of the agent (--set-file)
or run programs (--post-renderer). What the files hold is read by `testing.helm_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline_steps.toolbox.errors import ConfigurationError

VALUES = "--values"
ALLOWED = ("--set", "--set-string", "--set-json", VALUES)


class Argument(NamedTuple):
    """value: of FILE the name of a file that the source stores, relative to pipeline.yaml's folder."""

    option: str
    value: str


def parse(words: Sequence[str], where: Callable[[int], str]) -> tuple[Argument, ...]:
    """The arguments in `words`, each written as two words or joined by "=". where: file and line of
    a word.

    Raises ConfigurationError for anything that is not allowed.

    >>> parse(["--set", "a=b", "--values=ci/x.yaml"], lambda number: "")
    (Argument(option='--set', value='a=b'), Argument(option='--values', value='ci/x.yaml'))
    """
    arguments = []
    remaining = iter(enumerate(words))
    for number, word in remaining:
        option, joined, value = word.partition("=")
        if option not in ALLOWED:
            raise ConfigurationError(
                f"tests.helm_args may not have {word!r}",
                where=where(number),
                advice=f"allowed are {', '.join(ALLOWED)}, the last with a file that the source "
                "stores",
            )
        if not joined:
            _, value = next(remaining, (0, ""))
        if not value:
            advice = f"write {option}=…, or {option} and the value as two words"
            raise ConfigurationError(
                f"{option} of tests.helm_args has no value", where=where(number), advice=advice
            )
        arguments.append(Argument(option, value))
    return tuple(arguments)
