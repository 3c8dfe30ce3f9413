"""What a file says to the catalogue: runs, sections and events in each, size, checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from calib.errors import CalibError, InputError
from calib.types import AnyArray

BATCH = 20
"""Files that are looked at before what was found is kept."""

INLINE = 4
"""Files for which no process is started."""


@dataclass(frozen=True)
class RunPart:
    """What a file holds of one run: events, and its luminosity sections, ``1-20,25``."""

    run: int
    events: int
    sections: str


@dataclass(frozen=True)
class SeenFile:
    """A file as it was found. ``error`` says why it cannot be used; the rest is empty then."""

    path: str
    error: str = ""
    uuid: str = ""
    checksum: str | None = None
    size: int = 0
    mtime: int | None = None
    events: int = 0
    runs: tuple[RunPart, ...] = ()


def look_at(path: str, format: str, *, checksum: bool, runs: bool = True) -> SeenFile:
    """Return what a file says of itself.

    Parameters
    ----------
    path : str
        A file or an address.
    format : str
        nanoaod, or of parquet stage1 or table.
    checksum : bool
        Whether all bytes are read for a checksum; never of an address.
    runs : bool
        Whether the runs are read.

    Returns
    -------
    SeenFile
        Without an error.

    Raises
    ------
    InputError
        If it cannot be read, or is none of this format.
    """
    from jobs.events.addresses import is_remote
    from jobs.events.facts import no_events
    from jobs.events.parquet import inspect_parquet
    from jobs.events.root import inspect_root

    inspect = inspect_root if format == "nanoaod" else inspect_parquet
    before = None if is_remote(path) else _stamp(path)
    facts = inspect(path, ("run", "luminosityBlock"))
    if not facts.n_events:
        raise no_events(path)
    found = SeenFile(
        path=path,
        uuid=facts.uuid,
        checksum=content_of(path) if checksum and before is not None else None,
        size=facts.size,
        mtime=None if before is None else before[1],
        events=facts.n_events,
        runs=_runs(path, format, facts.uuid, facts.n_events) if runs else (),
    )
    if before is not None and _stamp(path) != before:
        raise InputError(f"{path}: changed while it was read; add it when it is finished")
    return found


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct the path") from None
    return found.st_size, found.st_mtime_ns


def content_of(path: str) -> str:
    """Return the SHA-256 of all bytes of a file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); copy it again or leave it out"
        ) from None


def _runs(path: str, format: str, uuid: str, n_events: int) -> tuple[RunPart, ...]:
    columns = _root_columns(path) if format == "nanoaod" else _parquet_columns(path)
    if "run" not in columns:
        return (RunPart(_stand_in(uuid), n_events, ""),)
    run = columns["run"].astype(np.int64)
    block = columns.get("luminosityBlock")
    order = np.argsort(run, kind="stable")
    values, first, count = np.unique(run[order], return_index=True, return_counts=True)
    parts = []
    for value, start, n in zip(values.tolist(), first.tolist(), count.tolist(), strict=True):
        own = () if block is None else np.unique(block[order[start : start + n]]).tolist()
        parts.append(RunPart(int(value), int(n), packed(own)))
    return tuple(parts)


def _stand_in(uuid: str) -> int:
    """Return the number that the event loop uses where a file has no run."""
    from uuid import UUID

    from jobs.events.facts import uuid_bytes
    from processors.readers.events import run_of

    return run_of(str(UUID(bytes=uuid_bytes(uuid))))


def _root_columns(path: str) -> dict[str, AnyArray]:
    import uproot

    try:
        with uproot.open({path: None}) as file:
            tree = file["Events"]
            names = [n for n in ("run", "luminosityBlock") if n in tree.keys(recursive=False)]
            found = tree.arrays(filter_name=names) if names else {}
            return {name: np.asarray(found[name]) for name in names}
    except Exception as error:
        raise _unreadable(path, error) from error


def _parquet_columns(path: str) -> dict[str, AnyArray]:
    from processors.readers.stage1 import open_parquet

    try:
        with open_parquet(path) as file:
            names = [n for n in ("run", "luminosityBlock") if n in file.schema_arrow.names]
            table = file.read(columns=names, use_threads=False)
            return {name: table.column(name).to_numpy() for name in names}
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> InputError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path}: its runs cannot be read ({text}); copy it again or leave it out")


def packed(sections: Sequence[int]) -> str:
    """Return numbers in ascending order as ranges, ``1-20,25``."""
    ranges: list[list[int]] = []
    for number in sections:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = int(number)
        else:
            ranges.append([int(number), int(number)])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def unpacked(text: str) -> Iterator[int]:
    """Yield the numbers of ``1-20,25``."""
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


# many files ------------------------------------------------------------------------------------
Look = Callable[[str], SeenFile]


def look_at_all(
    paths: Sequence[str], looks: Sequence[Look], workers: int
) -> Iterator[list[SeenFile]]:
    """Yield what was found at the paths, batch by batch, in the order in which they are done.

    A file on which its reader crashes or hangs has that as its error.

    Parameters
    ----------
    paths : sequence of str
        Files and addresses.
    looks : sequence of callable
        Path -> Seen, one for each path, which a process can be given.
    workers : int
        Processes.

    Yields
    ------
    list of SeenFile
        A batch.

    Raises
    ------
    CalibError
        If a process was killed.
    """
    jobs = [(paths[i : i + BATCH], looks[i : i + BATCH]) for i in range(0, len(paths), BATCH)]
    if workers == 1 or len(paths) <= INLINE:
        yield from (look_at_batch(*job) for job in jobs)
        return
    n = min(workers, len(jobs))
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        todo = [pool.submit(look_at_batch, *job) for job in jobs]
        try:
            for done in as_completed(todo):
                yield done.result()
        except BrokenProcessPool:
            raise CalibError(
                "a process that looked at files was killed (memory?); what was found is kept, run"
                " the same command again with fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def look_at_batch(paths: Sequence[str], looks: Sequence[Look]) -> list[SeenFile]:
    """Return what was found at some paths.

    Parameters
    ----------
    paths : sequence of str
        Files and addresses.
    looks : sequence of callable
        Path -> Seen, one for each path.

    Returns
    -------
    list of SeenFile
        In their order, some with an error.
    """
    from jobs.events.addresses import is_remote
    from jobs.events.guard import crashing

    by_path = dict(zip(paths, looks, strict=True))
    risky = [p for p in paths if not is_remote(p) and _may_crash(by_path[p])]
    deadly = crashing(risky, lambda path: _opened(path))
    found = []
    for path in paths:
        try:
            if path in deadly:
                raise InputError(
                    f"{path}: damaged so that its reader crashes ({deadly[path]}); copy it again or"
                    " leave it out"
                )
            found.append(by_path[path](path))
        except InputError as error:
            found.append(SeenFile(path, error=str(error).removeprefix(f"{path}: ")))
    return found


def _may_crash(look: Any) -> bool:
    return isinstance(look, partial) and look.keywords.get("format") != "nanoaod"


def _opened(path: str) -> None:
    from jobs.events.parquet import inspect_parquet

    inspect_parquet(path, ("run", "luminosityBlock"))
