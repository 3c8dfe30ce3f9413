"""Files that make their reader crash: found in a child process, which may die of them.

Where the footer of a parquet file is damaged, the library under pyarrow can end the process
(std::terminate), which no exception handler of ours would see.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import warnings
from collections.abc import Callable, Sequence

PATIENCE_S = 60.0
"""Seconds without a word after which a file is taken to hang its reader."""


def crashing(paths: Sequence[str], look: Callable[[str], object]) -> dict[str, str]:
    """Return the files on which ``look`` ends its process or hangs, with what happened.

    Exceptions do not count: whoever looks again will meet them.

    Parameters
    ----------
    paths : sequence of str
        Files.
    look : callable
        Path -> anything; it is called in a child process.

    Returns
    -------
    dict of str to str
        By path, what happened.
    """
    found: dict[str, str] = {}
    start = 0
    while start < len(paths):
        done, how = _child(paths[start:], look)
        start += done
        if how:
            found[paths[start]] = how
            start += 1
    return found


def _child(paths: Sequence[str], look: Callable[[str], object]) -> tuple[int, str]:
    """Return how many files a child has survived, and how it ended, empty if well."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # threads of ours that do not live on in the child hold nothing that it needs
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _look_at_all(paths, look, write)
    os.close(write)
    done, how = 0, ""
    while select.select([read], [], [], PATIENCE_S)[0]:
        said = os.read(read, 4096)
        if not said:
            break
        done += len(said)
    else:
        os.kill(pid, signal.SIGKILL)
        how = f"no end after {PATIENCE_S:.0f} s"
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if not how and os.WIFSIGNALED(status):
        how = f"signal {os.WTERMSIG(status)}"
    return done, how


def _look_at_all(paths: Sequence[str], look: Callable[[str], object], write: int) -> None:
    """Look at each file and say so; never return (what the parent has open stays untouched)."""
    try:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the last words of the library
        for path in paths:
            try:
                look(path)
            except Exception:
                pass
            os.write(write, b".")
    finally:
        os._exit(0)
