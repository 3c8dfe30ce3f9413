"""What one file says of itself, whatever its format."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from calib.digests import digest
from calib.errors import InputError
from jobs.events.addresses import is_remote
from jobs.events.marks import Marks


@dataclass(frozen=True)
class Column:
    """The kind of one column: ``flat`` or ``jagged`` numbers, or ``other``; and its type."""

    kind: str
    type: str


@dataclass(frozen=True)
class Facts:
    """What is learnt by opening a file once.

    ``boundaries`` are the first entries of its row groups or clusters, and its end;
    ``checksums`` says what protects its content, as in `jobs.events.checksums`. ``stand_ins`` are
    the columns among ``columns`` that it lacks, with those that they are made from; ``marks``
    the payloads that have corrected its events.
    """

    n_events: int
    size: int
    uuid: str
    boundaries: tuple[int, ...]
    columns: Mapping[str, Column]
    checksums: str = ""
    marks: Marks = ()
    stand_ins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def head(path: str, n: int = 64) -> bytes:
    """Return the first bytes of a local file.

    Parameters
    ----------
    path : str
        Of a local file.
    n : int
        How many at most.

    Returns
    -------
    bytes
        At least one.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, or it is empty.
    """
    try:
        with open(path, "rb") as file:
            found = file.read(n)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; correct the key 'files'") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); correct the path or its permissions"
        ) from None
    if not found:
        raise InputError(f"{path}: the file is empty (0 bytes); copy it again or leave it out")
    return found


def local_size(path: str) -> int | None:
    """Return the size of a local file in bytes, None for an address."""
    return None if is_remote(path) else os.stat(path).st_size


def expect_format(path: str, start: bytes, wanted: str) -> None:
    """Refuse a file that does not begin as its format does.

    Parameters
    ----------
    path : str
        For the sentence of the error.
    start : bytes
        Of the file, four at least.
    wanted : {"nanoaod", "stage1"}
        What it should be.

    Raises
    ------
    InputError
        If it begins otherwise.
    """
    kinds = {b"root": ("a ROOT file", "nanoaod"), b"PAR1": ("a parquet file", "stage1")}
    found, format = kinds.get(start[:4], ("neither ROOT nor parquet", ""))
    if format == wanted:
        return
    expected = {"nanoaod": "a ROOT file", "stage1": "a parquet file"}[wanted]
    advice = f"set format: {format}" if format else "correct the key 'files'"
    raise InputError(f"{path}: found {found}, expected {expected} (format: {wanted}); {advice}")


def no_events(path: str) -> InputError:
    """Return the error for a file without events, where one can be of no use."""
    return InputError(f"{path}: 0 events in the file; leave it out")


def cannot_be_opened(path: str, what: str, error: Exception) -> InputError:
    """Return the error for a file that could not be opened, with advice that fits the cause.

    Parameters
    ----------
    path : str
        A path or an address.
    what : str
        What it was to be opened as, such as ``a ROOT file``.
    error : Exception
        Whatever the library under us said.

    Returns
    -------
    InputError
        To be raised.
    """
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec takes a server that does not answer for a missing file
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if not is_remote(path):
        advice = "copy it again or leave it out"
    elif isinstance(error, ImportError):
        advice = "install what it asks for, beside this program and on the workers"
    elif isinstance(error, FileNotFoundError) or getattr(error, "status", None) == 404:
        return InputError(f"{path}: there is no such file at the server ({text}); correct it")
    elif isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
        advice = "the server refuses us: give what it asks for (proxy, token) in the environment"
    elif isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("aiohttp"):
        advice = (
            "the server does not answer, or breaks off: check the address, the network and the"
            " proxy, and run the same command again"
        )
    elif isinstance(error, ValueError) and "rotocol" in text:
        advice = f"correct the address, whose protocol {path.split('://')[0]!r} is not known"
    else:
        advice = "copy it again or leave it out"
    return InputError(f"{path}: cannot be opened as {what} ({text}); {advice}")


def uuid_bytes(text: str) -> bytes:
    """Return the 16 bytes that coffea wants; of a digest where it is not a ROOT file's uuid."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return uuid.UUID(digest(text)).bytes
