"""Where numba keeps compiled functions, where it finds no place of its own.

Numba keeps them beside the source, else in the user's cache, else it refuses to work. In a
container with a read-only root, on CVMFS or in a batch job without a home there is neither.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def provide() -> None:
    """Name a temporary folder to numba where it could keep nothing.

    Must be called before numba is imported. Processes that we start inherit the name.
    """
    if os.environ.get(VARIABLE) or _is_writable(_beside()):
        return
    if not _is_writable(_of_user()):
        os.environ[VARIABLE] = str(_temporary())


def folder() -> Path:
    """Return a folder that is kept and lost with what numba keeps of this package."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return _beside() if _is_writable(_beside()) else _of_user()


def _beside() -> Path:
    """Return where numba keeps by itself what is in this folder."""
    return Path(__file__).parent / "__pycache__"


def _of_user() -> Path:
    """Return where numba keeps what it cannot keep beside the source."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path(os.path.expanduser("~")) / ".cache") / "numba"


def _is_writable(folder: Path) -> bool:
    """Return whether files can be written into a folder, which may have to be made first."""
    for place in (folder, *folder.parents):
        try:
            is_folder = stat.S_ISDIR(place.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError:  # below a file, or behind a door that is shut
            return False
        return is_folder and os.access(place, os.W_OK | os.X_OK)
    return False


def _temporary() -> Path:
    """Return a folder that is ours alone: what is in it is run.

    The same each time, so that functions are compiled once, unless somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"dimucal-compiled-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="dimucal-compiled-"))
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if ours and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return folder
    return Path(tempfile.mkdtemp(prefix="dimucal-compiled-"))
