"""Sources of charts on disk, and what is gathered from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline_steps.charts import archive, collect


def written(
    folder: Path,
    contents: Mapping[str, bytes],
    *,
    executables: Iterable[str] = (),
    links: Iterable[str] = (),
) -> Path:
    """`contents` below `folder`, path → bytes; those of `links` are the links' targets."""
    for path, data in contents.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in links:
            place.symlink_to(data.decode())
        else:
            place.write_bytes(data)
    for path in executables:
        (folder / path).chmod(0o755)
    return folder


def gathered(folder: Path, root: Path) -> archive.Files:
    """What `collect_files` takes of a folder below `root`, links as links."""
    kinds = {
        path.relative_to(root).as_posix(): _kind(path)
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }

    def read(paths: Iterable[str]) -> dict[str, bytes]:
        places = {path: root / path for path in paths}
        return {
            path: str(place.readlink()).encode() if kinds[path] == "link" else place.read_bytes()
            for path, place in places.items()
        }

    return collect.collect_files(folder.relative_to(root).as_posix(), kinds, read)


def _kind(path: Path) -> str:
    return "link" if path.is_symlink() else "executable" if path.stat().st_mode & 0o100 else "file"
