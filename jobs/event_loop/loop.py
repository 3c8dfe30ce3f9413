"""The event loop of `collect` and `skim`: chunks go out, each result is put away as it comes.

What is handed out and what becomes of a result are the caller's; counting, progress, workers that
are lost and chunks that fail are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from calib.errors import CalibError
from jobs.clusters import Workers
from jobs.config.schema import Config
from jobs.event_loop.inline import Diary
from jobs.events.facts import uuid_bytes
from jobs.events.files import Chunk
from jobs.progress import Progress
from jobs.run.accounting import Counts
from jobs.run.provenance import Stopwatch

if TYPE_CHECKING:
    from coffea.processor.executor import WorkItem


class Todo(Protocol):
    """A chunk that is to be done, with what a caller knows of it."""

    @property
    def chunk(self) -> Chunk:
        """The chunk."""
        ...

    @property
    def excluded(self) -> tuple[Any, Any] | None:
        """The events that it leaves out, as a work item carries them."""
        ...


TodoT = TypeVar("TodoT", bound=Todo)


def hand_out(
    pieces: Sequence[TodoT],
    todo: Sequence[TodoT],
    function: Callable[[WorkItem], Any],
    *,
    config: Config,
    workers: Workers,
    store: Callable[[TodoT, Any], None],
    set_aside: Callable[[Chunk, str], None],
    progress: Progress,
    text: str,
    watch: Stopwatch,
    diary: Diary | None = None,
) -> None:
    """Do the chunks that are not done yet, here or on workers.

    Parameters
    ----------
    pieces, todo : sequence
        All chunks, and those of them that are to be done.
    function : callable
        What coffea runs of a chunk; of its result the part of the chunk's sample is stored.
    config : Config
        Its ``cluster.chunk_timeout`` and ``bad_files`` count.
    workers : Workers
        Started if there are enough events to be worth it.
    store : callable
        Called as ``store(piece, result)`` in this process, in the order in which chunks end.
    set_aside : callable
        Called as ``set_aside(chunk, sentence)`` for a chunk that failed for good, where the
        configuration lets such chunks be left out.
    progress, text : callable, str
        Told the number of events that are done, under this text.
    watch : Stopwatch
        Gets the CPU time of the workers.
    diary : Diary, optional
        Where it is written down what is under way, without a client.

    Raises
    ------
    ChunkError
        If a chunk failed twice, and may not be left out.
    InputError
        If a chunk found something in its input that cannot be used.
    """
    from jobs import compiling
    from jobs.event_loop.executor import ChunkExecutor

    total, left = n_events(pieces), n_events(todo)
    done = total - left
    progress(text, done, total)
    if not todo:
        return
    client = workers.client_for(left)
    by_item = {work_item(piece.chunk, piece.excluded): piece for piece in todo}

    def put_away(item: WorkItem, result: Any, cpu_s: float) -> None:
        nonlocal done
        store(by_item[item], result[item.dataset])
        if client is not None:
            watch.elsewhere += cpu_s
        done += len(item)
        progress(text, done, total)

    def leave_out(item: WorkItem, error: str) -> None:
        set_aside(by_item[item].chunk, error)

    executor = ChunkExecutor(
        status=False,
        store=put_away,
        client=client,
        limit_s=config.cluster.chunk_timeout,
        set_aside=None if config.bad_files == "stop" else leave_out,
        diary=diary,
    )
    # not coffea's Runner: it makes arrays of every branch of a file before any is read
    with compiling.told_by_workers(client, partial(progress, compiling.TEXT, 0, 1)):
        executor(list(by_item), workers.checked(function), None)


def work_item(chunk: Chunk, excluded: tuple[Any, Any] | None = None) -> WorkItem:
    """Return a chunk as coffea names it, with the events to leave out.

    Parameters
    ----------
    chunk : Chunk
        Entries of a file.
    excluded : (earlier, again), optional
        Keys of the events to leave out, see `processors.input_checks.duplicates`.

    Returns
    -------
    WorkItem
        With runs, stamp and these keys in its metadata.
    """
    from coffea.processor.executor import WorkItem

    return WorkItem(
        chunk.sample,
        chunk.file.path,
        chunk.file.treename or "",
        chunk.start,
        chunk.stop,
        uuid_bytes(chunk.file.uuid),
        usermeta={
            "stamp": chunk.file.stamp,
            "runs": chunk.file.runs,
            **({} if excluded is None else {"earlier": excluded[0], "again": excluded[1]}),
        },
    )


def n_events(pieces: Sequence[Todo]) -> int:
    """Return the number of events in some chunks."""
    return sum(piece.chunk.stop - piece.chunk.start for piece in pieces)


def require_whole(chunk: Chunk, counts: Counts) -> None:
    """Refuse a result that does not account for every event of its chunk.

    Parameters
    ----------
    chunk : Chunk
        Entries of a file.
    counts : Counts
        Of its result.

    Raises
    ------
    CalibError
        If they do not add up.
    """
    asked = chunk.stop - chunk.start
    if counts.read != asked or not counts.adds_up:
        raise CalibError(
            f"{chunk.file.path}: entries {chunk.start} to {chunk.stop}:"
            f" {counts.read} of {asked} events read, {counts.selected} selected and"
            f" {sum(counts.rejected.values())} rejected, which does not add up; nothing of it is"
            " kept, please report this"
        )
