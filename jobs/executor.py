"""Our coffea executor: hands each chunk's result out as it comes, and holds on to none.

The results may come in any order; whoever stores them adds them in a fixed one. So the sums do
not depend on the number of workers, a run goes on where it stopped, and the client's memory
does not grow with the number of chunks.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coffea.processor.executor import ExecutorBase, WorkItem

from calib.errors import CalibError, InputError

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

IN_FLIGHT = 3
"""Chunks that are handed to the cluster at a time, per thread of it."""


@dataclass(frozen=True)
class Outcome:
    """What became of one chunk: a result, or the sentence and traceback of an error."""

    result: Any = None
    cpu_s: float = 0.0
    error: str = ""
    trace: str = ""
    bad_input: bool = False


class ChunkError(CalibError):
    """A chunk failed, and failed again."""

    def __init__(self, item: WorkItem, outcome: Outcome) -> None:
        self.path = item.filename
        self.error = outcome.error
        super().__init__(
            f"{item.filename}: entries {item.entrystart} to {item.entrystop} of sample"
            f" {item.dataset} failed twice ({outcome.error}); what was done is kept,"
            " run the same command again to go on"
        )


def attempt(function: Callable[[WorkItem], Any], item: WorkItem) -> Outcome:
    """Return what became of a chunk; errors travel as text, which any process can read."""
    start = time.process_time()
    try:
        result = function(item)
    except Exception as error:
        chain = list(_chain(error))
        root = next((e for e in chain if isinstance(e, InputError)), chain[-1])
        text = " ".join(str(root).split()) or type(root).__name__
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


@dataclass
class ChunkExecutor(ExecutorBase):
    """Run chunks here, or on a Dask client, and give each result to ``store``.

    Parameters
    ----------
    store : callable
        Called as ``store(item, result, cpu_s)``, once for each chunk, in this process.
    client : distributed.Client, optional
        Without one the chunks run here, one after the other.
    """

    store: Callable[[WorkItem, Any, float], None] | None = None
    client: Client | None = None

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
        assert self.store is not None
        outcomes = self._here if self.client is None else self._there
        for item, outcome in outcomes(list(items), function):
            self.store(item, outcome.result["out"], outcome.cpu_s)
        return {"out": {}, "processed": set()}, 0

    def _here(
        self, items: list[WorkItem], function: Callable[[WorkItem], Any]
    ) -> Iterator[tuple[WorkItem, Outcome]]:
        for item in items:
            outcome = attempt(function, item)
            if outcome.error:
                _once_more(item, outcome, again=False)
                outcome = attempt(function, item)
            if outcome.error:
                _once_more(item, outcome, again=True)
            yield item, outcome

    def _there(
        self, items: list[WorkItem], function: Callable[[WorkItem], Any]
    ) -> Iterator[tuple[WorkItem, Outcome]]:
        from distributed import as_completed

        client = self.client
        assert client is not None
        # sent once, as data: the processor may hold large arrays (a lost one is made again)
        shared = client.submit(_itself, function, pure=False)
        waiting = list(reversed(items))
        running: dict[Future, tuple[WorkItem, bool]] = {}
        results = as_completed(loop=client.loop)

        def submit(item: WorkItem, again: bool) -> None:
            # the key is our own, so that a second attempt is not answered from the first
            future = client.submit(attempt, shared, item, pure=False, retries=0)
            running[future] = (item, again)
            results.add(future)

        def fill() -> None:
            room = IN_FLIGHT * max(1, sum(client.nthreads().values()))
            while waiting and len(running) < room:
                submit(waiting.pop(), again=False)

        try:
            fill()
            while running:
                future = next(results)
                item, again = running.pop(future)
                if future.status == "finished":
                    outcome = future.result()
                else:  # not an error of the chunk: its worker was lost, again and again
                    lost = future.exception() if future.status == "error" else None
                    outcome = Outcome(error=f"its worker was lost: {lost or future.status}")
                future.release()
                if outcome.error:
                    _once_more(item, outcome, again)
                    submit(item, again=True)
                    continue
                fill()
                yield item, outcome
        finally:
            if running:
                client.cancel(list(running), force=True)
            shared.release()


def _once_more(item: WorkItem, outcome: Outcome, again: bool) -> None:
    """Let a first failure pass; raise for a second, and where trying again cannot help."""
    log.debug("%s", outcome.trace or outcome.error)
    if outcome.bad_input:
        raise InputError(outcome.error)
    if again:
        raise ChunkError(item, outcome)
    log.warning(
        "%s: entries %d to %d failed (%s), once more",
        item.filename,
        item.entrystart,
        item.entrystop,
        outcome.error,
    )


def _itself(value: Any) -> Any:
    return value
