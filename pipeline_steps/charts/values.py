"""values.yaml as helm takes it: mappings, read without recursion and without building what aliases
stand for.

Whatever helm cannot load must not be packed. Editing values does not belong here (`edit`).
No library does it: only go-yaml knows how much aliases may repeat for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from pipeline_steps.toolbox.errors import ConfigurationError, PipelineError

DEEPEST = 1000


class _OpenCollection(NamedTuple):
    """A collection that is open. before: the nodes met when it began; anchor: its name."""

    before: int
    anchor: str | None


def check(data: bytes, where: str, error: type[PipelineError] = ConfigurationError) -> None:
    """Raise `error`, naming file and line, unless `data` are values that helm loads: mappings, or
    nothing at all.
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
    """One pass over the events of libyaml. nodes: all met so far, those that aliases repeat among
    them.
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
            raise self.fail("values are a mapping of keys, this is none", event)

    def count_node(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.sizes:
                raise self.fail(f"the alias *{event.anchor} names nothing", event)
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
        """Source: go-yaml, decode.go, allowedAliasRatio: how much of a document may be repeated by
        aliases.
        """
        share = min(0.99, max(0.1, 0.99 - 0.89 * (self.nodes - 400_000) / 3_600_000))
        if self.repeated > 100 and self.nodes > 1000 and self.repeated / self.nodes > share:
            raise self.fail("its aliases repeat too much", event)

    def fail(self, problem: str, event: Any) -> PipelineError:
        place = f"{self.where}:{event.start_mark.line + 1}"
        return self.error(problem, where=place, advice="helm could not load the chart")
