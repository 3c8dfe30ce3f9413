"""What becomes of one chunk: a result, or the sentence of an error, which any process can read."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from coffea.processor.executor import WorkItem

from calib.errors import CalibError, InputError
from jobs.event_loop.memory import keep_freed


@dataclass(frozen=True)
class Outcome:
    """What became of one chunk.

    ``bad_input``: trying again cannot help. ``lost``: not an error of its own, its worker went.
    """

    result: Any = None
    cpu_s: float = 0.0
    error: str = ""
    trace: str = ""
    bad_input: bool = False
    lost: bool = False


def describe(item: WorkItem) -> str:
    """Return the words for a chunk."""
    return (
        f"{item.filename}: entries {item.entrystart} to {item.entrystop} of sample {item.dataset}"
    )


def attempt(function: Callable[[WorkItem], Any], item: WorkItem) -> Outcome:
    """Return what became of a chunk.

    Parameters
    ----------
    function : callable
        WorkItem -> result.
    item : WorkItem
        The chunk, of a file that must not change meanwhile.

    Returns
    -------
    Outcome
        The result, or the sentence of the error.
    """
    keep_freed()
    start = time.process_time()
    try:
        _require_unchanged(item)
        result = function(item)
        _require_unchanged(item)
    except Exception as error:
        chain = list(_chain(error))
        ours = [e for kind in (InputError, CalibError) for e in chain if isinstance(e, kind)]
        root = ours[0] if ours else chain[-1]
        text = " ".join(str(root).split())[:500] or type(root).__name__
        named = text if isinstance(root, CalibError) else f"{type(root).__name__}: {text}"
        return Outcome(
            error=named, trace=traceback.format_exc(), bad_input=isinstance(root, InputError)
        )
    return Outcome(result=result, cpu_s=time.process_time() - start)


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def stamp(path: str) -> tuple[int, int] | None:
    """Return size and time of change of a local file in ns, None of an address."""
    if "://" in path:
        return None
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _require_unchanged(item: WorkItem) -> None:
    """Raise InputError where a file is no longer the one that was inspected."""
    expected = (item.usermeta or {}).get("stamp")
    if expected is None:
        return
    found = stamp(item.filename)
    if found is not None and tuple(expected) != found:
        raise InputError(
            f"{item.filename}: changed since this run began ({expected[0]} bytes then, {found[0]}"
            " now); run the same command again, which reads the file anew"
        )
