"""How an entry of an index.yaml is written: as helm writes it, so that YAML readers of Python and Go agree on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from pipeline_steps.toolbox import yaml_reader


def key(name: str, indent: int) -> str:
    """The line that names a chart. indent: columns before it."""
    written = name if yaml_reader.meaning(name) == "text" else f'"{name}"'
    return f"{' ' * indent}{written}:\n"


def item(new: Mapping[str, Any], indent: int) -> str:
    """The lines of an entry as an item of its chart's list. indent: columns before the dash."""
    dumped = yaml.dump(
        _quoted(new), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=10**6, sort_keys=False
    )
    first, *others = dumped.splitlines(keepends=True)
    space = " " * indent
    return "".join((f"{space}- {first}", *(f"{space}  {line}" for line in others)))


def chart(name: str, news: Iterable[Mapping[str, Any]], indent: int) -> str:
    """The lines of a chart with its entries."""
    return "".join((key(name, indent), *(item(new, indent) for new in news)))


class _Text(str):
    """A text that YAML readers, Python's or Go's, might take for something else: written with quotes."""


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return _Text(value) if yaml_reader.meaning(value) != "text" else value
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    return [_quoted(item) for item in value] if isinstance(value, list) else value
