"""A file that one process holds at a time, and that says which."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from calib.errors import InputError


@contextmanager
def held(file: TextIOWrapper, command: str, busy: Callable[[str], str]) -> Iterator[None]:
    """Hold an open file for one command.

    Parameters
    ----------
    file : text file, open for appending
        Its text is who holds it.
    command : str
        What is said to others who ask for it.
    busy : callable
        Makes the sentence of the error from who holds it.

    Yields
    ------
    None
        While it is held.

    Raises
    ------
    InputError
        If another process holds it.
    """
    if not _taken(file):
        raise InputError(busy(holder(Path(file.name)) or "another process"))
    os.ftruncate(file.fileno(), 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = f"`{command}`, process {os.getpid()} on {socket.gethostname()}, since {since}"
    with suppress(OSError):  # who it is may remain unsaid on a full disk
        os.write(file.fileno(), text.encode())
    try:
        yield
    finally:
        os.ftruncate(file.fileno(), 0)
        fcntl.flock(file, fcntl.LOCK_UN)


def _taken(file: TextIOWrapper) -> bool:
    """Take the lock; whoever only asks who holds it has it for a moment."""
    for pause in (0.01, 0.05, 0.2, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(pause)
        else:
            return True
    return False


@contextmanager
def shared(file: TextIOWrapper, busy: Callable[[str], str]) -> Iterator[None]:
    """Hold an open file with others that read, as `held` does alone.

    Parameters
    ----------
    file : text file
        Open.
    busy : callable
        Makes the sentence of the error from who holds it.

    Yields
    ------
    None
        While it is held.

    Raises
    ------
    InputError
        If another process holds it alone.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        raise InputError(busy(file.read().strip() or "another process")) from None
    yield


def holder(path: Path) -> str:
    """Return who holds a file, empty where nobody does."""
    try:
        with path.open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "another process"
    except FileNotFoundError:
        pass
    return ""
