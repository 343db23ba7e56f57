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
LINES = 20

_REFUSED = re.compile(
    r"unauthorized|authentication required|no basic auth credentials|insufficient_scope|authorization failed"
    r"|access (?:to the resource is |forbidden)?denied|\bdenied\b|40[13] (?:Unauthorized|Forbidden)",
    re.IGNORECASE,
)
_NOBODY = re.compile(
    r"connection refused|no such host|no route to host|network is unreachable", re.IGNORECASE
)
_NOT_TLS = re.compile(
    r"server gave HTTP response to HTTPS client|x509:|certificate|tls:", re.IGNORECASE
)
_FOR_NOW = re.compile(
    r"429|too many requests|toomanyrequests|\b50[0234]\b|i/o timeout|TLS handshake timeout|deadline exceeded"
    r"|connection reset|unexpected EOF|code = Unavailable|: EOF$",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


def of_registry(message: str, *, where: str) -> PipelineError:
    """The error for words about a registry: login, name, trust, or temporary trouble."""
    text = redact(message.strip())
    if _NOBODY.search(text):
        return Unreachable(f"the registry does not answer the builder: {text}", where=where)
    if _NOT_TLS.search(text):
        return MachineError(
            f"the builder does not trust the registry: {text}",
            where=where,
            advice="give the builder its certificate, or list it among the engine's insecure-registries",
        )
    if _FOR_NOW.search(text):
        return Temporary(f"the registry could not take it for now: {text}", where=where)
    if _REFUSED.search(text):
        return AccessRefused(
            f"the registry refuses the builder: {text}",
            where=where,
            advice="check the login in `hosts` or docker's",
        )
    return MachineError(f"the registry did not take it: {text}", where=where)


def of_build(message: str, output: str, *, where: str) -> PipelineError:
    """The error of a failed build. message: what the builder itself says; output: everything it
    printed.
    """
    if _FULL.search(message):
        return MachineError(f"the builder's disk is full: {redact(message.strip())}", where=where)
    lines = [line for line in output.splitlines() if line.strip()][-LINES:]
    words = redact(message.strip())
    said = redact("\n".join(f"  {line}" for line in lines))
    return ChartFailed(
        f"the build failed: {words}\n{said}" if said else f"the build failed: {words}", where=where
    )
