"""How a chart's values write an image: templates of {registry} {path} {repository} {tag} {digest}
{reference}.

The templates are the configuration's (`charts[].images`); changing the chart's files belongs to
charts/edit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline_steps.auth.hosts import Host, pulled
from pipeline_steps.auth.reference import DIGEST, TAG, Reference
from pipeline_steps.toolbox.errors import ConfigurationError

_FIELD = re.compile(r"\{([^{}]*)\}")


class ImageReference(NamedTuple):
    """The parts of one image's name as a cluster sees it.

    registry: host with port. path: below it. repository: registry/path. digest: "sha256:…".
    reference: all of it. A part that is not known is "".
    """

    registry: str
    path: str
    repository: str
    tag: str
    digest: str
    reference: str

    def fill(self, template: str, *, where: str = "") -> str:
        """A template with the parts filled in. Raises ConfigurationError: unknown field, or one
        without a value.

        >>> image_parts(Reference.parse("r.example.com/team/web:1.0"), {}).fill("{path}:{tag}")
        'team/web:1.0'
        """

        def value(match: re.Match[str]) -> str:
            if match[1] not in self._fields:
                raise _unknown_field(match[1], template, where)
            text = str(getattr(self, match[1]))
            if not text:
                raise ConfigurationError(
                    f"the image {self.reference} has no {match[1]}",
                    where=where,
                    advice="add it to the image, or leave the field out of the template",
                )
            return text

        return _FIELD.sub(value, template)


def image_parts(reference: Reference, hosts: Mapping[str, Host]) -> ImageReference:
    """The parts as clusters see them: see `hosts.pulled`.

    >>> hosts = {"r.example.com/prod": Host(pull_as="mirror.example.com/p")}
    >>> image_parts(Reference.parse("r.example.com/prod/web:1"), hosts).reference
    'mirror.example.com/p/web:1'
    """
    reference = pulled(reference, hosts)
    return ImageReference(
        registry=reference.host,
        path=reference.path,
        repository=reference.repository,
        tag=reference.tag or "",
        digest=reference.digest or "",
        reference=str(reference),
    )


def reference_in_values(
    templates: Mapping[str, str], values: Mapping[str, str], *, where: str = ""
) -> Reference:
    """The image that a chart's values name: the templates read backwards.

    templates: values key → template. values: values key → text as it stands in values.yaml.
    Raises ConfigurationError when they name no image, or two different ones.

    >>> str(reference_in_values({"image.repository": "{repository}", "image.tag": "{tag}"},
    ...                 {"image.repository": "r.example.com/team/web", "image.tag": "1.0"}))
    'r.example.com/team/web:1.0'
    """
    parts: dict[str, str] = {}
    for key, template in templates.items():
        for field, text in _match_template(
            template, values.get(key, ""), f"{where} {key}".strip()
        ).items():
            if parts.setdefault(field, text) != text:
                raise ConfigurationError(
                    f"{field} is {parts[field]!r} and {text!r}",
                    where=f"{where} {key}".strip(),
                    advice="make both values the same, or map only one of them",
                )
    name = parts.get("reference") or parts.get("repository")
    if not name and parts.get("path"):
        name = f"{parts['registry']}/{parts['path']}" if parts.get("registry") else parts["path"]
    if not name:
        raise ConfigurationError(
            f"the values {', '.join(templates) or '(none configured)'} name no image",
            where=where,
            advice="write it there, or give the image `existing` in pipeline.yaml",
        )
    reference = Reference.familiar(name, where=where)
    tag, digest = parts.get("tag") or reference.tag, parts.get("digest") or reference.digest
    for part, grammar in ((tag, TAG), (digest, DIGEST)):
        if part and not grammar.fullmatch(part):
            raise ConfigurationError(
                f"{part!r} is no tag or digest",
                where=where,
                advice="write a tag, or sha256: and 64 hex digits",
            )
    return reference._replace(tag=tag, digest=digest)


def _match_template(template: str, text: str, where: str) -> dict[str, str]:
    """Fields of one template from a text; an empty text says nothing."""
    if not text:
        return {}
    pattern = ""
    for position, part in enumerate(_FIELD.split(template)):
        if position % 2 and part not in ImageReference._fields:
            raise _unknown_field(part, template, where)
        # Shortest: in {repository}:{tag} the host may have a port, and fullmatch lets it grow.
        pattern += f"(?P<{part}>.+?)" if position % 2 else re.escape(part)
    match = re.fullmatch(pattern, text)
    if not match:
        raise ConfigurationError(
            f"{text!r} does not fit the template {template!r}",
            where=where,
            advice="correct the value, or its template in charts[].images of pipeline.yaml",
        )
    return match.groupdict()


def _unknown_field(name: str, template: str, where: str) -> ConfigurationError:
    fields = " ".join(f"{{{field}}}" for field in ImageReference._fields)
    return ConfigurationError(
        f"unknown field {{{name}}} in {template!r}", where=where, advice=f"use one of {fields}"
    )
