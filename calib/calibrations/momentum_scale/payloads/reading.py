"""A payload of the momentum scale as arrays: fast, and refused where it contradicts itself.

correctionlib walks through its tree for every muon, 100 to 200 ns for each; the arrays of the
document take a tenth of it. The tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from calib.errors import InputError
from calib.events.binning import bin_of
from calib.fitting.scale.model import KINDS, corrected
from calib.later import pandas as pd
from calib.payload.values import table
from calib.results import Status
from calib.types import AnyArray, Array, IntArray

from .payload import CORRECTED, NAME, SIMULATION, SMEARING, UNCERTAINTY, WHERE, WIDTH

SIGNS_AT = np.array([5.0, 20.0, 45.0])
"""pt in GeV at which both charges are compared with the parameters."""

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Scale:
    """A, e, M of each eta bin, arrays of shape (n,); ``edges`` (n + 1,)."""

    edges: Array
    A: Array
    e: Array
    M: Array

    def corrected(self, pt: Array, eta: Array, charge: AnyArray) -> Array:
        """Return the corrected pt in GeV; unchanged outside the eta range."""
        out = np.empty(len(pt))
        _correct(self.edges, self.A, self.e, self.M, pt, eta, charge.astype(np.float64), out)
        return out


@numba.njit(cache=True)
def _correct(edges, A, e, M, pt, eta, charge, out):  # type: ignore[no-untyped-def]
    per_width = len(A) / (edges[-1] - edges[0])
    for i in range(len(out)):
        b = bin_of(eta[i], edges, per_width)
        if b < 0:
            out[i] = pt[i]
            continue
        k = 1.0 / pt[i]
        # |k|: a curvature moved through zero is a muon of the other charge
        out[i] = 1.0 / abs((1.0 + A[b] - e[b] * k) * k + charge[i] * M[b])


@dataclass(frozen=True)
class Width:
    """Relative width in k: a2 + c2 pt^2, arrays of shape (n,); ``edges`` (n + 1,)."""

    edges: Array
    a2: Array
    c2: Array

    def __call__(self, pt: Array, eta: Array) -> Array:
        """Return the width; 0 outside the eta range."""
        out = np.empty(len(pt))
        _widths(self.edges, self.a2, self.c2, pt, eta, out)
        return out


@numba.njit(cache=True)
def _widths(edges, a2, c2, pt, eta, out):  # type: ignore[no-untyped-def]
    per_width = len(a2) / (edges[-1] - edges[0])
    for i in range(len(out)):
        b = bin_of(eta[i], edges, per_width)
        out[i] = 0.0 if b < 0 else math.sqrt(max(a2[b] + c2[b] * pt[i] * pt[i], 0.0))


@dataclass(frozen=True)
class Constants:
    """What `apply` needs; ``simulation`` and ``smearing`` are None where it was not calibrated."""

    data: Scale
    simulation: Scale | None
    smearing: Width | None


def bins_of(edges: Array, eta: Array) -> IntArray:
    """Return the bin of each eta, n where it is outside or not a number."""
    n = len(edges) - 1
    at = np.searchsorted(edges, eta, side="right") - 1
    return np.where((at < 0) | (at >= n), n, at)


def constants(document: Mapping[str, Any]) -> Constants:
    """Return the arrays in a payload.

    Raises
    ------
    InputError
        If it is not as `payload.document` writes it, or if the correction of a charge is not the
        one of the parameters that stand in the same document.
    """
    found = by_name(document)
    try:
        scales = {n: scale(found[n]) for n in (NAME, SIMULATION) if n in found}
        worst = {n: disagreement(found[n], parameters(document, n)) for n in scales}
        smearing = width(found[SMEARING]) if SMEARING in found else None
        data = scales[NAME]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"payload: {NAME} is not laid out as expected ({error!r}); take a payload.json that"
            " `calib run` has written"
        ) from None
    for name, difference in worst.items():
        if not difference <= TOLERANCE:
            raise InputError(
                f"payload: found a corrected pt of {name} that differs by {difference:.1e} from"
                f" what A, e, M in {name}_parameters say (the sign of M for a charge?), expected"
                " the same; do not use this payload, make it again with `calib run`"
            )
    return Constants(data, scales.get(SIMULATION), smearing)


def by_name(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the corrections of a payload by name."""
    return {str(c.get("name")): c for c in document.get("corrections", ())}


def scale(correction: Mapping[str, Any], variation: str = "nom") -> Scale:
    """Return A, e, M of the correction of pt, of a variation of it, from its positive muons."""
    edges, values = _by_charge(correction, variation)[1]
    return Scale(edges, values[0], values[1], values[2])


