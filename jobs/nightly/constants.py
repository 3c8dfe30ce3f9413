"""The constants in force: payload, runs, what they do, and what more data would bring."""

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
from collections.abc import Iterable
from pathlib import Path

from calib import calibrations
from calib.errors import InputError
from calib.quality.error_budget import ErrorBudget

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.store import Store

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


# what more data would bring -----------------------------------------------------------------------
def gain_of_run(directory: Path, times: float) -> dict[str, Any]:
    """Return the errors of a finished run now, and with more data.

    Parameters
    ----------
    directory : Path
        Of the run.
    times : float
        Luminosity of the data over that of the run.

    Returns
    -------
    dict
        ``directory, calibration, times, kinds, parameters``: see `ErrorBudget.table`, `summary`.

    Raises
    ------
    InputError
        If the run is not reduced, or its calibration writes no covariance.
    """
    work = Run.resume(directory)
    if not (directory / "covariance.npz").is_file():
        raise InputError(
            f"{directory}: no covariance.npz, expected a run with a result;"
            f" calib run {directory} goes on with it"
        )
    budget = type(work.calibration).error_budget(*written(work))
    about = {"directory": str(directory), "calibration": work.calibration.name}
    return {**about, **_gain(budget, times)}


def gain_of_store(store: Store, times: float, tag: str, least: float) -> dict[str, Any]:
    """Return what more data would bring to the newest constants of each calibration of a store.

    Parameters
    ----------
    store : Store
        Only read.
    times : float
        Luminosity of the data over that of the constants.
    tag : str
        The line of revisions.
    least : float
        Share by which the median error of some kind of parameter must shrink for a calibration to
        be worth redoing.

    Returns
    -------
    dict
        ``times, tag, least, calibrations``: one entry each, most gain first, with ``calibration,
        revision, since, until, gain, worth, kinds``.
    """
    found = []
    for name in store.calibrations():
        intervals = store.intervals(name, tag)
        if not intervals:
            continue
        kept = in_force(store, name, intervals[-1].validity.since, tag)
        assert kept is not None  # of an interval that is there
        about = {
            "calibration": name,
            "revision": kept.number,
            "since": intervals[-1].validity.since,
            "until": intervals[-1].validity.until,
        }
        try:
            kind = calibrations.get(name)
            numbers = _gain(kind.error_budget(kept.tables, kept.arrays), times)
        except InputError as error:
            found.append({**about, "gain": 0.0, "worth": False, "kinds": [], "error": str(error)})
            continue
        gain = max((row["gain"] for row in numbers["kinds"]), default=0.0)
        found.append({**about, "gain": gain, "worth": gain >= least, "kinds": numbers["kinds"]})
    if not found:
        raise InputError(f"tag {tag}: nothing is published in it; calib store list STORE shows all")
    found.sort(key=lambda one: -one["gain"])
    return {"times": times, "tag": tag, "least": least, "calibrations": found}


def _gain(budget: ErrorBudget, times: float) -> dict[str, Any]:
    return {
        "times": times,
        "kinds": budget.summary(times).to_dict("records"),
        "parameters": budget.table(times).dropna(subset=["error"]).to_dict("records"),
    }


def gain_table(found: Mapping[str, Any]) -> Table:
    """Return what `gain_of_run` or `gain_of_store` have found, one row a kind of parameter."""
    from rich.table import Table

    out = Table("of", "parameters", box=None, pad_edge=False)
    for name in ("number", "error now", f"with {found['times']:g} times", "falls by", "stays"):
        out.add_column(name, justify="right")
    results: Iterable[Mapping[str, Any]] = found.get("calibrations", [found])
    for one in results:
        number = f" {one['revision']}" if "revision" in one else ""
        for row in one["kinds"]:
            out.add_row(
                f"{one['calibration']}{number}",
                row["kind"],
                str(row["n"]),
                f"{row['error']:.2g}",
                f"{row['error_then']:.2g}",
                f"{100 * row['gain']:.0f} %",
                f"{row['error_least']:.2g}",
            )
    return out


def gain_lines(found: Mapping[str, Any]) -> list[str]:
    """Return which calibrations of a store are worth redoing, in words."""
    out = []
    for one in found.get("calibrations", []):
        name = f"{one['calibration']}, revision {one['revision']} from run {one['since']} on"
        if "error" in one:
            out.append(f"{name}: not known ({one['error']})")
        elif one["worth"]:
            out.append(f"{name}: worth redoing, an error falls by {100 * one['gain']:.0f} %")
        else:
            out.append(f"{name}: not worth it, no error falls by {100 * found['least']:.0f} %")
    return out
