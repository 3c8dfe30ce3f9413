"""Where numba keeps the functions that it has compiled, also where nothing can be written.

It keeps them beside the source, or in the user's cache. An installation that is read-only (an
image, cvmfs) and a process without a home have neither, and then numba refuses to import. For
those it is a folder of this user's in the temporary directory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def keep_compiled_functions() -> None:
    """Name a folder to numba, in the environment, where it would find none by itself.

    Processes that are started from this one use the same.
    """
    if os.environ.get(VARIABLE):
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    beside = Path(__file__).parent / "__pycache__"
    if _is_writable(beside) or _is_writable(Path(home) / "numba"):
        return
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"dimucal-compiled-{os.getuid()}"
    if not (_is_writable(folder) and _is_ours_alone(folder)):
        # somebody else's: code is loaded from there
        folder = Path(tempfile.mkdtemp(prefix="dimucal-compiled-"))
    os.environ[VARIABLE] = str(folder)


def _is_writable(folder: Path) -> bool:
    """Return whether files can be written into a folder, which is made if it is not there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _is_ours_alone(folder: Path) -> bool:
    """Return whether nobody else can have put anything into a folder."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
