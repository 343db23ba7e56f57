"""What the client reads of GitHub's answers is what both published descriptions promise: that of
github.com, and that of the oldest GitHub Enterprise Server.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec.inspect import ListType, NoneType, StructType, UnionType, VarTupleType

from pipeline_steps.repositories import github_assets, github_branch
from pipeline_steps.reviews import (
    github,
    github_merges,
    github_tags,
    github_timeline,
    github_verdicts,
)
from tests.support.github_description import Description, description, enterprise


class Read(NamedTuple):
    """An answer, and what the client takes from it. inside: the field with the list."""

    kind: Any
    method: str
    path: str
    inside: str = ""
    status: int = 200


REPOSITORY = "/repos/team/charts"
READ = (
    Read(github._Opinion, "GET", f"{REPOSITORY}/pulls/1/reviews"),
    Read(github_timeline.Event, "GET", f"{REPOSITORY}/issues/1/timeline"),
    Read(github._Permission, "GET", f"{REPOSITORY}/collaborators/bob/permission"),
    Read(github._Run, "GET", f"{REPOSITORY}/actions/runs", "workflow_runs"),
    Read(github._Run, "GET", f"{REPOSITORY}/actions/runs/1"),
    Read(github._Deployment, "GET", f"{REPOSITORY}/actions/runs/1/approvals"),
    Read(github._Rights, "GET", REPOSITORY),
    Read(github._Repository, "GET", REPOSITORY),
    Read(github._Reference, "GET", f"{REPOSITORY}/git/matching-refs/heads/a"),
    Read(github._Person, "GET", "/orgs/team/teams/core/members"),
    Read(github._Team, "GET", "/orgs/team/teams"),
    Read(github_merges.Pull, "GET", f"{REPOSITORY}/pulls/1"),
    Read(github_merges.Pull, "GET", f"{REPOSITORY}/pulls"),
    Read(github_merges.Pull, "GET", f"{REPOSITORY}/commits/0a1b/pulls"),
    Read(github_merges._Merged, "PUT", f"{REPOSITORY}/pulls/1/merge"),
    Read(github_merges._Settings, "GET", REPOSITORY),
    Read(github_merges._Rule, "GET", f"{REPOSITORY}/rules/branches/main"),
    Read(github_tags._Rights, "GET", REPOSITORY),
    Read(github_tags._Reference, "GET", f"{REPOSITORY}/git/ref/tags/v1"),
    Read(github_tags._Reference, "GET", f"{REPOSITORY}/git/tags/0a1b"),
    Read(github_verdicts._Person, "GET", "/user"),
    Read(github_verdicts._CheckRun, "POST", f"{REPOSITORY}/check-runs", status=201),
    Read(github_verdicts._CheckRun, "PATCH", f"{REPOSITORY}/check-runs/1"),
    Read(github_verdicts._CheckRun, "GET", f"{REPOSITORY}/commits/0a1b/check-runs", "check_runs"),
    Read(github_verdicts._Status, "GET", f"{REPOSITORY}/commits/0a1b/statuses"),
    Read(github_verdicts._Comment, "GET", f"{REPOSITORY}/issues/1/comments"),
    Read(github_assets.Release, "GET", f"{REPOSITORY}/releases"),
    Read(github_assets.Release, "GET", f"{REPOSITORY}/releases/latest"),
    Read(github_assets.Release, "POST", f"{REPOSITORY}/releases", status=201),
    Read(github_assets.Release, "PATCH", f"{REPOSITORY}/releases/1"),
    Read(github_assets.Asset, "POST", f"{REPOSITORY}/releases/1/assets", status=201),
    Read(github_branch._Stored, "PUT", f"{REPOSITORY}/contents/index.yaml"),
    Read(github_branch._Object, "POST", f"{REPOSITORY}/git/trees", status=201),
    Read(github_branch._Object, "POST", f"{REPOSITORY}/git/commits", status=201),
)
#: Read of GraphQL, whose answers its schema judges.
GRAPHQL = {github_merges._QueueAnswer, github_merges._EnqueueAnswer}
KNOWN = {
    # A list of pull requests has less than one of them, which the client asks where it matters.
    f"{REPOSITORY}/commits/0a1b/pulls: nobody describes /mergeable",
    f"{REPOSITORY}/pulls: nobody describes /mergeable",
    # One schema for files that were written and for those that were removed, which have none.
    f"{REPOSITORY}/contents/index.yaml: /content may be null",
    f"{REPOSITORY}/contents/index.yaml: /content/sha may be absent",
}


@pytest.mark.parametrize("judge", [description, enterprise])
def test_what_is_read_is_described(judge: Any) -> None:
    problems = {
        f"{read.path}: {problem}"
        for read in READ
        for problem in unread(judge(), item_of(judge(), read), msgspec.inspect.type_info(read.kind))
    }
    assert problems == KNOWN


def test_every_type_that_is_read_is_compared() -> None:
    modules = (
        github, github_merges, github_tags, github_timeline, github_verdicts, github_assets,
        github_branch,
    )  # fmt: skip
    types = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    }
    parts = {part for read in READ for part in structs(msgspec.inspect.type_info(read.kind))}
    parts |= {part for kind in GRAPHQL for part in structs(msgspec.inspect.type_info(kind))}
    assert {each.__name__ for each in types - parts} <= {"GithubSettings"}


def structs(info: Any) -> Iterator[Any]:
    """The types of objects in a type."""
    if isinstance(info, StructType):
        yield info.cls
        for field in info.fields:
            yield from structs(field.type)
    for part in getattr(info, "types", ()) or filter(None, [getattr(info, "item_type", None)]):
        yield from structs(part)


def item_of(judge: Description, read: Read) -> Mapping[str, Any]:
    """The schema of what is read: of an item, where the answer is a list."""
    schema = judge.answer_schema(read.method, read.path, read.status)
    if read.inside:
        schema = judge.resolved(schema["properties"][read.inside])
    return judge.resolved(schema["items"]) if schema.get("type") == "array" else schema


def unread(judge: Description, schema: Any, info: Any, place: str = "") -> Iterator[str]:
    """Where an answer as described would not be read as `info`."""
    leaves = list(objects(judge, schema))
    if isinstance(info, UnionType):
        for kind in info.types:
            yield from unread(judge, schema, kind, place)
    elif isinstance(info, (ListType, VarTupleType)):
        for items in (leaf["items"] for leaf in leaves if "items" in leaf):
            yield from unread(judge, items, info.item_type, place)
    for field in info.fields if isinstance(info, StructType) else ():
        name = f"{place}/{field.encode_name}"
        described = [leaf.get("properties", {}).get(field.encode_name) for leaf in leaves]
        if not any(described):
            yield f"nobody describes {name}"
        always = all(field.encode_name in leaf.get("required", ()) for leaf in leaves)
        if field.required and any(described) and not always:
            yield f"{name} may be absent"
        takes_null = isinstance(field.type, UnionType) and any(
            isinstance(kind, NoneType) for kind in field.type.types
        )
        for part in filter(None, described):
            if not takes_null and may_be_null(judge, part):
                yield f"{name} may be null"
            yield from unread(judge, part, field.type, name)


def objects(judge: Description, schema: Any) -> Iterator[dict[str, Any]]:
    """The alternatives that a schema has, each with all its parts."""
    schema = judge.resolved(schema)
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives and not schema.get("properties"):
        for each in alternatives:
            yield from objects(judge, each)
        return
    whole: dict[str, Any] = {**schema, "properties": dict(schema.get("properties", {}))}
    whole["required"] = list(schema.get("required", ()))
    for part in (leaf for each in schema.get("allOf", ()) for leaf in objects(judge, each)):
        whole["properties"] |= part["properties"]
        whole["required"] += part["required"]
    yield whole


def may_be_null(judge: Description, schema: Any) -> bool:
    schema = judge.resolved(schema)
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return bool(schema.get("nullable")) or any(may_be_null(judge, each) for each in alternatives)
