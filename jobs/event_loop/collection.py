"""Walk over the events once: chunks to files as they come, then totals in a fixed order."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.digests import digest
from calib.errors import CalibError, InputError
from calib.events import histograms
from calib.events.histograms import Sums
from calib.results import Pass
from jobs.clusters import Workers
from jobs.config.complete import Work
from jobs.event_loop.inline import Diary
from jobs.event_loop.loop import hand_out, require_whole
from jobs.event_loop.set_aside import Ledger
from jobs.events.files import Chunk, Inspection, chunks, settled_size
from jobs.progress import Progress
from jobs.run import accounting as accounts
from jobs.run import input_checks, provenance, selection_levels
from jobs.run.accounting import Counts
from jobs.storage.files import write_bytes, write_json

if TYPE_CHECKING:
    from jobs.event_loop.chunk_result import Parcel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """One chunk with the file that holds its result, and what it leaves out as duplicates."""

    chunk: Chunk
    path: Path
    excluded: input_checks.Excluded | None = None


def collect(
    work: Work, inspection: Inspection, walk: Pass, workers: Workers, progress: Progress
) -> bool:
    """Make the totals of a pass.

    Parameters
    ----------
    work : Work
        Configuration, calibration and directory.
    inspection : Inspection
        What the files are.
    walk : Pass
        Which walk over the events this is.
    workers : Workers
        Where the chunks are done; started where there is something to do.
    progress : callable
        Told how far it is.

    Returns
    -------
    bool
        Whether anything had to be done.

    Raises
    ------
    ChunkError
        If a chunk failed twice; what was done is kept.
    InputError
        If a chunk found bad input, or a sample has no selected pair.
    """
    walk = work.calibration.sized(walk, _n_events(inspection))
    pieces = list(_pieces(work, inspection, walk))
    once = work.config.duplicates == "first"
    if once and walk.name != "main":
        first = work.calibration.sized(Pass(), _n_events(inspection))
        ledger = Ledger(work, inspection, walk)
        main = [p for p in _pieces(work, inspection, first) if not ledger.has(p.chunk)]
        pieces = _each_once(work, main, pieces)
    plain = pieces
    asked = digest([piece.path.name for piece in pieces])
    step = f"collect.{walk.name}"
    totals = [work.directory.total(walk, s.name) for s in work.config.samples]
    mark = work.directory.marker(step)
    is_same = mark.get("asked") == asked and mark.get("seen") == input_checks.wanted(work.config)
    if is_same and all(t.is_file() for t in totals) and not _is_to_be_tried_again(work, mark):
        progress(f"collect {walk.name}", 1, 1)
        return False

    earlier = work.directory.note(f"time/{step}")
    work.directory.unmark(step)
    if walk.name == "main":  # whatever came after it was made of other sums
        work.directory.forget_steps()
    work.directory.keep_pass(walk)
    watch = provenance.Stopwatch()
    ledger = Ledger(work, inspection, walk)
    _say_what_changed(work, inspection)
    try:
        _run(work, inspection, walk, pieces, workers, progress, watch, ledger)
        if once and walk.name == "main":  # which events are there again is known only now
            main = [p for p in plain if not ledger.has(p.chunk)]
            pieces = _each_once(work, main, plain)
            _run(work, inspection, walk, pieces, workers, progress, watch, ledger)
        good = [p for p in pieces if not ledger.has(p.chunk)]
        _sum(work, walk, good)
    except CalibError as error:
        if walk.name == "main":
            _write_accounting(work, inspection, pieces, ledger, error)
        raise
    finally:
        seconds = watch.read()
        if earlier.get("key") == asked:  # an earlier attempt at the same
            seconds = {k: round(v + earlier[k], 3) for k, v in seconds.items()}
        work.directory.keep(f"time/{step}", {"key": asked, **seconds})
    if walk.name == "main":
        accounts.require_pairs(_write_accounting(work, inspection, good, ledger))
        _forget_others([*plain, *pieces])
    else:
        ledger.add_to_accounting()
        _forget_others(pieces)
    work.directory.mark(
        step,
        {
            "key": digest([piece.path.name for piece in good]),
            "asked": asked,
            "seen": input_checks.wanted(work.config),
            "chunks": len(good),
            "bad": ledger.entries,
            "totals": {
                s.name: _digest(t) for s, t in zip(work.config.samples, totals, strict=True)
            },
            **seconds,
        },
    )
    return True


def _n_events(inspection: Inspection) -> dict[str, int]:
    """Return the number of events in the files of each sample."""
    found: Counter[str] = Counter()
    for file in inspection.files:
        found[file.sample] += file.n_events
    return dict(found)


def _is_to_be_tried_again(work: Work, mark: Mapping[str, Any]) -> bool:
    """Return whether a pass left chunks out, which is no longer allowed."""
    return bool(mark.get("bad")) and work.config.bad_files == "stop"


def _say_what_changed(work: Work, inspection: Inspection) -> None:
    """Say which files are no longer those that were read before: their events are read again."""
    name = "files"
    before = work.directory.note(name)
    changed = {}
    for file in inspection.files:
        old = before.get(file.path)
        if old and old["uuid"] != file.uuid:
            changed[file.path] = (
                f"{file.path}: changed since it was read ({old['events']} events in {old['size']}"
                f" bytes then, {file.n_events} in {file.size} now), its events are read again"
            )
            log.warning("%s", changed[file.path])
    if changed:
        kept = work.directory.note("changes")
        work.directory.keep("changes", {**kept, "files": {**kept.get("files", {}), **changed}})
    now = {f.path: {"uuid": f.uuid, "events": f.n_events, "size": f.size} for f in inspection.files}
    if now != before:
        work.directory.keep(name, now)


def _changes(work: Work) -> list[str]:
    """Return the sentences that say why events were read a second time."""
    found = work.directory.note("changes")
    return [*found.get("keys", ()), *found.get("files", {}).values()]


def sums(work: Work, walk: Pass) -> dict[str, Sums]:
    """Return the totals of a pass.

    Parameters
    ----------
    work : Work
        With its directory.
    walk : Pass
        Which walk over the events.

    Returns
    -------
    dict of str to sums
        By sample.

    Raises
    ------
    InputError
        If the pass has not been collected.
    """
    found = {}
    mark = work.directory.marker(f"collect.{walk.name}")
    for sample in work.config.samples:
        path = work.directory.total(walk, sample.name)
        if not path.is_file() or not mark:
            raise InputError(
                f"{work.directory.path}: the events have not been collected to the end;"
                f" run `calib run {work.directory.path}`"
            )
        found[sample.name] = _total(path, mark.get("totals", {}).get(sample.name))
    return found


def _total(path: Path, written: str | None) -> Sums:
    """Return the sums in a file, if they are those that we wrote."""
    if written is not None and _digest(path) != written:
        raise InputError(
            f"{path}: not as it was written, damaged or changed; delete it and run"
            " `calib collect` again, which makes it from the chunks"
        )
    return histograms.read(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def collected(work: Work, walk: Pass) -> str:
    """Return the digest of what went into the totals of a pass, empty where it is not done.

    Parameters
    ----------
    work : Work
        With its directory.
    walk : Pass
        Which walk over the events.

    Returns
    -------
    str
        Hexadecimal.
    """
    return str(work.directory.marker(f"collect.{walk.name}").get("key", ""))


def identity(work: Work, inspection: Inspection, walk: Pass) -> str:
    """Return the digest of everything but the events that the sums of a pass depend on.

    Parameters
    ----------
    work : Work
        Configuration and calibration.
    inspection : Inspection
        With the selections.
    walk : Pass
        Which walk over the events.

    Returns
    -------
    str
        Hexadecimal.
    """
    kinds = [(s.name, s.resonance, s.format, s.simulation) for s in work.config.samples]
    return digest(
        provenance.code(type(work.calibration)),
        work.config.calibration,
        work.calibration.collect_settings(),
        work.config.seed,
        kinds,
        dict(inspection.selections),
        walk,
    )


def _pieces(work: Work, inspection: Inspection, walk: Pass) -> Iterator[Piece]:
    common = identity(work, inspection, walk)
    applied = {
        name: [(c.sha256, c.calibration, provenance.code(c.kind)) for c in own]
        for name, own in inspection.corrections.items()
    }
    folder = work.directory.chunks(walk)
    for chunk in chunks(inspection, settled_size(work.directory, work.config, inspection)):
        key = digest(
            common,
            chunk.sample,
            applied.get(chunk.sample, []),
            chunk.file.uuid,
            chunk.start,
            chunk.stop,
            chunk.file.runs,
        )
        yield Piece(chunk, folder / f"{key}.npz")


def _each_once(work: Work, main: Sequence[Piece], pieces: Sequence[Piece]) -> list[Piece]:
    """Return pieces that leave out the events which an earlier one of the first pass has."""
    found = input_checks.excluded(work, [(p.chunk.sample, p.path) for p in main])
    of_place = {_place(p.chunk): found[p.path] for p in main if p.path in found}
    out = []
    for piece in pieces:
        own = of_place.get(_place(piece.chunk))
        if own is not None:
            name = digest(piece.path.stem, *(part.tobytes() for part in own))
            piece = Piece(piece.chunk, piece.path.with_name(f"{name}.npz"), own)
        out.append(piece)
    return out


def _place(chunk: Chunk) -> tuple[str, str, int, int]:
    return chunk.sample, chunk.file.path, chunk.start, chunk.stop


# the event loop ------------------------------------------------------------------------------
def _run(
    work: Work,
    inspection: Inspection,
    walk: Pass,
    pieces: Sequence[Piece],
    workers: Workers,
    progress: Progress,
    watch: provenance.Stopwatch,
    ledger: Ledger,
) -> None:
    from jobs.event_loop import chunk_result
    from processors.calibration import CalibrationProcessor

    todo = [p for p in pieces if not (_is_done(work, walk, p) or ledger.has(p.chunk))]
    log.debug("%d of %d chunks to do", len(todo), len(pieces))
    work.directory.chunks(walk).mkdir(parents=True, exist_ok=True)
    processor = CalibrationProcessor(
        input_checks.seeing(work, walk),
        {s.name: s for s in work.config.samples},
        inspection.selections,
        walk,
        inspection.corrections,
    )
    hand_out(
        pieces,
        todo,
        partial(chunk_result.work, processor=processor),
        config=work.config,
        workers=workers,
        store=_write_chunk,
        set_aside=ledger.set_aside,
        progress=progress,
        text=f"collect {walk.name}",
        watch=watch,
        diary=Diary(work.directory),
    )


def _is_done(work: Work, walk: Pass, piece: Piece) -> bool:
    if not zipfile.is_zipfile(piece.path):
        return False
    return not input_checks.wants_keys(work, walk, piece.chunk.sample) or input_checks.has_keys(
        piece.path
    )


def _write_chunk(piece: Piece, parcel: Parcel) -> None:
    require_whole(piece.chunk, parcel.counts)
    if parcel.keys is not None:
        input_checks.write_keys(piece.path, parcel.keys)
    write_bytes(piece.path, parcel.sums)


# totals ----------------------------------------------------------------------------------------
def _sum(work: Work, walk: Pass, pieces: Sequence[Piece]) -> None:
    for sample in work.config.samples:
        own = (_read_sums(p) for p in pieces if p.chunk.sample == sample.name)
        histograms.write(work.directory.total(walk, sample.name), histograms.add(own))


def _read_sums(piece: Piece) -> Sums:
    try:
        found = histograms.read(piece.path)
    except InputError as error:
        piece.path.unlink(missing_ok=True)
        raise CalibError(
            f"{piece.path}: damaged, and removed ({error.__cause__}); run the same command again"
        ) from error
    return {k.removeprefix("sums/"): v for k, v in found.items() if k.startswith("sums/")}


def _write_accounting(
    work: Work,
    inspection: Inspection,
    pieces: Sequence[Piece],
    ledger: Ledger,
    error: CalibError | None = None,
) -> dict[str, Any]:
    """Write what is known of every event; after an error, of the chunks that are done."""
    ledger.note(error)
    there: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        if piece.path.is_file():
            there.setdefault((piece.chunk.sample, piece.chunk.file.path), []).append(piece)
    files = []
    for file in inspection.files:
        own = there.get((file.sample, file.path), [])
        total = Counts.total(selection_levels.read_counts(p.path) for p in own)
        files.append((file.sample, file.path, file.n_events, total))
    found = accounts.account(
        files,
        ledger.all_entries(),
        [*inspection.notes, *_changes(work)],
        {(f.sample, f.path): f.checksums for f in inspection.files},
    )
    found["notes"] += [one.text for one in accounts.poor_files(found)]
    if error is None:
        found |= input_checks.account(
            work, {name: [p.path for p in own] for name, own in _by_sample(pieces).items()}, there
        )
        found["notes"] += input_checks.notes(found)
    write_json(work.directory / "accounting.json", found)
    work.directory.keep(
        "levels",
        {
            name: selection_levels.costs_of(p.path for p in own if p.path.is_file())
            for name, own in _by_sample(pieces).items()
        },
    )
    return found


def _by_sample(pieces: Sequence[Piece]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.chunk.sample, []).append(piece)
    return found


def _forget_others(pieces: Sequence[Piece]) -> None:
    """Remove chunks of inputs, settings or code that are no longer those of this run."""
    mine = {piece.path.stem for piece in pieces}
    for path in pieces[0].path.parent.iterdir() if pieces else ():
        if path.name.split(".")[0] not in mine:
            path.unlink()
