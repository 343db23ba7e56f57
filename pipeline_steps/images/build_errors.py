"""What the words of a failed build or push mean, as errors of toolbox/errors: engines report
everything as text.

Only the lines in which the builder itself speaks are judged: a build step may print anything.
"""

from __future__ import annotations

import re

from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ChartFailed,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.redact import redact

#: Lines of a build kept in an error.
MAX_LINES = 20

_REFUSED = re.compile(
    r"unauthorized|authentication required|no basic auth credentials|insufficient_scope"
    r"|authorization failed"
    r"|access (?:to the resource is |forbidden)?denied|\bdenied\b|40[13] (?:Unauthorized"
    r"|Forbidden)",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"connection refused|no such host|no route to host|network is unreachable", re.IGNORECASE
)
_UNTRUSTED = re.compile(
    r"server gave HTTP response to HTTPS client|x509:|certificate|tls:", re.IGNORECASE
)
_TEMPORARY = re.compile(
    r"429|too many requests|toomanyrequests|\b50[0234]\b|i/o timeout|TLS handshake timeout"
    r"|deadline exceeded"
    r"|connection reset|unexpected EOF|code = Unavailable|: EOF$"
    r"|blob unknown to registry",
    re.IGNORECASE,
)
_LOST_BLOBS = re.compile(r"blob unknown to registry", re.IGNORECASE)
_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


def has_lost_blobs(message: str) -> bool:
    """Whether a registry refused a push since it no longer has blobs that it had acknowledged.

    distribution 2.8 does that to pushes of the same blobs that run at once; one more push fills in
    what is missing.
    """
    return bool(_LOST_BLOBS.search(message))


def registry_error(message: str, *, where: str) -> PipelineError:
    """The error for words about a registry: login, name, trust, or temporary trouble."""
    text = redact(message.strip())
    # The order matters: a message about trust or a time-out may also have the word "denied" or a
    # status.
    if _UNREACHABLE.search(text):
        return Unreachable(
            f"the registry does not answer the builder: {text}",
            where=where,
            advice="check the name and port in channels.snapshot.images, and that the builder reaches them",
        )
    if _UNTRUSTED.search(text):
        return MachineError(
            f"the builder does not trust the registry: {text}",
            where=where,
            advice="give the builder its certificate, or list it among the engine's "
            "insecure-registries",
        )
    if _TEMPORARY.search(text):
        return Temporary(f"the registry refused the image for now: {text}", where=where)
    if _REFUSED.search(text):
        return AccessRefused(
            f"the registry refuses the builder: {text}",
            where=where,
            advice="check the login in `hosts` or docker's",
        )
    return MachineError(
        f"the registry refused the image: {text}",
        where=where,
        advice="log in with an account that may write there, or correct channels.snapshot.images",
    )


def build_error(message: str, output: str, *, where: str) -> PipelineError:
    """The error of a failed build. message: what the builder itself says; output: everything it
    printed.
    """
    # Of the builder's own words only: a build step that fills its disk is the chart's matter.
    if _DISK_FULL.search(message):
        return MachineError(
            f"the builder's disk is full: {redact(message.strip())}",
            where=where,
            advice="free space there, for example: docker buildx prune",
        )
    # Masked before lines are left out and indented: a secret may go on from line to line.
    lines = [line for line in redact(output).splitlines() if line.strip()][-MAX_LINES:]
    summary = redact(message.strip())
    last_lines = "\n".join(f"  {line}" for line in lines)
    return ChartFailed(
        f"the build failed: {summary}\n{last_lines}"
        if last_lines
        else f"the build failed: {summary}",
        where=where,
        advice="correct the Dockerfile or what it copies",
    )
