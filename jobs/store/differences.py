"""Two revisions of a store in standard deviations, from what is kept of their runs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.documents import json_values
from calib.errors import InputError
from calib.events import histograms
from calib.later import pandas as pd
from calib.payload.differences import Difference, difference
from calib.types import AnyArray
from jobs.store.revisions import Revision
from jobs.store.store import Store

ARRAYS = "covariance.npz"
TABLE = "parameters.csv"
EDGES = ("_low", "_high")


@dataclass(frozen=True)
class Compared:
    """Two revisions side by side.

    ``shared`` are the input files that both were made with: their statistical errors are then
    not independent, and the standard deviations too large.
    """

    before: Revision
    after: Revision
    found: Difference
    shared: int

    def table(self) -> pd.DataFrame:
        """Return one row a parameter, the largest move first."""
        found = self.found
        table = pd.DataFrame(
            {
                "parameter": found.names,
                "before": found.before,
                "before_err": found.before_err,
                "after": found.after,
                "after_err": found.after_err,
                "move": found.move,
                "sigma": found.pull,
            }
        )
        return table.sort_values("sigma", key=np.abs, ascending=False, kind="stable")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; the parameters in their own order."""
        rows = self.table().sort_index().to_dict(orient="records")
        return {
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "same_payload": self.before.payload == self.after.payload,
            "shared_inputs": self.shared,
            "chi2": self.found.chi2,
            "ndf": self.found.ndf,
            "probability": self.found.probability,
            "parameters": rows,
        }


def compare(store: Store, before: int, after: int) -> Compared:
    """Return two revisions of one calibration side by side.

    Raises
    ------
    InputError
        If they are not of one calibration, or their parameters are not the same ones.
    """
    old, new = store.revision(before), store.revision(after)
    if old.calibration != new.calibration:
        raise InputError(
            f"revisions {before} and {after}: of {old.calibration} and {new.calibration}; give"
            " two of one calibration"
        )
    a, b = _arrays(store, old), _arrays(store, new)
    names, others = ([str(name) for name in x["names"]] for x in (a, b))
    if sorted(names) != sorted(others) or len(set(names)) != len(names):
        raise InputError(
            f"revisions {before} and {after}: not the same parameters ({len(names)} and"
            f" {len(others)}), so they cannot be compared one by one; compare their reports"
        )
    _require_same_bins(store, old, new)
    order = [others.index(name) for name in names]
    found = difference(
        names,
        a["values"],
        a["covariance"],
        b["values"][order],
        b["covariance"][np.ix_(order, order)],
    )
    return Compared(old, new, found, len(_inputs(store, old) & _inputs(store, new)))


def _arrays(store: Store, revision: Revision) -> dict[str, AnyArray]:
    if ARRAYS not in store.files(revision):
        raise InputError(f"revision {revision.number}: no {ARRAYS} was kept of its run")
    store.file(revision, ARRAYS)  # its checksum
    path = store.content.run_path(str(revision.files)) / ARRAYS
    found = histograms.read(path)
    n = np.shape(found.get("names", 0))
    shapes = {"values": n, "covariance": 2 * n}
    if len(n) != 1 or any(np.shape(found.get(k, 0)) != s for k, s in shapes.items()):
        raise InputError(
            f"{path}: expected arrays names, values and covariance that fit together; the"
            " calibration does not write them"
        )
    return found


def _require_same_bins(store: Store, old: Revision, new: Revision) -> None:
    """Raise InputError where a parameter of one name belongs to different bins."""
    if not all(TABLE in store.files(r) for r in (old, new)):
        return
    a, b = (_edges(store.file(r, TABLE)) for r in (old, new))
    if not a.equals(b):
        raise InputError(
            f"revisions {old.number} and {new.number}: the bins in {TABLE} are not the same, so"
            " they cannot be compared one by one; compare their reports"
        )


def _edges(data: bytes) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(data))
    return table[[c for c in table.columns if c.endswith(EDGES)]]


def _inputs(store: Store, revision: Revision) -> set[str]:
    """Return the files of events that a revision was made with, collision data and others."""
    found = json_values(store.file(revision, "provenance.json").decode("utf-8"))
    return {
        str(i.get("uuid") or i.get("path"))
        for i in (found.get("inputs") or [])
        if isinstance(i, dict)
    }
