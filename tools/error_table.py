"""The page docs/reference/errors.md: every error that the package makes, with its text as the code
has it, so that the texts can be read side by side. Read from the code, without importing it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pipeline_steps.toolbox import errors

PACKAGE = Path(errors.__file__).resolve().parents[1]
INTRODUCTION = """# Errors

Every error text of the package by module, as the code has it: `{…}` is what a message fills in, and
` / ` stands between texts of which the code takes one. A message is printed as `where: what is wrong
(what to do)`. `Temporary` ends with "run it again" where no action is given. An empty cell: the text
comes from the caller, or from the system that refused. Codes: [exit codes](exit-codes.md).
"""
#: Name → the values that it may have.
Values: TypeAlias = dict[str, list[ast.expr]]
#: Errors that give what to do themselves, in the constructor.
DEFAULT_ADVICE = {"Temporary": "run it again", "NotYet": "leave the key out"}


class ErrorText(NamedTuple):
    """One error of the code. kind: its class, which `errors` has or derives from one there."""

    module: str
    kind: str
    code: str
    problem: str
    advice: str


def page() -> str:
    """The page below its head: one section for each module that makes errors."""
    parts = [INTRODUCTION]
    module = ""
    for text in error_texts():
        if text.module != module:
            module = text.module
            parts.append(f"\n## {module}\n\n| code | class | what is wrong | what to do |")
            parts.append("|---|---|---|---|")
        cells = (text.code, f"`{text.kind}`", escaped(text.problem), escaped(text.advice))
        parts.append(f"| {' | '.join(cells)} |")
    return "\n".join([*parts, ""])


def error_texts() -> Iterator[ErrorText]:
    """Every call of an error's class, by module and line."""
    trees = {
        path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): ast.parse(
            path.read_text()
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    codes = error_codes(trees.values())
    constants = {module: assigned(tree.body) for module, tree in trees.items()}
    for module, tree in trees.items():
        file = f"{module.partition('.')[2].replace('.', '/')}.py"
        for call, values in calls(tree.body, imported(tree, constants)):
            kind = ast.unparse(call.func).rpartition(".")[2]
            if kind not in codes or not (call.args or call.keywords):
                continue
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            problem = template(call.args[0] if call.args else given.get("what"), values)
            if kind == "NotYet":
                problem += ": not yet"
            advice = template(given.get("advice"), values) or DEFAULT_ADVICE.get(kind, "")
            yield ErrorText(file, kind, codes[kind], problem, advice)


def error_codes(trees: Iterable[ast.AST]) -> dict[str, str]:
    """Error class → exit code: those of `errors`, and classes elsewhere that derive from them."""
    codes = {
        name: str(getattr(kind, "exit_code", ""))
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
    } | {"Interrupted": "128+N"}
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in range(3):  # a class may derive from one that comes later
        for definition in classes:
            bases = [ast.unparse(base).rpartition(".")[2] for base in definition.bases]
            if code := next((codes[base] for base in bases if base in codes), ""):
                codes.setdefault(definition.name, code)
    return codes


def assigned(body: Iterable[ast.stmt]) -> Values:
    """Name → the values that statements assign to it."""
    return {
        target.id: [node.value]
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def imported(tree: ast.Module, constants: Mapping[str, Values]) -> Values:
    """The constants that a module imports, NAME or module.NAME as it writes them."""
    values: Values = {}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        for alias in node.names:
            name = alias.asname or alias.name
            of_module = constants.get(f"{node.module}.{alias.name}", {})
            values |= {f"{name}.{constant}": value for constant, value in of_module.items()}
            if alias.name in constants.get(node.module or "", {}):
                values[name] = constants[node.module or ""][alias.name]
    return values


def calls(body: Iterable[ast.stmt], values: Values) -> Iterator[tuple[ast.Call, Values]]:
    """Every call of statements, with what names may stand for when it is reached.

    `values` follows the statements: branches that end in a return or raise do not go on.
    """
    for statement in body:
        blocks = inner_blocks(statement)
        inside = {id(node) for block in blocks for inner in block for node in ast.walk(inner)}
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and id(node) not in inside:
                yield node, values
        values.update(assigned([statement]))
        ends = [] if is_exhaustive(statement) else [dict(values)]
        for block in blocks:
            inner_values = dict(values)
            yield from calls(block, inner_values)
            if not isinstance(block[-1], ast.Raise | ast.Return | ast.Continue):
                ends.append(inner_values)
        for name in {name for end in ends for name in end}:
            merged = {id(value): value for end in ends for value in end.get(name, [])}
            values[name] = list(merged.values())


def inner_blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of a compound statement."""
    parts = [statement, *getattr(statement, "handlers", []), *getattr(statement, "cases", [])]
    blocks = [getattr(part, name, []) for part in parts for name in ("body", "orelse", "finalbody")]
    return [block for block in blocks if block]


def is_exhaustive(statement: ast.stmt) -> bool:
    """Whether one of the blocks of a statement always runs to its end."""
    if isinstance(statement, ast.If):
        return bool(statement.orelse)
    return isinstance(statement, ast.With | ast.Try)


def template(node: ast.expr | None, values: Values) -> str:
    """The text that an expression gives, with {…} for what is filled in; "" without text."""
    match node:
        case None:
            return ""
        case ast.Constant(value):
            return str(value)
        case ast.JoinedStr(parts):
            return "".join(template(part, values) for part in parts)
        case ast.FormattedValue(ast.Name() | ast.Attribute() | ast.IfExp() as value):
            return template(value, values)
        case ast.IfExp(body=body, orelse=other):
            return f"{template(body, values)} / {template(other, values)}"
        case ast.BoolOp(ast.Or(), [_, ast.JoinedStr() as default]):
            return template(default, values)
        case ast.BinOp(left, ast.Add(), right):
            return template(left, values) + template(right, values)
    name = ast.unparse(node)
    if not is_text(values.get(name, [])):
        return f"{{{name.removeprefix('{').removesuffix('}')}}}"
    others = {other: value for other, value in values.items() if other != name}
    return " / ".join(dict.fromkeys(template(value, others) for value in values[name]))


def is_text(values: list[ast.expr]) -> bool:
    """Whether a name is only assigned texts, or a choice of them."""
    return bool(values) and all(
        isinstance(value, ast.JoinedStr | ast.BinOp | ast.IfExp)
        or (isinstance(value, ast.Constant) and isinstance(value.value, str))
        for value in values
    )


def escaped(text: str) -> str:
    """A text as a cell of a table in Markdown."""
    for character in ("|", "*", "<"):
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
