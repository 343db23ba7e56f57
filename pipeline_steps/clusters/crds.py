"""CustomResourceDefinitions of a chart's crds folders, made before helm makes them.

On a dry run helm makes none, and then cannot render what is of these kinds. As helm does it: one
that is there is left as it is, and none is removed afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from pipeline_steps.charts.compare import split_documents
from pipeline_steps.clusters.kubernetes import Api, Object
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import ChartFailed, Conflict

KIND = "CustomResourceDefinition"
#: Between two looks whether the API server serves a new kind.
PAUSE = 0.2


class _Loader(yaml.CSafeLoader):
    """Dates are texts, as in the JSON that Kubernetes makes of YAML."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def definitions(manifests: str) -> list[Object]:
    """The definitions among what `helm template --include-crds` printed that come from crds
    folders. Raises ChartFailed for a text that is no YAML: helm prints them as they stand.
    """
    documents = [
        document for document in split_documents(manifests) if "/crds/" in document.template
    ]
    objects = [_object(document.text, document.template) for document in documents]
    return [each for each in objects if isinstance(each, dict) and each.get("kind") == KIND]


def _object(text: str, template: str) -> object:
    try:
        return yaml_reader.load_bounded(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ChartFailed(
            f"no CustomResourceDefinition that Kubernetes can read: {' '.join(str(error).split())}",
            where=template,
            advice="correct the file in the chart",
        ) from error


def create_missing(api: Api, objects: Iterable[Object], deadline: Deadline) -> None:
    """Create the definitions that do not exist, and wait until the server serves them.

    At the deadline it returns: helm's own error then names what is missing. Raises AccessRefused,
    Unreachable, Temporary, MachineError (a definition that the server refuses).
    """
    from kubernetes import client

    extensions = client.ApiextensionsV1Api(api.client)
    names = []
    for definition in objects:
        try:
            # The package takes a plain object as well as its own class.
            create_one: Callable[..., Any] = extensions.create_custom_resource_definition
            answer = api.once(create_one, definition)
        except Conflict:
            continue
        names.append(str(answer["metadata"]["name"]))
    # A definition that was made is not served yet; helm would not know the kind until it is
    # Established.
    while names and deadline.left():
        answer = api.ask(extensions.read_custom_resource_definition, names[-1]) or {}
        conditions = answer.get("status", {}).get("conditions") or ()
        if any(
            condition["type"] == "Established" and condition["status"] == "True"
            for condition in conditions
        ):
            names.pop()
        else:
            time.sleep(PAUSE)