def _by_charge(
    correction: Mapping[str, Any], variation: str = "nom"
) -> dict[int, tuple[Array, Array]]:
    """Return edges and (A, e, q M) of each charge."""
    _insist(correction, CORRECTED)
    chosen = _keys(correction["data"], "variation")[variation]
    found = {int(q): _binning(node, 3) for q, node in _keys(chosen, "charge").items()}
    if sorted(found) != [-1, 1]:
        raise ValueError(f"charges {sorted(found)}, expected -1 and 1")
    return found


def width(correction: Mapping[str, Any]) -> Width:
    """Return a2 and c2 of a correction that gives a width."""
    _insist(correction, WIDTH)
    edges, values = _binning(correction["data"], 2)
    return Width(edges, values[0], values[1])


def parameters(document: Mapping[str, Any], name: str = NAME) -> dict[str, Array]:
    """Return ``edges`` (n + 1,), the parameters with their ``_err``, and `WHERE`, each (n,)."""
    content = _keys(by_name(document)[f"{name}_parameters"]["data"], "parameter")
    found = {"edges": np.asarray(content["A"]["edges"], dtype=float)}
    known = [name for name in WHERE if name in content]  # younger than the others
    for kind in (*KINDS, *(f"{k}_err" for k in KINDS), *known):
        found[kind] = np.asarray(content[kind]["content"], dtype=float)
    return found


def status(document: Mapping[str, Any], name: str = NAME) -> IntArray:
    """Return the code of each eta bin, shape (n,)."""
    node = by_name(document)[f"{name}_status"]["data"]
    return np.asarray(node["content"], dtype=np.int64)


def values(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return every parameter (`calib.payload.values.table`), named by its eta bin: ``A -2.4 -2.3``.

    Those of simulated muons come behind, as ``simulation A -2.4 -2.3``. A bin without a usable
    value has NaN.
    """
    parts = []
    for name, whose in ((NAME, ""), (SIMULATION, "simulation ")):
        if f"{name}_parameters" not in by_name(document):
            continue
        found, codes = parameters(document, name), status(document, name)
        bins = [f"{low:g} {high:g}" for low, high in pairwise(found["edges"])]
        for kind in KINDS:
            usable = codes <= Status.HELD.code
            value, error = (np.where(usable, found[k], np.nan) for k in (kind, f"{kind}_err"))
            names = [f"{whose}{kind} {b}" for b in bins]
            parts.append(table(names, f"{whose}{kind}", value, error, codes))
    return pd.concat(parts, ignore_index=True)


def covariances(document: Mapping[str, Any], name: str = NAME) -> Array:
    """Return the covariance of A, e, M of each eta bin, shape (n, 3, 3); NaN without a value."""
    correction = by_name(document)[f"{name}_uncertainty"]
    _insist(correction, UNCERTAINTY)
    content = _keys(correction["data"], "charge")[1]["content"]
    rows = [c["parameters"] if isinstance(c, Mapping) else [np.nan] * 6 for c in content]
    AA, ee, MM, Ae, AM, eM = np.array(rows, dtype=float).T / [[1], [1], [1], [-2], [2], [-2]]
    return np.array([[AA, Ae, AM], [Ae, ee, eM], [AM, eM, MM]]).transpose(2, 0, 1)


def disagreement(correction: Mapping[str, Any], table: Mapping[str, Array]) -> float:
    """Return the largest relative difference in pt of a correction and the parameters.

    Each charge is read for itself: a wrong sign of M for one of them shows.
    """
    worst = 0.0
    for charge, (edges, (A, e, qM)) in _by_charge(correction).items():
        if not np.array_equal(edges, table["edges"]):
            return np.inf
        for pt in SIGNS_AT:
            k, one = np.asarray(1 / pt), np.asarray(1)
            found = corrected(k, one, A, e, qM)
            expected = corrected(k, charge * one, table["A"], table["e"], table["M"])
            worst = max(worst, float(np.max(np.abs(found / expected - 1))))
    return worst


def _insist(correction: Mapping[str, Any], expression: str) -> None:
    found = correction["generic_formulas"][0]
    if (found["expression"], found["variables"]) != (expression, ["pt"]):
        raise ValueError(f"formula {found['expression']!r}, expected {expression!r} of pt")


def _keys(node: Mapping[str, Any], variable: str) -> dict[Any, Any]:
    if node["nodetype"] != "category" or node["input"] != variable:
        raise ValueError(f"expected a category of {variable}")
    return {item["key"]: item["value"] for item in node["content"]}


def _binning(node: Mapping[str, Any], number: int) -> tuple[Array, Array]:
    """Return edges (n + 1,) and the parameters of the formulas, shape (number, n)."""
    if node["nodetype"] != "binning" or node["input"] != "eta":
        raise ValueError("expected a binning in eta")
    edges = np.asarray(node["edges"], dtype=float)
    rows = np.array([content["parameters"] for content in node["content"]], dtype=float)
    if rows.shape != (len(edges) - 1, number) or not np.isfinite(rows).all():
        raise ValueError(f"expected {number} finite parameters in each eta bin")
    return edges, rows.T
