"""New files and runs: what is watched goes into a catalogue, and runs come out of it."""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.digests import digest
from calib.quality.buckets import RunLuminosity
from calib.schema import Sample
from jobs.catalog.catalog import Catalog
from jobs.catalog.luminosities import read_table
from jobs.events.addresses import is_remote
from jobs.nightly.settings import Complete, Nightly, NightlySample

log = logging.getLogger(__name__)

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
        missing += _missing(sample, catalog)
        waiting += others
        if not whole:
            continue
        found = catalog.add(
            Sample(
                name=sample.name,
                resonance=sample.resonance,
                format=sample.format,
                files=tuple(whole),
            ),
            quality="new",
            checksum=False,
            workers=workers,
        )
        added += found.added
        problems += found.problems
    for sentence in (*problems, *missing):
        log.warning("%s", sentence)
    return Arrived(added, tuple(waiting), tuple(problems), tuple(missing))


def _missing(sample: NightlySample, catalog: Catalog) -> list[str]:
    """Return a sentence for each watched folder, and each file of the catalogue, that is gone."""
    found = []
    for address in sample.watch or ():
        folder = _folder(address)
        if folder is not None and not folder.is_dir():
            found.append(
                f"{folder}: the watched folder of sample {sample.name!r} is not there; mount it,"
                " or correct its key 'watch'"
            )
    gone = {
        row["path"]
        for row in catalog.entries(query_of(sample))
        if not is_remote(row["path"]) and not os.path.exists(row["path"])
    }
    return found + [
        f"{path}: in the catalogue, but gone; restore it, or `calib catalog remove` it"
        for path in sorted(gone)
    ]


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
