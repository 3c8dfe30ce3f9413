"""A payload read back: every number in it against those of the reduction, and its conventions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import correctionlib
import numpy as np

from calib.fitting.scale.model import KINDS, corrected
from calib.results import Check, Reduction, Status
from calib.types import AnyArray, Array, BoolArray

from . import reading
from .payload import NAME, SIMULATION, SMEARING, Published, eta_edges, published

N = 10_000
SOME = 500
"""Points at which each variation is read."""

PRECISION = 1e-12
COMPOSED = 1e-6
COMPOSED_AT = np.geomspace(4.0, 200.0, 60)
"""pt in GeV between which the composed correction is compared with its steps."""


def check(payload: Mapping[str, Any], reduction: Reduction, seed: int) -> Sequence[Check]:
    """Return the outcome of three looks at a payload.

    ``payload_read_back``: points of 10 000, all edges among them, at which correctionlib and the
    reduction differ. ``corrections_composed``: largest relative difference in pt of the published
    A, e, M and the corrections of all passes one after the other. ``sign_convention``: largest
    relative difference of the corrected pt of both charges from the parameters that stand in the
    payload itself.

    Parameters
    ----------
    payload : mapping
        As read from the file.
    reduction : Reduction
        What it was made from.
    seed : int
        Of the points.

    Returns
    -------
    sequence of Check
        These three.
    """
    wrong, n = _wrong_points(payload, reduction, seed)
    kinds = [k for k in ("", "simulation_") if f"{k}steps" in reduction.state]
    composed = max((_composed(reduction, kind) for kind in kinds), default=0.0)
    sign = _sign(payload)
    return [
        Check.at_most(
            "payload_read_back",
            wrong,
            0,
            f"of {n} points at which the payload differs from the parameters",
            title="Payload read back",
            advice="do not publish it: the formula of the payload is not that of the result",
        ),
        Check.at_most(
            "corrections_composed",
            composed,
            COMPOSED,
            "largest relative difference in pt between the published A, e, M and the corrections"
            " of all passes one after the other, for pt of 4 to 200 GeV",
            title="Corrections of all passes in one",
            advice="a correction this large is not one A, e, M: look at the eta bin with the"
            " largest e or M, which is often one that the data hardly determine",
        ),
        Check.at_most(
            "sign_convention",
            sign,
            reading.TOLERANCE,
            "largest relative difference of the corrected pt of either charge from A, e, M in the"
            " payload",
            title="Sign of the charge",
            advice="do not publish it: the payload corrects one charge in the direction of the"
            " other",
        ),
    ]


def _wrong_points(payload: Mapping[str, Any], reduction: Reduction, seed: int) -> tuple[int, int]:
    found = correctionlib.CorrectionSet.from_string(json.dumps(payload))
    edges = eta_edges(reduction)
    pt, eta, charge = points(edges, seed)
    at = reading.bins_of(edges, eta)
    data = published(reduction)
    families = {NAME: data}
    if "simulation_A" in reduction.state:
        families[SIMULATION] = published(reduction, "simulation_")
    wrong = np.zeros(N, dtype=np.bool_)
    for name, of in families.items():
        wrong |= _family(found, name, of, pt, eta, charge, at)
        wrong[:SOME] |= _variations(payload, found, name, of, pt, eta, charge, at)
    if SIMULATION in families:
        both = data.usable & families[SIMULATION].usable
        more = np.where(both, data.values[3:] - families[SIMULATION].values[3:], 0.0)
        wrong |= _wrong_width(found[SMEARING], more, pt, eta, at)
    return int(wrong.sum()), N


def points(edges: Array, seed: int) -> tuple[Array, Array, AnyArray]:
    """Return pt, eta and charge of the points: all edges, what is outside, and a random rest.

    Parameters
    ----------
    edges : array, shape (n + 1,)
        Of eta.
    seed : int
        Of the random ones.

    Returns
    -------
    array, shape (N,)
        pt, in GeV.
    array, shape (N,)
        eta.
    int array, shape (N,)
        Charge.
    """
    random = np.random.default_rng([seed, 71])
    reach = edges[-1] - edges[0]
    eta = random.uniform(edges[0] - 0.02 * reach, edges[-1] + 0.02 * reach, N)
    special = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    eta[: N // 4] = np.resize(special, N // 4)
    random.shuffle(eta)
    pt = np.exp(random.uniform(np.log(2.0), np.log(500.0), N))
    return pt, eta, random.choice(np.array([-1, 1]), N)


def _family(
    found: Any, name: str, of: Published, pt: Array, eta: Array, charge: AnyArray, at: AnyArray
) -> BoolArray:
    values = np.pad(of.values, ((0, 0), (0, 1)))[:, at]
    errors = np.pad(of.errors, ((0, 0), (0, 1)), constant_values=1.0)[:, at]
    wrong = differs(found[name].evaluate(pt, eta, charge, "nom"), _pt(values, pt, charge, at, of))
    for kind, value, error in zip(KINDS, values, errors, strict=True):
        table = found[f"{name}_parameters"]
        wrong |= differs(table.evaluate(eta, kind), value)
        wrong |= differs(table.evaluate(eta, f"{kind}_err"), error)
    wrong |= _wrong_width(found[f"{name}_resolution"], of.values[3:], pt, eta, at)
    codes = np.append(of.status, Status.OUT_OF_RANGE.code)[at]
    wrong |= differs(found[f"{name}_status"].evaluate(eta), codes)
    covariance = np.concatenate([of.of_bins(), np.zeros((1, 3, 3))])[at]
    gradient = np.stack([np.ones(N), -1 / pt, charge * pt], 1)
    expected = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", gradient, covariance, gradient), 0))
    expected = np.where(np.append(of.usable, False)[at], expected, 1.0)
    got = found[f"{name}_uncertainty"].evaluate(pt, eta, charge)
    # terms that cancel: the precision is that of the largest one
    size = np.einsum("ni,nij,nj->n", abs(gradient), abs(covariance), abs(gradient))
    far = ~(np.abs(got**2 - expected**2) <= PRECISION * np.maximum(size, expected**2))
    return np.asarray(wrong | far)


def _variations(
    payload: Mapping[str, Any],
    found: Any,
    name: str,
    of: Published,
    pt: Array,
    eta: Array,
    charge: AnyArray,
    at: AnyArray,
) -> BoolArray:
    """Return where a variation and its mirror image are not around the nominal correction.

    k is linear in A, e, M: the mean of 1/pt up and down is the nominal one.
    """
    some = slice(0, SOME)
    pt, eta, charge, at = pt[some], eta[some], charge[some], at[some]
    nominal = 1 / _pt(np.pad(of.values, ((0, 0), (0, 1)))[:, at], pt, charge, at, of)
    wrong = np.zeros(len(pt), dtype=np.bool_)
    moved = np.zeros(len(pt))
    for variation in variations(payload, name):
        up = 1 / found[name].evaluate(pt, eta, charge, f"{variation}_up")
        down = 1 / found[name].evaluate(pt, eta, charge, f"{variation}_down")
        wrong |= differs(0.5 * (up + down), nominal)
        moved += (0.5 * (up - down) * pt) ** 2
    total = found[f"{name}_uncertainty"].evaluate(pt, eta, charge)
    return np.asarray(wrong | (np.sqrt(moved) > total * (1 + 1e-6) + 1e-13))


def variations(payload: Mapping[str, Any], name: str) -> list[str]:
    """Return the names of the variations of a correction, without ``_up`` and ``_down``.

    Parameters
    ----------
    payload : mapping
        The document.
    name : str
        Of a correction.

    Returns
    -------
    list of str
        In the order of the payload.
    """
    keys = [str(item["key"]) for item in reading.by_name(payload)[name]["data"]["content"]]
    return [key.removesuffix("_up") for key in keys if key.endswith("_up")]


def _pt(values: Array, pt: Array, charge: AnyArray, at: AnyArray, of: Published) -> Array:
    found = 1 / np.abs(corrected(1 / pt, charge, values[0], values[1], values[2]))
    return np.where(at == len(of.usable), pt, found)


def _wrong_width(width: Any, values: Array, pt: Array, eta: Array, at: AnyArray) -> BoolArray:
    a2, c2 = np.pad(values, ((0, 0), (0, 1)))[:, at]
    expected = np.maximum(a2 + c2 * pt * pt, 0.0)
    size = np.abs(a2) + np.abs(c2) * pt * pt  # as above
    return np.asarray(~(np.abs(width.evaluate(pt, eta) ** 2 - expected) <= PRECISION * size))


def differs(a: Array, b: Array) -> BoolArray:
    """Return where two numbers differ by more than 1e-12 of their size.

    Parameters
    ----------
    a, b : array, shape (n,)
        In one unit.

    Returns
    -------
    bool array, shape (n,)
        True for NaN as well.
    """
    return np.asarray(~(np.abs(a - b) <= PRECISION * np.abs(b)))


def _composed(reduction: Reduction, prefix: str) -> float:
    """Return the largest relative difference of the published correction and its steps."""
    of = published(reduction, prefix)
    steps = np.asarray(reduction.state[f"{prefix}steps"], dtype=float)
    worst = 0.0
    for charge in (-1, 1):
        k = np.repeat(1 / COMPOSED_AT[:, None], len(of.usable), axis=1)
        at_once = corrected(k, np.array(charge), *of.values[:3])
        for step in steps:
            k = corrected(k, np.array(charge), *step)
        apart = np.abs(k / at_once - 1)[:, of.usable]
        worst = max(worst, float(np.max(apart, initial=0.0)))
    return worst


def _sign(payload: Mapping[str, Any]) -> float:
    """Return the largest difference of the corrections from the parameters in the payload."""
    found = correctionlib.CorrectionSet.from_string(json.dumps(payload))
    worst = 0.0
    for name in (NAME, SIMULATION):
        if name not in list(found):
            continue
        table = reading.parameters(payload, name)
        middle = 0.5 * (table["edges"][1:] + table["edges"][:-1])
        for charge in (-1, 1):
            for pt in reading.SIGNS_AT:
                got = found[name].evaluate(pt, middle, charge, "nom")
                expected = corrected(1 / pt, np.array(charge), table["A"], table["e"], table["M"])
                worst = max(worst, float(np.max(np.abs(got * expected - 1))))
    return worst
