"""Rows of two muons to selected pairs, in one walk over the columns as they were read.

Nearly all rows of stage1 are good: those are recognised here. Why one of the others is left out
is for `processors.selection` to say, which has the reasons in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numba
import numpy as np

from calib.events.pairs import Muons, Pairs, generated_mass
from calib.physics.kinematics import mass_of
from calib.types import AnyArray, Array, BoolArray, IntArray, UIntArray
from processors.selection import MAX_ABS_ETA, ResolvedSelection

Both = tuple[AnyArray, AnyArray]
"""A column of the first and of the second muon."""


@dataclass(frozen=True)
class Rows:
    """One chunk of rows of two muons: columns as read, each of shape (n,).

    ``usable`` is False where something that is no matter of kinematics speaks against a row
    (trigger, certification, identification, isolation), None where nothing is asked.
    """

    pt: Both
    eta: Both
    phi: Both
    charge: Both
    weight: Array
    run: UIntArray
    luminosityBlock: UIntArray
    event: UIntArray
    pt_err: Both | None = None
    usable: BoolArray | None = None
    gen: Mapping[str, Both] = field(default_factory=dict)
    gen_mass: Array | None = None
    extra: Mapping[str, Both] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.run)


class FoundRows(NamedTuple):
    """Which rows are selected, and which are for another reason than the window's not."""

    pairs: Pairs
    n_outside: int
    others: IntArray


class _Cuts(NamedTuple):
    leading_pt: float
    subleading_pt: float
    abs_eta: float
    opposite: bool
    low: float
    high: float


FAILED, OUTSIDE, GOOD = 0, 1, 2


def find(rows: Rows, selection: ResolvedSelection) -> FoundRows:
    """Return the pairs of the rows that pass every cut, in their order.

    Parameters
    ----------
    rows : Rows
        n of them.
    selection : ResolvedSelection
        Cuts on kinematics; the others are in ``rows.usable``.

    Returns
    -------
    FoundRows
        Pairs, and the rows that are to be looked at again.
    """
    low, high = selection.mass_window or (-np.inf, np.inf)
    cuts = _Cuts(
        selection.leading_pt or 0.0,
        selection.subleading_pt or 0.0,
        # the largest physical value is one of them, an edge is not
        MAX_ABS_ETA
        if selection.abs_eta is None
        else min(selection.abs_eta, float(np.nextafter(MAX_ABS_ETA, np.inf))),
        selection.opposite_charge,
        low,
        high,
    )
    n = len(rows)
    state, mass = np.empty(n, dtype=np.uint8), np.empty(n)
    kinematics = [_alike(*columns) for columns in (rows.pt, rows.eta, rows.phi, rows.charge)]
    _judge(*(x for columns in kinematics for x in columns), cuts, state, mass)
    usable = np.abs(rows.weight) < np.inf
    if rows.usable is not None:
        usable &= rows.usable
    for error in rows.pt_err or ():
        usable &= (error > 0) & (error < np.inf)
    state *= usable
    kept = np.flatnonzero(state == GOOD)
    pairs = _pairs(rows, kept, mass)
    others = np.flatnonzero(state == FAILED)
    return FoundRows(pairs, n - len(kept) - len(others), others)


def _pairs(rows: Rows, kept: IntArray, mass: Array) -> Pairs:
    all_of_them = len(kept) == len(rows)
    first = np.asarray(np.greater_equal(*_alike(*rows.pt)))

    def ordered(columns: Both) -> Both:
        a, b = _alike(*columns)
        kind = np.dtype(np.float64) if a.dtype.kind == "f" else a.dtype
        lead, sub = np.empty(len(kept), kind), np.empty(len(kept), kind)
        _order(a, b, first, kept, lead, sub)
        return lead, sub

    def taken(column: AnyArray) -> AnyArray:
        if all_of_them:
            return column
        found = np.empty(len(kept), column.dtype)
        _take(np.ascontiguousarray(column), kept, found)
        return found

    names = {"pt": rows.pt, "eta": rows.eta, "phi": rows.phi, "pt_err": rows.pt_err, **rows.gen}
    muons = {name: ordered(both) for name, both in names.items() if both is not None}
    muons["charge"] = _signs(ordered(rows.charge))
    extra = {name: ordered(both) for name, both in rows.extra.items()}
    leading, subleading = (
        Muons(
            **{name: both[i] for name, both in muons.items()},
            extra={name: both[i] for name, both in extra.items()},
        )
        for i in (0, 1)
    )
    gen_mass = None if rows.gen_mass is None else taken(rows.gen_mass)
    if gen_mass is None and rows.gen:
        gen_mass = generated_mass(leading, subleading)
    pairs = Pairs(
        leading,
        subleading,
        taken(rows.weight),
        taken(rows.run),
        taken(rows.luminosityBlock),
        taken(rows.event),
        gen_mass,
    )
    return pairs.with_mass(taken(mass))


def _alike(a: AnyArray, b: AnyArray) -> Both:
    """Return both columns with one type, and so that one compiled loop serves either."""
    kind = np.result_type(a, b)
    return np.ascontiguousarray(a, dtype=kind), np.ascontiguousarray(b, dtype=kind)


def _signs(both: Both) -> Both:
    """Return charges of selected muons, +1 or -1, as whole numbers."""
    return both[0].astype(np.int64, copy=False), both[1].astype(np.int64, copy=False)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _judge(  # type: ignore[no-untyped-def]
    pt1, pt2, eta1, eta2, phi1, phi2, charge1, charge2, cuts, state, mass
):
    """Write the state of each row and its mass; without branches, many rows at once."""
    for i in range(len(state)):
        # the cuts are decided in double precision
        a, b = np.float64(pt1[i]), np.float64(pt2[i])
        x, y = np.float64(eta1[i]), np.float64(eta2[i])
        f, g = np.float64(phi1[i]), np.float64(phi2[i])
        plus1, minus1 = charge1[i] == 1, charge1[i] == -1
        plus2, minus2 = charge2[i] == 1, charge2[i] == -1
        charges = (plus1 & minus2) | (minus1 & plus2)
        if not cuts.opposite:
            charges = (plus1 | minus1) & (plus2 | minus2)
        passed = (
            charges
            & (a > 0.0)
            & (b > 0.0)
            & (a < np.inf)
            & (b < np.inf)
            & (a >= cuts.subleading_pt)
            & (b >= cuts.subleading_pt)
            & ((a >= cuts.leading_pt) | (b >= cuts.leading_pt))
            & (abs(x) < cuts.abs_eta)
            & (abs(y) < cuts.abs_eta)
            & (abs(f) < np.inf)
            & (abs(g) < np.inf)
        )
        m, _ = mass_of(a, x, f, b, y, g)
        mass[i] = m
        inside = (m >= cuts.low) & (m < cuts.high)
        state[i] = np.uint8(passed) + np.uint8(passed & inside)


@numba.njit(cache=True, nogil=True)
def _take(column, kept, out):  # type: ignore[no-untyped-def]
    """Half the time of an index with an array, which looks at each for its bounds."""
    for j in range(len(kept)):
        out[j] = column[kept[j]]


@numba.njit(cache=True, nogil=True)
def _order(a, b, first, kept, lead, sub):  # type: ignore[no-untyped-def]
    for j in range(len(kept)):
        i = kept[j]
        x, y = a[i], b[i]
        lead[j] = x if first[i] else y
        sub[j] = y if first[i] else x
