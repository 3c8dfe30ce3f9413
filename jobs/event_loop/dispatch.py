"""Chunks on a cluster: handed out, watched, tried again, and suspects alone.

Every loss of a worker comes to us at once (the scheduler's own retries are off where we start
it): chunks that were on it go again, a second time alone on the whole cluster, so that the one
that kills is known by itself and its neighbours are not blamed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from coffea.processor.executor import WorkItem

from calib.errors import CalibError
from jobs.event_loop.outcome import Outcome, attempt, describe

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

IN_FLIGHT = 3
"""Chunks that are handed to the cluster at a time, per thread of it."""

LOST_IN_COMPANY = 2
"""Workers that a chunk may lose among others before it is tried alone."""

LOST_ALONE = 2
"""Workers that a chunk loses alone before it is condemned: one may be an accident."""

LOOK_S = 5.0
"""Seconds between two looks at what the workers do."""

ANSWER_S = 60.0
"""Seconds to wait for an answer of the scheduler, or for a result that is ready."""

RESTART_S = 15.0
"""Seconds to wait for a worker that is started again; it may come later."""

NO_WORKERS_S = 300.0
"""Seconds to wait for a worker where there is none."""


class Watch:
    """When each worker last finished something."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._seen: dict[str, tuple[frozenset[str], float]] = {}

    def stalled(self, processing: Mapping[str, Iterable[str]], now: float) -> list[str]:
        """Return the workers that hold the same chunks for longer than the limit.

        Parameters
        ----------
        processing : mapping of worker to the keys that it holds
        now : float
            Seconds of any steady clock.

        Returns
        -------
        list of str
            Addresses of workers.
        """
        late, seen = [], {}
        for worker, held in processing.items():
            keys = frozenset(held)
            before, since = self._seen.get(worker, (frozenset[str](), now))
            # what is added to a queue is no progress, what has left it is
            if not before or not before <= keys:
                since = now
            if keys and now - since > self.limit_s:
                late.append(worker)
            seen[worker] = (keys, since)
        self._seen = seen
        return late


