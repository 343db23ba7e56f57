"""Which kind of evidence store a URL means: the only place that knows all of them by name."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.evidence.directory import DirectoryStore
from pipeline_steps.evidence.oci import OciStore
from pipeline_steps.evidence.store import Store
from pipeline_steps.toolbox.errors import ConfigurationError


def open_store(url: str, hosts: Mapping[str, Host], *, where: str = "") -> Store:
    """The store behind `url`; nothing is asked from it yet. where: file and line. Raises
    ConfigurationError.
    """
    if url.startswith("oci://"):
        return OciStore(url, hosts)
    if url.startswith("file://"):
        return DirectoryStore(url)
    message = f"this is not the URL of an evidence store: {url}"
    raise ConfigurationError(message, where=where, advice="write oci://host/path or file:///folder")
