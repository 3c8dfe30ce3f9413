"""Which code this is, of this process: asked of workers by name, as Dask asks for versions.

Read when it is first imported: a worker that has loaded the code keeps saying what it loaded,
whatever has happened to the files since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
ROOMS = ("calib", "processors", "jobs")


def sources(root: Path, rooms: tuple[str, ...] = ROOMS) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every Python file of some packages, in order.

    Parameters
    ----------
    root : Path
        Folder that the packages are in, or the zip file in which they were sent.
    rooms : tuple of str
        Names of the packages.

    Yields
    ------
    (str, bytes)
        Name, from the root, and content.
    """
    if root.is_dir():
        for room in rooms:
            for path in sorted((root / room).rglob("*.py")):
                yield path.relative_to(root).as_posix(), path.read_bytes()
        return
    with ZipFile(root) as archive:
        for room in rooms:
            names = (n for n in archive.namelist() if n.startswith(f"{room}/"))
            for name in sorted(names, key=lambda n: Path(n).parts):
                yield name, archive.read(name)


def digest(files: Iterator[tuple[str, bytes]]) -> str:
    """Return 16 hexadecimal digits that depend on names and contents."""
    state = hashlib.blake2b(digest_size=8)
    for name, content in files:
        state.update(f"{name}:{len(content)}:".encode() + content)
    return state.hexdigest()


LOADED = digest(sources(ROOT))
"""The digest of this process."""

__version__ = LOADED + ("" if ROOT.is_dir() else " sent")
"""The same for others; ``sent`` where the code was brought there for an earlier run."""
