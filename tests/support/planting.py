"""Faults planted into chart repositories behind their publishers' back: one `Planter` for each kind
of repository.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.github import Repository

Change = Callable[[dict[str, bytes]], None]


class Folder:
    """A chart repository in a folder. `change` is given all its files by name, and may do to them
    what it likes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.url = folder.as_uri()

    def change(self, change: Change) -> None:
        before = {
            path.name: path.read_bytes() for path in self.folder.iterdir() if path.name != ".lock"
        }
        for name, data in _changed(before, change).items():
            if data is None:
                (self.folder / name).unlink()
            else:
                (self.folder / name).write_bytes(data)


class Pages:
    """A chart repository on a branch of a bare git repository."""

    def __init__(self, folder: Path) -> None:
        from tests.support.gits import bare

        self.bare = bare(folder / "pages.git")
        self.clone = folder / "clone"
        self.url = f"git+{self.bare.as_uri()}#gh-pages"

    def change(self, change: Change) -> None:
        if not self.clone.exists():
            self.git(
                "clone",
                "-q",
                "--branch",
                "gh-pages",
                str(self.bare),
                str(self.clone),
                cwd=self.bare,
            )
        self.git("pull", "-q")
        before = {path.name: path.read_bytes() for path in self.clone.iterdir() if path.is_file()}
        for name, data in _changed(before, change).items():
            if data is None:
                (self.clone / name).unlink()
            else:
                (self.clone / name).write_bytes(data)
        self.git("add", "-A")
        self.git(
            "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "by hand"
        )
        self.git("push", "-q", "origin", "gh-pages")

    def git(self, *words: str, cwd: Path | None = None) -> None:
        subprocess.run(["git", *words], cwd=cwd or self.clone, check=True, stdout=sys.stderr)


class Releases:
    """A chart repository of releases of a GitHub, the double; files cannot be added by `change`."""

    def __init__(self, repository: Repository, name: str) -> None:
        self.repository = repository
        self.url = f"github-releases:{name}"

    def change(self, change: Change) -> None:
        assets = {asset["name"]: number for number, asset in self.repository.assets.items()}
        before = {name: self.repository.data[number] for name, number in assets.items()}
        before["index.yaml"] = self.repository.files("gh-pages")["index.yaml"]
        for name, data in _changed(before, change).items():
            if name == "index.yaml":
                self.repository.put("gh-pages", name, data or b"")
            elif data is None:
                del self.repository.assets[assets[name]]
            else:
                self.repository.data[assets[name]] = data


def _changed(before: Mapping[str, bytes], change: Change) -> dict[str, bytes | None]:
    """What `change` made other, None for what it took away."""
    after = dict(before)
    change(after)
    gone: dict[str, bytes | None] = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: data for name, data in after.items() if before.get(name) != data}
