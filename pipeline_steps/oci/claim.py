"""Claim a release's tag before putting it: of two publishers with different content at the same
time, at most one succeeds.

A registry has no compare-and-swap. So a publisher that needs a free tag first puts a tag of its
own, whose name contains the needed tag and the content (claim-TAG-…), and then lists the claims of
others. Two publishers at the same time see each other, as long as listing tags shows what was just
written. Claims stay: they cost no bytes, and a publisher with the same content continues the claim
of a killed one. The publisher decides when to claim, and checks the tag itself afterwards.
"""

from __future__ import annotations

import re

from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry
from pipeline_steps.toolbox.errors import Conflict
from pipeline_steps.toolbox.files import sha256

#: How many hex digits of the content are in the name of a claim.
SHORT = 12
#: Tags have at most 128 characters (distribution specification); of a tag that is too long for
#: that, the claim contains a hash.
_ROOM = 128 - len("claim--") - SHORT


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
            f"{our_claim}); it was not named",
            where=where,
            advice=(
                "when no other publisher is at work any more, remove the claim that is wrong and "
                "run again"
            ),
        )


def claim_prefix(tag: str) -> str:
    """What the names of all claims on `tag` begin with."""
    return f"claim-{tag if len(tag) <= _ROOM else sha256(tag.encode()).removeprefix('sha256:')}-"
