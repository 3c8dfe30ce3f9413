"""New files and runs: what is watched goes into a catalogue, and runs come out of it."""

from __future__ import annotations

import csv
import glob
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.digests import digest
from calib.errors import InputError
from calib.quality.buckets import RunLuminosity
from calib.schema import Sample
from jobs.catalog.catalog import Catalog
from jobs.catalog.luminosities import read_table
from jobs.events.addresses import is_remote
from jobs.nightly.settings import Complete, Nightly, NightlySample

log = logging.getLogger(__name__)

VANISHED, UNREADABLE, INCOMPLETE, BAD = "vanished", "unreadable", "incomplete", "bad"
"""Qualities of entries that are left out: the last is a person's, the others are ours."""

SUFFIXES = {"nanoaod": (".root",), "stage1": (".parquet",)}


@dataclass(frozen=True)
class Arrived:
    """What came: new files, those that are not whole yet, and what was wrong with others.

    ``missing``: watched folders that are gone, and files that were there once.
    """

    files: int
    not_whole: tuple[str, ...]
    problems: tuple[str, ...]
    missing: tuple[str, ...] = ()


def troubles(arrived: Arrived, before: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a sentence for everything about files that a person must know.

    Parameters
    ----------
    arrived : Arrived
    before : mapping
        What was noted of the night before: a file that was not whole then is so for good.
    """
    old = set((before.get("arrived") or {}).get("not_whole", ()))
    never = [
        f"{path}: not whole since the night before; empty, still being written, or without its"
        " .done: complete it, or take it away"
        for path in arrived.not_whole
        if path in old
    ]
    return (*arrived.problems, *never, *arrived.missing)


def take_in(settings: Nightly, catalog: Catalog, workers: int = 1) -> Arrived:
    """Put the watched files that are whole into the catalogue, and the luminosities."""
    if settings.luminosities is not None:
        catalog.keep_luminosities(read_table(Path(settings.luminosities)))
    added, waiting, problems, missing = 0, [], [], []
    for sample in settings.samples:
        if sample.watch is None:
            continue
        whole, others = watched(sample, settings.complete)
        missing += _missing(sample)
        waiting += others
        if not whole:
            continue
        _take_back_replaced(sample, catalog, whole)
        found = catalog.add(
            Sample(
                name=sample.name,
                resonance=sample.resonance,
                format=sample.format,
                files=tuple(whole),
            ),
            quality="new",
            checksum=False,
            update=True,
            workers=workers,
        )
        added += found.added + found.replaced
        problems += found.problems
    table = settings.complete.expected
    expected = expected_of(None if table is None else Path(table))
    for sample in settings.samples:
        if sample.grows:
            missing += set_apart(sample, catalog, expected)
    for sentence in (*problems, *missing):
        log.warning("%s", sentence)
    return Arrived(added, tuple(waiting), tuple(problems), tuple(missing))


def _missing(sample: NightlySample) -> list[str]:
    """Return a sentence for each watched folder that is not there."""
    folders = [_folder(address) for address in sample.watch or ()]
    return [
        f"{folder}: the watched folder of sample {sample.name!r} is not there; mount it, or correct"
        " its key 'watch'"
        for folder in folders
        if folder is not None and not folder.is_dir()
    ]


def set_apart(sample: NightlySample, catalog: Catalog, expected: Expected) -> list[str]:
    """Leave out the runs that lack files; return a sentence for each.

    Those of which files are gone, unreadable or have not come yet: the catalogue keeps it as their
    quality, later runs go on without them, and they are taken back once they are whole.
    """
    by_run: dict[int, list[dict[str, Any]]] = {}
    for row in catalog.entries(f'sample == "{sample.name}"'):
        by_run.setdefault(row["run"], []).append(row)
    said = []
    for run, rows in sorted(by_run.items()):
        qualities = {row["quality"] for row in rows}
        if BAD in qualities:
            continue
        quality, text = _lack(rows, qualities, expected.get(run))
        query = f'sample == "{sample.name}" and run == {run}'
        if quality and qualities != {quality}:
            catalog.mark(query, quality)
        elif not quality and qualities & {VANISHED, UNREADABLE, INCOMPLETE}:
            catalog.mark(query, "new")
        if quality:
            said.append(
                f"run {run} of {sample.name} is left out: {text}; put it right, or"
                f" `calib catalog mark {catalog.place} '{query}' --quality {BAD}`"
            )
    return said


def _lack(
    rows: Sequence[Mapping[str, Any]], qualities: set[str], expected: Mapping[str, int] | None
) -> tuple[str, str]:
    """Return why a run is left out, as a quality and in words; empty where it is whole."""
    gone = [r["path"] for r in rows if not is_remote(r["path"]) and not os.path.exists(r["path"])]
    if gone:
        return VANISHED, f"{gone[0]} is gone"
    there = {"files": len(rows), "events": sum(int(r["events"]) for r in rows)}
    for what, wanted in (expected or {}).items():
        if there[what] < wanted:
            return INCOMPLETE, f"{there[what]} of {wanted} {what} have come"
    if qualities == {UNREADABLE}:
        return UNREADABLE, f"{rows[0]['path']} or another of its files could not be read"
    return "", ""


def _take_back_replaced(sample: NightlySample, catalog: Catalog, paths: Sequence[str]) -> None:
    """Take back the runs that could not be read of which a file has been written again."""
    rows = catalog.entries(f'sample == "{sample.name}" and quality == "{UNREADABLE}"')
    written = set(catalog.unknown(paths)) if rows else set()
    for run in {row["run"] for row in rows if row["path"] in written}:
        catalog.mark(f'sample == "{sample.name}" and run == {run}', "new")


def set_apart_what_failed(
    samples: Sequence[NightlySample], catalog: Catalog, error: str
) -> tuple[int, ...]:
    """Leave the runs out of whose files an error speaks; return them."""
    found = set()
    for sample in samples:
        for row in catalog.entries(query_of(sample)):
            if row["path"] in error:
                catalog.mark(f'sample == "{sample.name}" and run == {row["run"]}', UNREADABLE)
                found.add(int(row["run"]))
    return tuple(sorted(found))


Expected = Mapping[int, Mapping[str, int]]
"""Files or events of each run."""


def expected_of(path: Path | None) -> Expected:
    """Return what runs should have, from a table with columns ``run`` and ``files`` or ``events``.

    Raises
    ------
    InputError
        If it cannot be read, or holds anything else.
    """
    if path is None:
        return {}
    hint = "expected a CSV with the columns run and files, or events, or both"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = set(rows[0]) if rows else {"run", "files"}
        if "run" not in names or not names - {"run"} or names - {"run", "files", "events"}:
            raise InputError(f"{path}: found columns {', '.join(sorted(names))}; {hint}")
        return {
            int(row["run"]): {k: int(row[k]) for k in names - {"run"} if row[k]} for row in rows
        }
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: key 'complete.expected': {error}; {hint}") from None


def _folder(address: str) -> Path | None:
    """Return the folder in which a glob begins; None of one that is elsewhere."""
    if is_remote(address):
        return None
    parts = Path(address).parts
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), None)
    return Path(*parts[:plain]) if plain is not None else Path(address)


def watched(
    sample: NightlySample, complete: Complete, at: float | None = None
) -> tuple[list[str], list[str]]:
    """Return the local files of a sample that are whole, and those that may still grow.

    ``at`` is the time, in seconds since 1970; now where it is not given.
    """
    at = time.time() if at is None else at
    whole: list[str] = []
    growing: list[str] = []
    for path in _names(sample):
        if is_remote(path):
            whole.append(path)
            continue
        status = os.stat(path)
        quiet = at - max(status.st_mtime, status.st_ctime) >= complete.unchanged
        marked = not complete.done or os.path.exists(path + ".done")
        (whole if status.st_size and quiet and marked else growing).append(path)
    return whole, growing


def _names(sample: NightlySample) -> list[str]:
    found: dict[str, None] = {}
    for address in sample.watch or ():
        if is_remote(address):
            from jobs.events.addresses import expand

            of = Sample(
                name=sample.name, resonance=sample.resonance, format=sample.format, files=(address,)
            )
            found |= dict.fromkeys(expand(of, Path.cwd()))
            continue
        places = glob.glob(address, recursive=True)
        for place in sorted(places):
            inside = (
                [place] if os.path.isfile(place) else sorted(str(p) for p in Path(place).rglob("*"))
            )
            found |= dict.fromkeys(
                p
                for p in inside
                if p.endswith(SUFFIXES[sample.format])
                and os.path.isfile(p)
                and not os.path.basename(p).startswith(".")
            )
    return list(found)


def query_of(sample: NightlySample, first: int | None = None, last: int | None = None) -> str:
    """Return the query for the runs of a sample."""
    parts = [f'sample == "{sample.name}"']
    parts += [f'quality != "{quality}"' for quality in (VANISHED, UNREADABLE, INCOMPLETE, BAD)]
    if sample.query is not None:
        parts.append(f"({sample.query})")
    if first is not None:
        parts.append(f"run >= {first}")
    if last is not None:
        parts.append(f"run <= {last}")
    return " and ".join(parts)


def runs_of(
    catalog: Catalog, samples: Sequence[NightlySample], unit: str
) -> tuple[RunLuminosity, ...]:
    """Return the runs that the samples have, with luminosity (or events) and content.

    Several samples come from the same collisions: the luminosity of a run is the largest that one
    of them has; events are added.
    """
    amount: dict[int, float] = {}
    content: dict[int, list[str]] = {}
    for sample in samples:
        query = query_of(sample)
        if unit == "fb-1":
            for found in catalog.runs(query):
                amount[found.run] = max(amount.get(found.run, 0.0), found.luminosity)
                content.setdefault(found.run, []).append(found.content)
            continue
        for row in catalog.entries(query):
            amount[row["run"]] = amount.get(row["run"], 0.0) + row["events"]
            content.setdefault(row["run"], []).append(f"{row['uuid']}:{row['events']}")
    return tuple(
        RunLuminosity(run, amount[run], digest(sorted(content[run]))) for run in sorted(amount)
    )
