"""values.yaml as helm accepts it, checked without recursion and without expanding aliases.

A chart that helm cannot load must not be packed. Editing values does not belong here (`edit`). No
library does this: only go-yaml knows how much it lets aliases repeat.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from pipeline_steps.toolbox.errors import ConfigurationError, PipelineError

DEEPEST = 1000


class _OpenCollection(NamedTuple):
    """A mapping or list that has not ended. before: number of nodes before it. anchor: its
    anchor.
    """

    before: int
    anchor: str | None


def check(data: bytes, where: str, error: type[PipelineError] = ConfigurationError) -> None:
    """Raise `error`, naming file and line, unless helm can load `data` as values: a mapping, or
    nothing.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"not UTF-8 text: {problem.reason} at byte {problem.start}",
            where=where,
            advice="save it as UTF-8",
        )
    try:
        _Reader(where, error).read(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        reason = (
            getattr(problem, "problem", None) or getattr(problem, "reason", None) or str(problem)
        )
        place = where if mark is None else f"{where}:{mark.line + 1}"
        raise error(f"not YAML: {reason}", where=place, advice="helm could not load the chart")


class _Reader:
    """One pass over the events of libyaml. nodes: their number so far, including repetition by
    aliases.
    """

    def __init__(self, where: str, error: type[PipelineError]) -> None:
        self.where = where
        self.error = error
        self.nodes = 0
        self.repeated = 0
        self.sizes: dict[str, int] = {}
        self.open: list[_OpenCollection] = []

    def read(self, text: str) -> None:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.NodeEvent):
                if not self.open:
                    self.check_root(event)
                self.count_node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                collection = self.open.pop()
                self.remember_anchor(collection.anchor, self.nodes - collection.before)

    def check_root(self, event: Any) -> None:
        null = (
            isinstance(event, yaml.ScalarEvent)
            and event.implicit[0]
            and event.value in ("", "~", "null", "Null", "NULL")
        )
        if not null and not isinstance(event, yaml.MappingStartEvent):
            raise self.fail("the values are not a mapping of keys", event)

    def count_node(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.sizes:
                raise self.fail(f"the alias *{event.anchor} has no anchor", event)
            self.nodes += self.sizes[event.anchor]
            self.repeated += self.sizes[event.anchor]
            self.check_alias_ratio(event)
            return
        self.nodes += 1
        if isinstance(event, yaml.ScalarEvent):
            self.remember_anchor(event.anchor, 1)
            return
        if len(self.open) >= DEEPEST:
            raise self.fail(f"nested deeper than {DEEPEST} levels", event)
        self.open.append(_OpenCollection(self.nodes - 1, event.anchor))

    def remember_anchor(self, name: str | None, size: int) -> None:
        if name:
            self.sizes[name] = size

    def check_alias_ratio(self, event: Any) -> None:
        """Refuse documents in which aliases repeat too much. Source: go-yaml, decode.go,
        allowedAliasRatio.
        """
        # 99 % up to 400,000 nodes, falling to 10 % at 4,000,000: go-yaml's own numbers.
        share = min(0.99, max(0.1, 0.99 - 0.89 * (self.nodes - 400_000) / 3_600_000))
        if self.repeated > 100 and self.nodes > 1000 and self.repeated / self.nodes > share:
            raise self.fail("its aliases repeat too much", event)

    def fail(self, problem: str, event: Any) -> PipelineError:
        place = f"{self.where}:{event.start_mark.line + 1}"
        return self.error(problem, where=place, advice="helm could not load the chart")
