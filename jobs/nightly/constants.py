"""The constants in force, as the nightly needs them: payload, runs, and what they do."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.calibrations.base import Calibration
from calib.documents import json_values
from calib.errors import CalibError
from calib.events import histograms
from calib.later import pandas as pd
from calib.quality import publication_gate
from calib.quality.publication_gate import Effects
from calib.types import AnyArray
from jobs.run.run import Run
from jobs.store.content import sha256
from jobs.store.revisions import Interval

if TYPE_CHECKING:
    from jobs.store.store import Store

ARRAYS = ("covariance.npz",)


@dataclass(frozen=True)
class InForce:
    """Constants that are applied: those of an interval, or new ones that have none yet (None)."""

    interval: Interval | None
    payload: str
    sha: str
    tables: Mapping[str, pd.DataFrame]
    arrays: Mapping[str, Mapping[str, AnyArray]]
    inputs: tuple[Mapping[str, Any], ...]

    @property
    def number(self) -> int:
        """The revision; 0 of new ones."""
        return 0 if self.interval is None else self.interval.revision.number

    def effects(
        self, kind: type[Calibration], like: Mapping[str, pd.DataFrame] | None = None
    ) -> Effects | None:
        """Return what they do; None where nothing of their run was kept to tell."""
        if not self.tables and not self.arrays:
            return None
        return kind.effects(self.tables, self.arrays, like)


def change(new: Effects, old: Effects, shared: tuple[float, float] = (0.0, 0.0)) -> Effects:
    """Return the relative change from old constants to new ones (`publication_gate.moved`)."""
    found = publication_gate.moved(new, old, shared)
    return found if new.relative else publication_gate.relative(found, old)


def interval_for(store: Store | None, calibration: str, run: int, tag: str) -> Interval | None:
    """Return the constants for a run: those that hold for it, else the last ones before it."""
    if store is None or calibration not in store.calibrations():
        return None
    found = [i for i in store.intervals(calibration, tag) if i.validity.since <= run]
    return found[-1] if found else None


def in_force(store: Store, calibration: str, run: int, tag: str) -> InForce | None:
    """Return the constants for a run with everything that is kept of them.

    Raises
    ------
    CalibError
        If a file of them is damaged.
    """
    interval = interval_for(store, calibration, run, tag)
    return None if interval is None else _kept(store, interval)


def former(store: Store, calibration: str, run: int, tag: str) -> InForce | None:
    """Return the constants before those for a run, if they were others."""
    now = interval_for(store, calibration, run, tag)
    if now is None:
        return None
    found = [
        i
        for i in store.intervals(calibration, tag)
        if i.validity.since < now.validity.since and i.revision.payload != now.revision.payload
    ]
    return _kept(store, found[-1]) if found else None


def _kept(store: Store, interval: Interval) -> InForce:
    revision = interval.revision
    store.payload(revision)  # its checksum
    path = store.content.payload_path(str(revision.payload))
    kept = store.files(revision)
    tables = {
        name.removesuffix(".csv"): pd.read_csv(io.BytesIO(store.file(revision, name)))
        for name in kept
        if name.endswith(".csv") and kept[name]["size"] > 1
    }
    arrays = {
        name.removesuffix(".npz"): _arrays(store.file(revision, name), name)
        for name in kept
        if name in ARRAYS
    }
    inputs: tuple[Mapping[str, Any], ...] = ()
    if "provenance.json" in kept:
        made = json_values(store.file(revision, "provenance.json").decode("utf-8"))
        inputs = tuple(made.get("inputs") or ())
    return InForce(interval, str(path), str(revision.payload), tables, arrays, inputs)


def _arrays(data: bytes, name: str) -> dict[str, AnyArray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError) as error:
        raise CalibError(f"{name} of the constants in force: not readable ({error})") from None


def made_by(work: Run) -> InForce:
    """Return the constants that a finished run has made."""
    path = work.directory / "payload.json"
    tables, arrays = written(work)
    return InForce(None, str(path), sha256(path.read_bytes()), tables, arrays, inputs_of(work))


def effects_of(work: Run, like: Mapping[str, pd.DataFrame] | None = None) -> Effects:
    """Return what the constants of a finished run do."""
    tables, arrays = written(work)
    return type(work.calibration).effects(tables, arrays, like)


def written(work: Run) -> tuple[dict[str, pd.DataFrame], dict[str, Mapping[str, AnyArray]]]:
    """Return the tables and arrays of a finished run, from its files."""
    tables = {}
    for path in sorted(work.directory.path.glob("*.csv")):
        if path.name != "fits.csv" and path.stat().st_size > 1:
            tables[path.stem] = pd.read_csv(path)
    arrays = {}
    for name in ARRAYS:
        path = work.directory / name
        if path.is_file():
            arrays[path.stem] = histograms.read(path)
    return tables, arrays


def shared_events(
    new: tuple[Mapping[str, Any], ...], old: tuple[Mapping[str, Any], ...], fixed: frozenset[str]
) -> tuple[float, float]:
    """Return the share of the new events among the old ones, and of the old among the new.

    Parameters
    ----------
    new, old : tuples of mappings
        ``inputs`` of both provenances; a file is known by its uuid.
    fixed : frozenset of str
        Samples that are no data: their statistics are those of the reference, in both.
    """
    mine = {i["uuid"]: i["events"] for i in new if i["sample"] not in fixed}
    theirs = {i["uuid"]: i["events"] for i in old if i["sample"] not in fixed}
    both = sum(n for uuid, n in mine.items() if uuid in theirs)
    of_new, of_old = sum(mine.values()), sum(theirs.values())
    return (both / of_new if of_new else 0.0, both / of_old if of_old else 0.0)


def inputs_of(work: Run) -> tuple[Mapping[str, Any], ...]:
    """Return the inputs of a finished run."""
    made = json_values((work.directory / "provenance.json").read_text(encoding="utf-8"))
    return tuple(made.get("inputs") or ())
