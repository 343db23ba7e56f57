"""GitHub's published description of its REST API (OpenAPI), and of GraphQL, as judges of the double.

Every request must have an operation, its declared parameters, headers and a body as described, with
no field that GitHub would ignore; every answer must be as described, and the double may not invent
a field. What a double does not care about comes from the description's own example.

GitHub Enterprise has a description of its own: its oldest one that is supported judges what is
sent, too. What is read of answers, test_github_shapes compares with both.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import graphql
import msgspec
from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.jsonschema import SchemaRegistry

from tools.programs import programs

VERSION = "2022-11-28"
JSON = "application/vnd.github+json"
_URI = "urn:github"
#: An error that any operation can have is described as others are.
_ANY_ERROR = ("components", "responses", "not_found", "content", "application/json", "schema")
_ERRORS = ("basic-error", "validation-error")


class NotAsDescribed(Exception):
    """A request or an answer that GitHub's description does not have."""


def _unless_null(keyword: str) -> Any:
    """The keyword of JSON Schema, but null passes where OpenAPI 3.0 says `nullable`.

    oneOf is read as anyOf: GitHub's alternatives for errors are not exclusive.
    """
    judge = Draft4Validator.VALIDATORS["anyOf" if keyword == "oneOf" else keyword]

    def judged(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Any:
        if instance is None and schema.get("nullable"):
            return None
        return judge(validator, value, instance, schema)

    return judged


_Validator = extend(  # type: ignore[no-untyped-call]
    Draft4Validator,
    {name: _unless_null(name) for name in ("type", "enum", "allOf", "anyOf", "oneOf")},
)


class _Parts(dict[str, Any]):
    """A part of the document that is read where it is looked at: the whole has 13 MB."""

    def __getitem__(self, name: str) -> Any:
        part = super().__getitem__(name)
        if isinstance(part, msgspec.Raw):
            part = self[name] = msgspec.json.decode(part)
        return part


class _Document(msgspec.Struct):
    paths: dict[str, dict[str, msgspec.Raw]]
    components: dict[str, dict[str, msgspec.Raw]]


class Description:
    """An OpenAPI document."""

    def __init__(self, file: Path) -> None:
        read = msgspec.json.decode(file.read_bytes(), type=_Document)
        self._document: dict[str, Any] = {
            name: {each: _Parts(parts) for each, parts in getattr(read, name).items()}
            for name in ("paths", "components")
        }
        resource: Resource[Any] = Resource.opaque(self._document)
        self._registry: SchemaRegistry = Registry().with_resource(_URI, resource)
        self._validators: dict[str, Any] = {}
        self._patterns: dict[str, re.Pattern[str]] = {
            template: _pattern(template) for template in self._document["paths"]
        }

    def template(self, method: str, path: str) -> str:
        """The described path, like /repos/{owner}/{repo}; the most literal one."""
        found = [
            template
            for template, pattern in self._patterns.items()
            if pattern.fullmatch(path) and method.lower() in self._document["paths"][template]
        ]
        if not found:
            raise NotAsDescribed(f"{method} {path}: there is no such operation")
        return max(found, key=lambda template: len(re.sub(r"\{\w+\}", "", template)))

    def check_request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        """Raise NotAsDescribed unless GitHub has this operation with these parameters, headers and
        this body.
        """
        template = self.template(method, path)
        operation = self._document["paths"][template][method.lower()]
        label = f"{method} {template}"
        parts = self._patterns[template].fullmatch(path)
        assert parts is not None, "its template has this pattern"
        self._check_parameters(label, operation, {"query": query, "path": parts.groupdict()})
        given = {name.lower(): value for name, value in headers.items()}
        _check_headers(label, operation, given)
        described = operation.get("requestBody", {})
        content = described.get("content", {})
        if not body:
            if described.get("required"):
                raise NotAsDescribed(f"{label}: a body is required")
            return
        kind = given.get("content-type", "none")
        if kind not in content:
            raise NotAsDescribed(f"{label}: a body of the type {kind} is not described")
        if kind == "application/json":
            where = ("paths", template, method.lower(), "requestBody", "content", kind, "schema")
            fields = json.loads(body)
            self._judge(where, fields, f"{label}, request")
            self._check_fields(where, fields, f"{label}, request")

    def _check_parameters(
        self, label: str, operation: Mapping[str, Any], given: Mapping[str, Mapping[str, str]]
    ) -> None:
        described = list(map(self.resolved, operation.get("parameters", ())))
        names = {each["name"] for each in described if each["in"] == "query"}
        if unknown := set(given["query"]) - names:
            raise NotAsDescribed(f"{label}: no parameter {', '.join(sorted(unknown))}")
        for each in described:
            text = given[each["in"]].get(each["name"]) if each["in"] in given else None
            if text is None:
                if each.get("required") and each["in"] in given:
                    raise NotAsDescribed(f"{label}: the parameter {each['name']} is required")
                continue
            schema = self.resolved(each["schema"])
            value = _value(text, schema.get("type", "string"))
            if errors := list(_Validator(schema).iter_errors(value)):
                raise NotAsDescribed(f"{label}: {each['name']}: {errors[0].message[:300]}")

    def complete(self, method: str, path: str, status: int, body: Any) -> Any:
        """An answer with what its example has beside `body`. Raises NotAsDescribed for one that
        is not as described.
        """
        template = self.template(method, path)
        label = f"{method} {template}, answer {status}"
        where = self._response(template, method, status)
        if isinstance(body, bytes) or (body is None and where is None):
            return body
        if body is None or where is None:
            raise NotAsDescribed(f"{label}: content where none is described, or none at all")
        self._check_fields(where, body, label, status)
        content = self._at(where[:-1])
        examples = [self.resolved(each) for each in content.get("examples", {}).values()]
        example = examples[0].get("value") if examples and status < 400 else None
        completed = json.loads(json.dumps(_filled(example, body)))
        self._add_required(where, completed)
        self._judge(where, completed, label)
        return completed

    def _response(self, template: str, method: str, status: int) -> tuple[str, ...] | None:
        """Where the schema of an answer is; None where no JSON is described."""
        responses = self._document["paths"][template][method.lower()]["responses"]
        where: tuple[str, ...] = ("paths", template, method.lower(), "responses", str(status))
        if str(status) not in responses:
            if status < 400:
                raise NotAsDescribed(f"{method} {template}: {status} is not described")
            return _ANY_ERROR
        response = self._at(where)
        if "$ref" in response:
            where = tuple(response["$ref"].removeprefix("#/").split("/"))
            response = self._at(where)
        if "application/json" not in response.get("content", {}):
            return None if status < 400 else _ANY_ERROR
        return (*where, "content", "application/json", "schema")

    def _check_fields(
        self, where: tuple[str, ...], instance: Any, label: str, status: int = 0
    ) -> None:
        schemas = [self._at(where)]
        if status >= 400:  # every error has the fields of both, whichever its operation names
            schemas += [self.component("schemas", name) for name in _ERRORS]
        for place in self._undescribed(schemas, instance):
            raise NotAsDescribed(f"{label}: no field {place}")

    def _undescribed(self, schemas: Iterable[Any], instance: Any, place: str = "") -> Iterator[str]:
        """Fields that none of the alternatives describes, at any depth: of a request, GitHub would
        ignore them.
        """
        if isinstance(instance, list):
            items = [each["items"] for schema in schemas for each in self._alternatives(schema)
                     if "items" in each]  # fmt: skip
            for item in instance if items else ():
                yield from self._undescribed(items, item, place)
        elif isinstance(instance, dict):
            known: dict[str, list[Any]] = {}
            is_open = False
            for schema in schemas:
                fields, more = self._fields(schema)
                is_open = is_open or more
                for name, parts in fields.items():
                    known.setdefault(name, []).extend(parts)
            for name, value in instance.items():
                if name in known:
                    yield from self._undescribed(known[name], value, f"{place}/{name}")
                elif not is_open:
                    yield f"{place}/{name}"

    def _alternatives(self, schema: Any) -> Iterator[Any]:
        schema = self.resolved(schema)
        yield schema
        for keyword in ("allOf", "anyOf", "oneOf"):
            for each in schema.get(keyword, ()):
                yield from self._alternatives(each)

    def _fields(self, schema: Any) -> tuple[dict[str, list[Any]], bool]:
        """The fields that a schema and its alternatives describe, and whether others may be there:
        where it says so, or describes none.
        """
        alternatives = list(self._alternatives(schema))
        known: dict[str, list[Any]] = {}
        for each in alternatives:
            for name, part in each.get("properties", {}).items():
                known.setdefault(name, []).append(part)
        own = alternatives[0]
        objects = [each for each in alternatives if each.get("type", "object") == "object"]
        none = not own.get("properties") and any(
            each.get("additionalProperties") or not (set(each) & _DESCRIBING) for each in objects
        )
        return known, bool(own.get("additionalProperties")) or none

    def _add_required(self, where: tuple[str, ...], instance: Any) -> None:
        """Add what is required and the published examples lack: they are older than the schemas."""
        for _ in range(5):
            lacking = [
                error for error in self._errors(where, instance) if error.validator == "required"
            ]
            for error in lacking:
                schema: Any = error.schema
                fields: Any = error.instance
                for name in schema["required"]:
                    fields.setdefault(name, self._least(self.resolved(schema["properties"][name])))

    def _least(self, schema: Mapping[str, Any]) -> Any:
        """The emptiest value that a schema takes."""
        if schema.get("nullable"):
            return None
        if "enum" in schema:
            return schema["enum"][0]
        empty = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}
        return empty.get(schema.get("type", ""), {})

    def _judge(self, where: tuple[str, ...], instance: Any, label: str) -> None:
        for error in self._errors(where, instance):
            place = "/".join(map(str, error.absolute_path))
            raise NotAsDescribed(f"{label}: {place}: {error.message[:300]}")

    def _errors(self, where: tuple[str, ...], instance: Any) -> Iterator[ValidationError]:
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in where)
        if pointer not in self._validators:
            schema = {"$ref": f"{_URI}#/{pointer.replace('{', '%7B').replace('}', '%7D')}"}
            self._validators[pointer] = _Validator(schema, registry=self._registry)
        yield from self._validators[pointer].iter_errors(instance)

    def _at(self, where: tuple[str, ...]) -> Any:
        node: Any = self._document
        for part in where:
            node = node[part]
        return node

    def answer_schema(self, method: str, path: str, status: int) -> Mapping[str, Any]:
        """The schema of an answer with JSON."""
        where = self._response(self.template(method, path), method, status)
        assert where, f"{method} {path} has no JSON"
        return self.resolved(self._at(where))

    def component(self, kind: str, name: str) -> Any:
        return self._document["components"][kind][name]

    def resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema, or what it refers to."""
        while "$ref" in node:
            node = self._at(tuple(node["$ref"].removeprefix("#/").split("/")))
        return node


#: Keywords of a schema that say which fields an object has.
_DESCRIBING = {"properties", "allOf", "anyOf", "oneOf"}


def _check_headers(label: str, operation: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """GitHub answers without these headers, too, but not in the shape of this version for ever."""
    if given.get("x-github-api-version") != VERSION:
        raise NotAsDescribed(f"{label}: X-GitHub-Api-Version is not {VERSION}")
    accept = given.get("accept", "none")
    # Other media types of an operation are named in its words.
    if accept != JSON and f"`{accept}`" not in operation["description"]:
        raise NotAsDescribed(f"{label}: Accept is {accept}")
    if not given.get("authorization", "Bearer ").startswith("Bearer "):
        raise NotAsDescribed(f"{label}: Authorization is no bearer token")


def _value(text: str, kind: str) -> Any:
    """A parameter as the value of its type, or its text where it is none."""
    if kind == "array":
        return text.split(",")
    if kind in ("integer", "number") and re.fullmatch(r"-?\d+", text):
        return int(text)
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


def _pattern(template: str) -> re.Pattern[str]:
    """Some parameters may have slashes: GitHub takes them as they are (x-multi-segment)."""
    wide = ("ref", "path", "branch", "tag")
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            f"(?P<{part}>{'.+' if part in wide else '[^/]+'})" if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        )
    )


def _filled(example: Any, body: Any) -> Any:
    if isinstance(body, dict) and isinstance(example, dict):
        return {**example, **{name: _filled(example.get(name), body[name]) for name in body}}
    if isinstance(body, list) and isinstance(example, list) and example:
        return [_filled(_like(item, example), item) for item in body]
    return body


def _like(item: Any, examples: list[Any]) -> Any:
    """The example for an item of a list; where items have types, of its own type."""
    if isinstance(item, dict) and isinstance(examples[0], dict) and "type" in examples[0]:
        return next((each for each in examples if each["type"] == item.get("type")), None)
    return examples[0]


@functools.cache
def description() -> Description:
    """The pinned description of github.com. Raises Cannot when it cannot be had."""
    described = Description(programs.get("github-description") / "api.github.com.json")
    # Told in words only ("Upload a release asset"): an upload that broke leaves this state.
    asset = described.component("schemas", "release-asset")
    asset["properties"]["state"]["enum"].append("starter")
    return described


@functools.cache
def enterprise() -> Description:
    """The pinned description of the oldest GitHub Enterprise Server that GitHub supports."""
    return Description(programs.get("github-enterprise") / "ghes-3.17.json")


@functools.cache
def schema() -> graphql.GraphQLSchema:
    """GitHub's pinned GraphQL schema."""
    folder = programs.get("github-graphql")
    return graphql.build_schema((folder / "schema.graphql").read_text(), assume_valid=True)


def query_errors(query: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """What GitHub's schema has against a GraphQL query."""
    document = graphql.parse(query)
    yield from (error.message for error in graphql.validate(schema(), document))
    for definition in document.definitions:
        assert isinstance(definition, graphql.OperationDefinitionNode)
        values = graphql.execution.get_variable_values(
            schema(), definition.variable_definitions or (), dict(variables)
        )
        if isinstance(values, list):
            yield from (error.message for error in values)


def graphql_answer(query: str, variables: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    """What a server with this schema answers to a query, of `data`. Raises NotAsDescribed where that
    is not of the schema's types.
    """
    answer = graphql.execute(schema(), graphql.parse(query), data, variable_values=dict(variables))
    assert isinstance(answer, graphql.ExecutionResult), "nothing here has to be awaited"
    for error in answer.errors or ():
        raise NotAsDescribed(f"GraphQL, answer: {error.message}")
    return answer.data
