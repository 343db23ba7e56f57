"""GitHub's published description of its REST API (OpenAPI), and of GraphQL, as judges of the double.

Every request must have an operation, its declared parameters and a body as described; every answer
must be as described. What a double does not care about comes from the description's own example.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import graphql
from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.jsonschema import SchemaRegistry

from tests.support.github import NotAsDescribed
from tools.programs import programs

_URI = "urn:github"


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


class Description:
    """The OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        resource: Resource[Any] = Resource.opaque(document)
        self._registry: SchemaRegistry = Registry().with_resource(_URI, resource)
        self._validators: dict[str, Any] = {}
        self._paths = [(template, _pattern(template)) for template in document["paths"]]

    def template(self, method: str, path: str) -> str:
        """The described path, like /repos/{owner}/{repo}; the most literal one."""
        found = [
            template
            for template, pattern in self._paths
            if pattern.fullmatch(path) and method.lower() in self._document["paths"][template]
        ]
        if not found:
            raise NotAsDescribed(f"{method} {path}: there is no such operation")
        return max(map(str, found), key=lambda template: len(re.sub(r"\{\w+\}", "", template)))

    def check_request(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> None:
        """Raise NotAsDescribed unless GitHub has this operation with these parameters."""
        template = self.template(method, path)
        operation = self._document["paths"][template][method.lower()]
        parameters = map(self._resolved, operation.get("parameters", ()))
        query_names = {each["name"] for each in parameters if each["in"] == "query"}
        if unknown := set(query) - query_names:
            raise NotAsDescribed(f"{method} {template}: no parameter {', '.join(sorted(unknown))}")
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content or not (body or operation["requestBody"]["required"]):
            return
        fields = json.loads(body)
        where = ("paths", template, method.lower(), "requestBody", "content", "application/json")
        self._judge((*where, "schema"), fields, f"{method} {template}, request")
        described = self._resolved(content["application/json"]["schema"]).get("properties")
        if described and (unknown := set(fields) - set(described)):
            raise NotAsDescribed(f"{method} {template}: no field {', '.join(sorted(unknown))}")

    def complete(self, method: str, path: str, status: int, body: Any) -> Any:
        """An answer with what its example has beside `body`. Raises NotAsDescribed for one that
        is not as described.
        """
        template = self.template(method, path)
        responses = self._document["paths"][template][method.lower()]["responses"]
        where: tuple[str, ...] = ("paths", template, method.lower(), "responses", str(status))
        if str(status) not in responses:
            if status >= 400:  # an error that any operation can have is described as others are
                where = ("components", "responses", "not_found")
            else:
                raise NotAsDescribed(f"{method} {template}: {status} is not described")
        response = self._at(where)
        if "$ref" in response:
            where = tuple(response["$ref"].removeprefix("#/").split("/"))
            response = self._at(where)
        content = response.get("content", {}).get("application/json")
        if content is None or body is None or isinstance(body, bytes):
            return body
        examples = [self._resolved(each) for each in content.get("examples", {}).values()]
        example = examples[0].get("value") if examples and status < 400 else None
        completed = json.loads(json.dumps(_filled(example, body)))
        whole = (*where, "content", "application/json", "schema")
        self._add_required(whole, completed)
        self._judge(whole, completed, f"{method} {template}, answer {status}")
        return completed

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
                    fields.setdefault(name, self._least(self._resolved(schema["properties"][name])))

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
        return functools.reduce(lambda node, part: node[part], where, self._document)

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            node = self._at(tuple(node["$ref"].removeprefix("#/").split("/")))
        return node


def _pattern(template: str) -> re.Pattern[str]:
    """{ref} and {path} may have slashes: GitHub takes them as they are."""
    parts = re.split(r"(\{\w+\})", template)
    wide = {"{ref}": ".+", "{path}": ".+", "{branch}": ".+", "{tag}": ".+"}
    return re.compile(
        "".join(
            wide.get(part, "[^/]+") if part.startswith("{") else re.escape(part) for part in parts
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
    """The pinned description. Raises Cannot when it cannot be had."""
    folder = programs.get("github-description")
    document = json.loads((folder / "api.github.com.json").read_bytes())
    # Told in words only ("Upload a release asset"): an upload that broke leaves this state.
    asset = document["components"]["schemas"]["release-asset"]
    asset["properties"]["state"]["enum"].append("starter")
    return Description(document)


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
