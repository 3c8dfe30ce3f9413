"""Our coffea executor: hands each chunk's result out as it comes, and holds on to none.

The results may come in any order; whoever stores them adds them in a fixed one. So the sums do
not depend on the number of workers, a run goes on where it stopped, and the client's memory
does not grow with the number of chunks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coffea.processor.executor import ExecutorBase, WorkItem

from calib.errors import CalibError, InputError
from jobs.event_loop import inline
from jobs.event_loop.dispatch import Dispatch
from jobs.event_loop.outcome import Outcome, describe

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)


class ChunkError(CalibError):
    """A chunk failed, and failed again."""

    def __init__(self, item: WorkItem, outcome: Outcome) -> None:
        self.item = item
        self.error = outcome.error
        super().__init__(
            f"{describe(item)} failed twice ({outcome.error}); what was done is kept,"
            " run the same command again to go on, or set bad_files to leave such files out"
        )


@dataclass
class ChunkExecutor(ExecutorBase):
    """Run chunks here, or on a Dask client, and give each result to ``store``.

    Parameters
    ----------
    store : callable
        Called as ``store(item, result, cpu_s)``, once for each chunk, in this process.
    client : distributed.Client, optional
        Without one the chunks run here, one after the other.
    set_aside : callable, optional
        Called as ``set_aside(item, sentence)`` for a chunk that failed for good, which may raise;
        without it such a chunk ends the run.
    limit_s : float
        Seconds in which a worker must finish a chunk, before it is started again.
    diary : Diary, optional
        Where it is written down what is under way, without a client.
    """

    store: Callable[[WorkItem, Any, float], None] | None = None
    client: Client | None = None
    set_aside: Callable[[WorkItem, str], None] | None = None
    limit_s: float = 1800.0
    diary: inline.Diary | None = None

    def __call__(
        self, items: Iterable[WorkItem], function: Callable[[WorkItem], Any], accumulator: Any
    ) -> tuple[dict[str, Any], int]:
        """Run all chunks; the accumulator that coffea wants back is empty.

        Raises
        ------
        ChunkError
            If a chunk failed twice.
        InputError
            If a chunk found something in its input that cannot be used.
        """
        if self.client is None:
            outcomes = inline.outcomes(list(items), function, self.limit_s, self.diary)
        else:
            outcomes = Dispatch(self.client, function, items, self.limit_s).outcomes()
        with closing(outcomes):
            for item, outcome in outcomes:
                self._take(item, outcome)
        return {"out": {}, "processed": set()}, 0

    def _take(self, item: WorkItem, outcome: Outcome) -> None:
        assert self.store is not None
        if not outcome.error:
            self.store(item, outcome.result["out"], outcome.cpu_s)
            return
        log.debug("%s", outcome.trace or outcome.error)
        if self.set_aside is not None:
            self.set_aside(item, outcome.error)
        elif outcome.bad_input:
            raise InputError(outcome.error)
        else:
            raise ChunkError(item, outcome)