class Dispatch:
    """All chunks of one walk over the events, on a Dask client."""

    def __init__(
        self,
        client: Client,
        function: Callable[[WorkItem], Any],
        items: Iterable[WorkItem],
        limit_s: float,
    ) -> None:
        self.client, self.function = client, function
        self.watch = Watch(limit_s)
        self.waiting = list(reversed(list(items)))
        self.suspects: list[WorkItem] = []
        self.running: dict[str, tuple[WorkItem, Future]] = {}
        self._ready: SimpleQueue[str] = SimpleQueue()
        self._shared: Future | None = None
        self._alone: WorkItem | None = None
        self._failed: Counter[WorkItem] = Counter()
        self._lost: Counter[WorkItem] = Counter()
        self._lost_alone: Counter[WorkItem] = Counter()
        self._killers: list[tuple[WorkItem, Outcome]] = []
        self._room, self._looked, self._had_workers = 1, 0.0, time.monotonic()

    def outcomes(self) -> Generator[tuple[WorkItem, Outcome], None, None]:
        """Return the chunks as they end, with a result or with the error that is final.

        Raises
        ------
        CalibError
            If the scheduler cannot be reached, or there are no workers.
        """
        try:
            while self.waiting or self.running or self.suspects:
                self._look()
                self._fill()
                try:
                    key = self._ready.get(timeout=1.0)
                except Empty:
                    continue
                if key not in self.running:
                    continue  # given up before
                item, future = self.running.pop(key)
                yield from self._ended(item, _outcome(future, self._patience_s))
            yield from self._killers
        finally:
            left = [future for _, future in self.running.values()]
            if left and self.client.status == "running":
                self.client.cancel(left, force=True)
            if self._shared is not None:
                self._shared.release()

    @property
    def _patience_s(self) -> float:
        """Seconds to wait for a result that is ready: its worker may hang meanwhile."""
        return min(ANSWER_S, max(LOOK_S, self.watch.limit_s))

    # handing out ---------------------------------------------------------------------------------
    def _fill(self) -> None:
        while self.waiting and len(self.running) < self._room and self._alone is None:
            self._submit(self.waiting.pop())
        if self.suspects and not self.running:
            self._alone = self.suspects.pop(0)
            self._submit(self._alone)

    def _submit(self, item: WorkItem) -> None:
        if self._shared is None or self._shared.status in ("error", "cancelled", "lost"):
            # sent once, as data: the processor may hold large arrays (a lost one is made again)
            self._shared = self.client.submit(_itself, self.function, pure=False)
        # the key is our own, so that a second attempt is not answered from the first
        future = self.client.submit(attempt, self._shared, item, pure=False, retries=0)
        self.running[future.key] = (item, future)
        future.add_done_callback(lambda f: self._ready.put(f.key))

    # what came of it -----------------------------------------------------------------------------
    def _ended(self, item: WorkItem, outcome: Outcome) -> Iterator[tuple[WorkItem, Outcome]]:
        alone, self._alone = self._alone is item, None
        if outcome.lost:
            yield from self._after_loss(item, outcome, alone)
        elif outcome.error and not outcome.bad_input and not self._failed[item]:
            self._failed[item] += 1
            log.debug("%s", outcome.trace or outcome.error)
            log.warning("%s failed (%s), once more", describe(item), outcome.error)
            self.waiting.append(item)
        else:
            yield item, outcome

    def _after_loss(
        self, item: WorkItem, outcome: Outcome, alone: bool
    ) -> Iterator[tuple[WorkItem, Outcome]]:
        if alone:
            self._lost_alone[item] += 1
            if self._lost_alone[item] >= LOST_ALONE:
                log.warning("%s: %s, alone on the cluster as well", describe(item), outcome.error)
                # the others that were lost with it come first; a second one that kills ends that
                self._killers.append((item, outcome))
                if len(self._killers) > 1:
                    yield from self._killers
                    self._killers.clear()
            else:
                self.suspects.insert(0, item)
            return
        self._lost[item] += 1
        if self._lost[item] < LOST_IN_COMPANY:
            self.waiting.append(item)
        else:
            log.warning("%s: %s; it is tried alone at the end", describe(item), outcome.error)
            self.suspects.append(item)

    # watching ------------------------------------------------------------------------------------
    def _look(self) -> None:
        """Give up what hangs; say so where there is nobody left to work."""
        now = time.monotonic()
        if self._looked and now - self._looked < min(LOOK_S, self.watch.limit_s / 4):
            return
        self._looked = now
        self._require_connection()
        processing = self._ask(self.client.scheduler.processing, workers=None)
        threads = self._ask(self.client.scheduler.ncores, workers=None)
        self._room = IN_FLIGHT * max(1, sum(threads.values()))
        if processing:
            self._had_workers = now
        elif now - self._had_workers > NO_WORKERS_S:
            raise CalibError(
                f"the cluster has had no worker for {NO_WORKERS_S:.0f} s; what was done is kept,"
                " start workers and run the same command again to go on"
            )
        ours = {w: [k for k in keys if k in self.running] for w, keys in processing.items()}
        for worker in self.watch.stalled(ours, now):
            self._give_up(worker, ours[worker])

    def _give_up(self, worker: str, keys: Iterable[str]) -> None:
        """Take the chunks of a worker that hangs away from it, and start it again."""
        text = f"it took longer than {self.watch.limit_s:g} s (cluster.chunk_timeout)"
        log.warning("worker %s: nothing done for %g s, started again", worker, self.watch.limit_s)
        taken = [self.running.pop(key) for key in keys]
        self.client.cancel([future for _, future in taken], force=True)
        for item, _ in taken:
            if self._alone is item:
                # as if it had come to an end, which the loop knows how to deal with
                key = f"late-{id(item)}"
                self.running[key] = (item, _Late(text))  # type: ignore[assignment]
                self._ready.put(key)
            else:
                self.suspects.append(item)
        try:
            self.client.restart_workers([worker], timeout=RESTART_S, raise_for_error=False)
        except ValueError:
            raise CalibError(
                f"worker {worker}: nothing done for {self.watch.limit_s:g} s, and it has no nanny"
                " to start it again; what was done is kept, end it by hand and run the same"
                " command again"
            ) from None
        except (OSError, TimeoutError) as error:
            log.debug("worker %s was not restarted (%r)", worker, error)

    def _ask(self, question: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        try:
            found = self.client.sync(question, callback_timeout=ANSWER_S, **arguments)
        except (OSError, TimeoutError):
            raise _connection_lost(self.client) from None
        return dict(found)

    def _require_connection(self) -> None:
        lost = [f for _, f in self.running.values() if f.status == "cancelled"]
        if self.client.status != "running" or lost:
            raise _connection_lost(self.client)


class _Late:
    """Stands where the future of a chunk stood that hung."""

    status = "late"

    def __init__(self, text: str) -> None:
        self.text = text

    def release(self) -> None:
        """Nothing to release."""


def _outcome(future: Any, patience_s: float) -> Outcome:
    """Return what became of a chunk; of a lost worker, an outcome that says so."""
    from distributed.scheduler import KilledWorker

    try:
        if future.status == "late":
            return Outcome(error=future.text, lost=True)
        if future.status == "cancelled":
            raise _connection_lost(future.client)
        if future.status == "finished":
            found: Outcome = future.result(timeout=patience_s)
            return found
        error = future.exception(timeout=patience_s)
        if error is None:  # its result was lost with a worker, and made again meanwhile
            again: Outcome = future.result(timeout=patience_s)
            return again
    except TimeoutError:
        return Outcome(error="the worker that has its result does not answer", lost=True)
    except KilledWorker as killed:
        error = killed
    except OSError as broken:  # the worker went while it handed out the result
        return Outcome(error=f"its worker was lost ({broken})", lost=True)
    finally:
        future.release()
    if isinstance(error, KilledWorker):
        return Outcome(error="its worker was lost (killed, or over its memory limit)", lost=True)
    text = " ".join(str(error).split())
    return Outcome(error=f"{type(error).__name__}: {text}")


def _connection_lost(client: Client) -> CalibError:
    where = getattr(client.scheduler, "address", "") or "the cluster"
    return CalibError(
        f"the connection to the scheduler at {where} was lost; what was done is kept, run the"
        " same command again to go on"
    )


def _itself(value: Any) -> Any:
    return value
