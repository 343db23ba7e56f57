"""The record of what the sandbox has started: one small file, written before and after each
change.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipeline_steps.toolbox import files, json_reader
from pipeline_steps.toolbox.daemon import Daemon
from pipeline_steps.toolbox.errors import MachineError

log = logging.getLogger(__name__)
FILE = "sandbox.json"


class ClusterRecord(msgspec.Struct, frozen=True):
    """The cluster in use.

    kind: "kubeconfig" for an existing one, else the program that created it. name: of a created
    cluster. pull_from: this machine's address for the cluster's nodes, "" when the registry's own
    address works.
    """

    kind: str
    name: str = ""
    kubeconfig: str = ""
    context: str | None = None
    pull_from: str = ""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """ports: by service, reused by the next `up` while they are free. daemons: by service, as last
    started.
    """

    schema: int = 1
    ports: dict[str, int] = {}
    daemons: dict[str, Daemon] = {}
    cluster: ClusterRecord | None = None


def read(folder: Path) -> Ledger:
    """The ledger in `folder`; empty when there is none, or when a killed run left an incomplete
    one.
    """
    try:
        ledger = json_reader.decode_as(Ledger, (folder / FILE).read_bytes())
    except FileNotFoundError:
        return Ledger()
    except ValueError as error:
        log.warning("%s is not readable (%s): starting from an empty one", folder / FILE, error)
        return Ledger()
    except OSError as error:
        raise files.unreadable(error, folder / FILE) from error
    if ledger.schema != 1:
        raise MachineError(
            f"the file was written by a newer version (schema {ledger.schema})",
            where=str(folder / FILE),
            advice="use that version of pipeline_steps for this sandbox, or another --folder",
        )
    return ledger


def write(folder: Path, ledger: Ledger) -> Ledger:
    """Write the ledger and return it."""
    files.write(folder / FILE, msgspec.json.format(msgspec.json.encode(ledger), indent=2) + b"\n")
    return ledger


@contextlib.contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Exclude other `up` and `down` commands on this machine.

    The lock is on the parent folder, so that it leaves no file.
    """
    while True:
        files.folder(folder.parent)
        descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same(descriptor, folder.parent):  # else a `down` removed the folder while we waited
                yield
                return
        finally:
            os.close(descriptor)


def _same(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
