"""Manifests and descriptors as values (OCI image specification 1.1, Docker manifest v2 schema
2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline_steps.toolbox import json_reader
from pipeline_steps.toolbox.errors import MachineError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, *INDEXES})


class Descriptor(NamedTuple):
    """A reference to a manifest or blob. size: in bytes."""

    media_type: str
    digest: str
    size: int


class Manifest(NamedTuple):
    """A manifest as stored. digest: computed from `body`."""

    body: bytes
    media_type: str
    digest: str

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object. Raises MachineError."""
        try:
            content = json_reader.decode(self.body)
        except ValueError as error:
            raise MachineError(
                f"manifest {self.digest} is not JSON: {error}", advice="push it again"
            ) from error
        if not isinstance(content, dict):
            raise MachineError(
                f"manifest {self.digest} is not a JSON object", advice="push it again"
            )
        return content

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def children(self) -> list[Descriptor]:
        """The manifests of an index; empty for other manifests. Raises MachineError."""
        return self._descriptors(self._parts("manifests")) if self.is_index else []

    @property
    def blobs(self) -> list[Descriptor]:
        """Config and layers, without duplicates and without foreign layers, which have URLs.

        Raises MachineError.
        """
        content = self.content
        config = [content["config"]] if content.get("config") else []
        parts = [*config, *self._parts("layers")] if not self.is_index else []
        # Foreign layers are not in the registry (image specification, "non-distributable
        # layers").
        stored = [
            part for part in parts if part and not (isinstance(part, dict) and part.get("urls"))
        ]
        return list({each.digest: each for each in self._descriptors(stored)}.values())

    @property
    def config(self) -> Descriptor:
        """The configuration of an image. Raises MachineError."""
        return self._descriptors([self.content.get("config")])[0]

    @property
    def layers(self) -> list[Descriptor]:
        """The layers of an image, lowest first, as often as they are listed. Raises MachineError."""
        return self._descriptors(self._parts("layers"))

    def _parts(self, key: str) -> list[Any]:
        parts = self.content.get(key) or []
        if not isinstance(parts, list):
            raise MachineError(
                f"manifest {self.digest}: {key} is not a list", advice="push it again"
            )
        return parts

    def _descriptors(self, parts: list[Any]) -> list[Descriptor]:
        descriptors = []
        for part in parts:
            fields: dict[str, Any] = part if isinstance(part, dict) else {}
            digest: Any = fields.get("digest")
            # Checked here: what a registry sends may have any JSON where the specification has a
            # text.
            descriptor = Descriptor(fields.get("mediaType", ""), digest, fields.get("size", 0))
            if not (
                isinstance(descriptor.media_type, str)
                and isinstance(descriptor.digest, str)
                and isinstance(descriptor.size, int)
            ):
                raise MachineError(
                    f"manifest {self.digest} has a part without a valid digest, size and media type",
                    advice="push it again",
                )
            descriptors.append(descriptor)
        return descriptors
