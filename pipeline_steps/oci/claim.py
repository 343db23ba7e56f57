"""A claim on a tag of a release before it is put: of two publishers with different content at once,
one wins or none.

A registry has no compare-and-swap, so whoever wants a free tag first puts a tag of its own that
names both the wanted tag and the content (claim-TAG-…), and then looks for those of others. Both
who claim at once see each other; listing tags must show what was just written. Claims stay: they
cost no bytes, and a killed publisher's is taken up by the same content. When to claim, and the look
at the tag itself afterwards, are the publisher's.
"""

from __future__ import annotations

import re

from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry
from pipeline_steps.toolbox.errors import Conflict
from pipeline_steps.toolbox.files import sha256

#: Hex digits of a content in a claim.
SHORT = 12
#: The longest tag of the specification is 128 characters; a longer wanted tag stands in its claim
#: as a hash.
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
    """Say that `content` (a digest) wants `tag` of the repository `path`, whose manifest is there
    by digest already.

    subject, where: the thing and its place, for words. Raises Conflict when another content said so,
    too.
    """
    claims_prefix = claim_prefix(tag)
    our_claim = f"{claims_prefix}{content.removeprefix('sha256:')[:SHORT]}"
    registry.put_manifest(path, our_claim, manifest.body, manifest.media_type)
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
    """How the claims of a wanted tag begin."""
    return f"claim-{tag if len(tag) <= _ROOM else sha256(tag.encode()).removeprefix('sha256:')}-"
