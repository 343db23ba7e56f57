"""Names of things in registries, parsed once at the edge: host[:port]/path[:tag][@digest].

Grammar: OCI Distribution Specification 1.1, "Pulling manifests" (path, tag), OCI Image
Specification (digest).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline_steps.toolbox.errors import ConfigurationError

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
PATH = re.compile(rf"{_PART}(?:/{_PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: What Docker adds to a name without host, and where that host's API really is.
DOCKER_HUB = "docker.io"


class Reference(NamedTuple):
    """host: with port where there is one. tag, digest: None where not written; digest "sha256:" +
    64 hex digits.
    """

    host: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str, *, where: str = "") -> Reference:
        """Parse a name whose host is written. where: for errors (file, line, key).

        Raises ConfigurationError saying which part is wrong.

        >>> Reference.parse("localhost:5000/team/web:1.0")
        Reference(host='localhost:5000', path='team/web', tag='1.0', digest=None)
        """
        host, slash, rest = text.partition("/")
        if not slash or not _HOST.fullmatch(host):
            raise _invalid(text, "no host (host[:port]/path[:tag][@digest])", where)
        return _after_host(host, rest, text, where)

    @classmethod
    def familiar(cls, text: str, *, where: str = "") -> Reference:
        """Parse a name as Docker reads it: without host it is docker.io's, one part is below
        library/.

        >>> str(Reference.familiar("busybox:1")), str(Reference.familiar("localhost/a/b"))
        ('docker.io/library/busybox:1', 'localhost/a/b')
        """
        host, slash, _ = text.partition("/")
        if slash and (
            host == "localhost" or any(mark in host for mark in ".:[") or host != host.lower()
        ):
            reference = cls.parse(text, where=where)
        else:
            reference = _after_host(DOCKER_HUB, text, text, where)
        if reference.host in (DOCKER_HUB, "index.docker.io"):
            path = reference.path if "/" in reference.path else f"library/{reference.path}"
            reference = reference._replace(host=DOCKER_HUB, path=path)
        return reference

    @property
    def repository(self) -> str:
        """host/path, without tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def name(self) -> str:
        """What a request for it names: the digest if there is one, else the tag, else "latest"."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.path}{tag}{digest}"


def _after_host(host: str, rest: str, text: str, where: str) -> Reference:
    name, at, digest = rest.partition("@")
    path, colon, tag = name.partition(":")
    if not PATH.fullmatch(path) or len(path) > 255:
        raise _invalid(
            text,
            f"{path!r} is not a path (lower-case letters, digits and . _ - between them, / )",
            where,
        )
    if colon and not TAG.fullmatch(tag):
        raise _invalid(text, f"{tag!r} is not a tag (letters, digits, _ . - ; at most 128)", where)
    if at and not DIGEST.fullmatch(digest):
        raise _invalid(text, f"{digest!r} is not a digest (sha256: and 64 hex digits)", where)
    return Reference(host, path, tag or None, digest or None)


def _invalid(text: str, why: str, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"this is not an image or artifact reference: {text!r}: {why}",
        where=where,
        advice="write HOST/PATH:TAG or HOST/PATH@sha256:…",
    )
