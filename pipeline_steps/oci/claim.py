"""Claim a tag before putting it: of several publishers with different content at the same time, at
most one puts a release's tag (`claim_tag`), exactly one that of a built image (`put_tag_once`).

A registry has no compare-and-swap. So a publisher that needs a free tag first puts a tag of its
own, whose name contains the needed tag and the content (claim-TAG-…), and then lists the claims of
others. Two publishers at the same time see each other, as long as listing tags shows what was just
written. Claims stay: they cost no bytes, and a publisher with the same content continues the claim
of a killed one. The publisher decides when to claim, and checks the tag itself afterwards.
"""

from __future__ import annotations

import re
import secrets
import time

from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import Conflict
from pipeline_steps.toolbox.files import sha256

#: How many hex digits of the content are in the name of a claim.
SHORT = 12
#: Tags have at most 128 characters (distribution specification); of a tag that is too long for
#: that, the claim contains a hash.
_ROOM = 128 - len("claim--") - SHORT
#: Seconds that another publisher has to go on before it counts as killed; of pauses between looks.
PATIENCE, PAUSE = 10.0, 0.2


def claim_tag(
    registry: Registry,
    path: str,
    tag: str,
    content: str,
    manifest: Manifest,
    *,
    subject: str,
    where: str,
) -> None:
    """Claim `tag` for `content`.

    Args:
        path: of the repository in `registry`.
        tag: the tag that will be put.
        content: digest that identifies the content.
        manifest: of the content; the registry has it already, by digest.
        subject: the chart version or tag, for the error.
        where: address, for the error.

    Raises:
        Conflict: a publisher with another content claims the tag, too.
    """
    claims_prefix = claim_prefix(tag)
    our_claim = f"{claims_prefix}{content.removeprefix('sha256:')[:SHORT]}"
    # Put first, list afterwards: of two publishers at least the later one then sees the other
    # claim.
    registry.put_manifest(path, our_claim, manifest.body, manifest.media_type)
    # With all its digits: "claim-1.0.0-" also begins the claims on a version 1.0.0-rc.
    claim_pattern = re.compile(re.escape(claims_prefix) + f"[0-9a-f]{{{SHORT}}}")
    other_claims = [
        listed_tag
        for listed_tag in registry.tags(path)
        if claim_pattern.fullmatch(listed_tag) and listed_tag != our_claim
    ]
    if other_claims:
        raise Conflict(
            f"another publisher claims {subject} with another content ({other_claims[0]}, ours "
            f"{our_claim}); the tag was not set",
            where=where,
            advice=(
                "when no other publisher is at work any more, remove the claim that is wrong and "
                "run it again"
            ),
        )


def put_tag_once(
    registry: Registry, path: str, tag: str, manifest: Manifest, patience: float = PATIENCE
) -> str | None:
    """Put a tag that is free, unless another publisher comes first; the digest that it names then.

    Who sees claims of other contents takes a number above all that it sees, as in Lamport's bakery
    algorithm, and waits until each of them has a number or the tag is there: the lowest puts it.
    Who sees none puts the tag at once; others wait for it, because that claim has no number.

    Args:
        path: of the repository in `registry`.
        tag: at most 96 characters.
        manifest: the registry has it already, by digest.
        patience: seconds.

    Returns:
        None when a publisher that came first does not go on: it was killed. The tag stays free.
    """
    prefix, content = claim_prefix(tag), manifest.digest.removeprefix("sha256:")[:SHORT]
    # Of its own, although others may have the same content: a number says that its owner waits.
    own = f"{content}-{secrets.token_hex(4)}"
    registry.put_manifest(path, prefix + own, manifest.body, manifest.media_type)
    claims = _read_claims(registry, path, prefix)
    if any(not claim.startswith(content) for claim in claims):
        number = 1 + max(claims.values())
        registry.put_manifest(path, f"{prefix}{own}-{number}", manifest.body, manifest.media_type)
        claims = _read_claims(registry, path, prefix)
    deadline = Deadline(patience)
    while True:
        existing = registry.head(path, tag)
        if existing is not None:
            return existing.digest
        if _is_first(own, claims):
            return registry.put_manifest(path, tag, manifest.body, manifest.media_type)
        if deadline.over:
            return None
        time.sleep(PAUSE)
        claims = _read_claims(registry, path, prefix)


def _is_first(own: str, claims: dict[str, int]) -> bool:
    """Whether the publisher of the claim `own` may put the tag. claims: as `_read_claims`."""
    others = {claim: number for claim, number in claims.items() if claim[:SHORT] != own[:SHORT]}
    if not others:
        return own in claims
    ours = claims.get(own, 0)
    return bool(ours) and all(
        number and (ours, own) < (number, claim) for claim, number in others.items()
    )


def _read_claims(registry: Registry, path: str, prefix: str) -> dict[str, int]:
    """The claims of `put_tag_once` → their numbers, 0 without one."""
    name = f"([0-9a-f]{{{SHORT}}}-[0-9a-f]{{8}})(?:-([0-9]{{1,9}}))?"
    pattern = re.compile(re.escape(prefix) + name)
    claims: dict[str, int] = {}
    for match in filter(None, map(pattern.fullmatch, registry.tags(path))):
        claims[match[1]] = max(claims.get(match[1], 0), int(match[2] or 0))
    return claims


def claim_prefix(tag: str) -> str:
    """What the names of all claims on `tag` begin with."""
    return f"claim-{tag if len(tag) <= _ROOM else sha256(tag.encode()).removeprefix('sha256:')}-"
