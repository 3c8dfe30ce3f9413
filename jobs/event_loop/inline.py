"""Chunks in this process, without a cluster: what protects from them here, and what does not.

There is nobody to end a chunk that hangs or fills memory, and one that crashes takes the command
with it. What is being done is written down, so that a chunk in which the process ended twice
without a word is known when the command is given again, and is treated as any other that kills.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from coffea.processor.executor import WorkItem

from jobs.event_loop.outcome import Outcome, attempt, describe
from jobs.storage.files import RunDirectory

log = logging.getLogger(__name__)

DEATHS = 2
"""Processes that a chunk may take with it before it is left alone: one may be an accident."""

NOTE = "under_way"


class Diary:
    """What this process is at, for the one that comes after it.

    Parameters
    ----------
    directory : RunDirectory
        Its lock is held.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def deaths(self, item: WorkItem) -> int:
        """Return how many processes have ended in the middle of a chunk."""
        note = self._directory.note(NOTE)
        return int(note.get("deaths", 0)) if note.get("chunk") == describe(item) else 0

    @contextmanager
    def open_at(self, item: WorkItem) -> Iterator[None]:
        """Stand at a chunk; an error, or Ctrl-C, is no death."""
        self._directory.keep(NOTE, {"chunk": describe(item), "deaths": self.deaths(item) + 1})
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Forget what was written."""
        self._directory.forget(NOTE)


def outcomes(
    items: Sequence[WorkItem],
    function: Callable[[WorkItem], Any],
    limit_s: float,
    diary: Diary | None = None,
) -> Generator[tuple[WorkItem, Outcome], None, None]:
    """Yield what becomes of the chunks, one after the other; a failed one is tried once more.

    Parameters
    ----------
    items : sequence of WorkItem
        The chunks.
    function : callable
        WorkItem -> result.
    limit_s : float
        Seconds after which it is said that a chunk takes long; nothing more can be done here.
    diary : Diary, optional
        Knows on which chunks the process ended before.

    Yields
    ------
    (WorkItem, Outcome)
        In the order of the items.
    """
    for item in items:
        if diary is not None and diary.deaths(item) >= DEATHS:
            diary.close()  # whoever gives the command once more wants it tried again
            yield (
                item,
                Outcome(
                    error=f"the process ended without a word in the middle of it, {DEATHS} times",
                    lost=True,
                ),
            )
            continue
        if diary is None:
            yield item, _twice(function, item, limit_s)
        else:
            with diary.open_at(item):
                outcome = _twice(function, item, limit_s)
            yield item, outcome


def _twice(function: Callable[[WorkItem], Any], item: WorkItem, limit_s: float) -> Outcome:
    with _watched(item, limit_s):
        outcome = attempt(function, item)
        if outcome.error and not outcome.bad_input:
            log.debug("%s", outcome.trace)
            log.warning("%s failed (%s), once more", describe(item), outcome.error)
            outcome = attempt(function, item)
    return outcome


@contextmanager
def _watched(item: WorkItem, limit_s: float) -> Iterator[None]:
    """Say so where a chunk takes longer than it should."""
    timer = threading.Timer(limit_s, _say_late, (item, limit_s))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say_late(item: WorkItem, limit_s: float) -> None:
    log.warning(
        "%s: takes longer than %g s (cluster.chunk_timeout), and nobody can end it with"
        " cluster.kind inline; stop the command, and give cluster.kind local to have it set aside",
        describe(item),
        limit_s,
    )
