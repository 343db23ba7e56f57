"""A namespace for one scenario: fresh, labelled with its owner, with a pull secret, removed again.

Its name is chosen (and recorded by the caller) before it is made, so that what a killed run leaves
is known. Labels and annotations are what `sweep` goes by: it removes what is ours and older, by the
server's clock, than `pipeline-steps/expires-after`.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping

from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.toolbox.errors import Conflict, MachineError

MANAGED = {"app.kubernetes.io/managed-by": "pipeline-steps"}
PULL_SECRET = "pipeline-steps-pull"
#: Seconds that pods of a removed test get to end by themselves: nobody needs them any more.
POD_GRACE = 1


def fresh_name(chart: str) -> str:
    """A name nobody else has: ps-<chart>-<8 hex digits>, at most 63 characters.

    >>> len(fresh_name("x" * 80)), fresh_name("My_Chart")[:11]
    (63, 'ps-my-chart')
    """
    # A name is a DNS label of 63 characters at most; the prefix and eight digits take twelve of
    # them.
    slug = re.sub(r"[^a-z0-9]+", "-", chart.lower()).strip("-")[:51].rstrip("-")
    return f"ps-{slug}-{secrets.token_hex(4)}"


def create(
    api: Api, name: str, *, owner: str, chart: str, build: str | None, expires_after: int
) -> None:
    """Make the namespace. expires_after: seconds from its creation, on the server's clock.

    Raises AccessRefused when the account may not, with the setting that helps.
    """
    from kubernetes.client import V1Namespace, V1ObjectMeta

    labels = {**MANAGED, "pipeline-steps/owner": label(owner), "pipeline-steps/chart": label(chart)}
    annotations = {
        "pipeline-steps/expires-after": f"{expires_after}s",
        **({"pipeline-steps/build": build} if build else {}),
    }
    metadata = V1ObjectMeta(
        name=name, labels={k: v for k, v in labels.items() if v}, annotations=annotations
    )
    api.once(api.core.create_namespace, V1Namespace(metadata=metadata))


def label(text: str) -> str:
    """`text` as a label value: letters, digits, "-_.", at most 63, letter or digit at both ends.

    >>> label("A. Developer <a@example.com>")
    'A.-Developer--a-example.com'
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-_.")


def require_existing(api: Api, name: str) -> None:
    """Make sure that a given namespace exists. Raises MachineError."""
    if api.ask(api.core.read_namespace, name) is None:
        raise MachineError(
            f"namespace {name} does not exist",
            where=api.connection.server,
            advice="create it, or leave out tests.namespace to get a fresh one for each scenario",
        )


def add_pull_secret(api: Api, namespace: str, credentials: Mapping[str, tuple[str, str]]) -> None:
    """Let pods of the default service account pull with `credentials`: registry host → (user,
    password).

    For fresh namespaces only: what a given one pulls with is its owner's. Charts with service
    accounts of their own name the secret `pipeline-steps-pull` in their values.
    """
    if not credentials:
        return
    from kubernetes.client import V1LocalObjectReference, V1ObjectMeta, V1Secret, V1ServiceAccount

    auths = {
        host: {"auth": _encoded(f"{user}:{password}")}
        for host, (user, password) in credentials.items()
    }
    # Basic auth as docker's config.json has it: kubelet hands it to the registry of the same host
    # only.
    secret = V1Secret(
        metadata=V1ObjectMeta(name=PULL_SECRET, labels=MANAGED),
        type="kubernetes.io/dockerconfigjson",
        data={".dockerconfigjson": _encoded(json.dumps({"auths": auths}))},
    )
    api.once(api.core.create_namespaced_secret, namespace, secret)
    account = V1ServiceAccount(
        metadata=V1ObjectMeta(name="default"),
        image_pull_secrets=[V1LocalObjectReference(name=PULL_SECRET)],
    )
    try:
        # The controller makes this account a moment after the namespace: whoever is first wins, so
        # we may be.
        api.once(api.core.create_namespaced_service_account, namespace, account)
    except Conflict:
        api.once(api.core.patch_namespaced_service_account, "default", namespace, account)


def remove(api: Api, name: str) -> None:
    """Delete the namespace with all in it; pods end at once, the rest is the server's work.

    Nobody waits for that: the server lets five seconds pass before it begins
    (namespaceDeletionGracePeriod of its controller), and no other test has this name.
    """
    api.ask(api.core.delete_collection_namespaced_pod, name, grace_period_seconds=POD_GRACE)
    api.ask(api.core.delete_namespace, name)


def request_deletion(api: Api, name: str) -> None:
    """Ask once for deletion, for a process that has to end now; what comes of it is `sweep`'s."""
    api.once(api.core.delete_namespace, name, _request_timeout=1.5)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
