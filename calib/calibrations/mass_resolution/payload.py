"""The payload of the mass resolution: correctionlib schema 2, drop-in for what analyses read.

Beside the factor of a pair's category stand its variations, a factor of each muon on its ptErr,
and a word on which of the two is to be applied. A payload of others may hold the first alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.random import Generator

from calib.errors import InputError
from calib.events.categories import Axis
from calib.later import pandas as pd
from calib.payload.nodes import by_key, correction, over_bins
from calib.payload.nodes import document as made_of
from calib.payload.nodes import evaluate as evaluated
from calib.payload.values import table
from calib.results import Check, Reduction, Status
from calib.types import Array, BoolArray, IntArray

from .settings import Settings
from .widths.muons import MOST_ERROR, MuonFactors
from .widths.variations import Variations, variations

NAME = "BS_ebe_mass_res_calibration"
NAMES = (NAME, f"{NAME}_uncertainty", f"{NAME}_status")
VARIATION = f"{NAME}_variation"
MUON = "muon_ptErr_factor"
MUON_NAMES = (MUON, f"{MUON}_uncertainty", f"{MUON}_status")
APPLY = "mass_resolution_apply"
WAYS = ("category", "muon")

_INPUTS = (
    ("leading_mu_pt", "Transverse momentum of the leading muon (GeV)"),
    ("leading_mu_abseta", "Absolute pseudorapidity of the leading muon"),
    ("subleading_mu_abseta", "Absolute pseudorapidity of the subleading muon"),
)
_MUON_INPUTS = (
    ("pt", "Transverse momentum of the muon (GeV)"),
    ("eta", "Pseudorapidity of the muon; the factor is the same at -eta"),
)
_STATUS = ", ".join(f"{s.code} {s.value}" for s in Status)


def document(reduction: Reduction, settings: Settings, simulation: bool = False) -> dict[str, Any]:
    """Return the payload: factors of categories and of muons, with uncertainty and status.

    A category without a usable value is written as factor 1 with an uncertainty of 1 and a
    status above 2; a payload that holds one never passes the verdict. The factors of muons are
    written in the same way where there are none (a model without templates).

    Parameters
    ----------
    reduction : Reduction
        The result.
    settings : Settings
        Axes, and which factors are to be applied.
    simulation : bool
        Whether the target was simulated; the payload says it.

    Returns
    -------
    dict
        A correctionlib document of schema 2.
    """
    whose = "simulated events" if simulation else "data"
    description = (
        f"Dimuon mass resolution calibration of {whose} (dimucal, mass_resolution). {NAME}"
        " multiplies the predicted mass resolution of a pair, m/2 sqrt((ptErr1/pt1)^2 +"
        f" (ptErr2/pt2)^2); {MUON} multiplies ptErr of a single muon instead. Use one of them:"
        f" {APPLY} says which was tested by the closure of the verdict (settings.apply:"
        f" {settings.apply})."
    )
    return made_of(
        [
            *_of_categories(reduction, settings, whose),
            *_of_muons(reduction, settings, whose),
            correction(
                APPLY,
                "1 for the factors that are to be applied, 0 for the others",
                (("factors", f"{' or '.join(WAYS)}"),),
                "applies",
                by_key("factors", {way: float(way == settings.apply) for way in WAYS}),
            ),
        ],
        description,
    )


# categories --------------------------------------------------------------------------------------
def _published(reduction: Reduction) -> tuple[Array, Array, Array]:
    """Return factor, uncertainty and status as they are written, one of each category."""
    status = np.asarray(reduction.state["status"])
    usable = np.array([list(Status)[int(code)].usable for code in status])
    factor = np.where(usable, reduction.state["factor"], 1.0)
    error = np.where(usable, reduction.state["factor_err"], 1.0)
    return factor, error, status.astype(float)


def shifts(reduction: Reduction) -> Variations:
    """Return the named variations of the factors that categories have in common."""
    factor, _, status = _published(reduction)
    known = status <= Status.HELD.code
    return variations(factor, known, reduction.arrays.get("covariance", {}))


def _of_categories(reduction: Reduction, settings: Settings, whose: str) -> list[dict[str, Any]]:
    ends = (settings.leading_pt, settings.abs_eta, settings.abs_eta)
    axes = [Axis(key, edges) for (key, _), edges in zip(_INPUTS, ends, strict=True)]
    factor, error, status = _published(reduction)
    texts = (
        (
            "correction_factor",
            f"Dimuon mass resolution of {whose}: fitted sigma over predicted sigma",
            factor,
        ),
        (
            "uncertainty",
            "Uncertainty of the correction factor: one standard deviation, statistical"
            " and systematic",
            error,
        ),
        ("status", f"Status of the category: {_STATUS}", status),
    )
    found = [
        correction(name, description, _INPUTS, output, over_bins(axes, list(values)))
        for name, (output, description, values) in zip(NAMES, texts, strict=True)
    ]
    shifted = shifts(reduction)
    words = {
        word: over_bins(axes, list(values)) for word, values in shifted.factors(factor).items()
    }
    inputs = (("variation", f"one of {', '.join(words)}"), *_INPUTS)
    found.append(
        correction(
            VARIATION, shifted.text(NAME), inputs, "correction_factor", by_key("variation", words)
        )
    )
    return found


def evaluate(
    payload: Mapping[str, Any], leading_pt: Array, leading_eta: Array, subleading_eta: Array
) -> tuple[Array, Array, Array]:
    """Return factor, uncertainty and status of each pair, from a payload.

    Inputs that are not numbers give NaN: correctionlib's clamp would give a number.

    Parameters
    ----------
    payload : mapping
        The document.
    leading_pt : array, shape (n,)
        In GeV.
    leading_eta, subleading_eta : array, shape (n,)
        With sign; |eta| is taken.

    Returns
    -------
    array, shape (n,)
        Factor.
    array, shape (n,)
        Uncertainty of the factor; 0 of a payload without one.
    array, shape (n,)
        Code of the status.
    """
    arguments = [leading_pt, np.abs(leading_eta), np.abs(subleading_eta)]
    found = [evaluated(payload, name, *arguments) for name in NAMES]
    nothing = np.where(np.all(np.isfinite(arguments), axis=0), 0.0, np.nan)
    # a payload of others: the factor alone
    factor, error, status = (nothing if x is None else x for x in found)
    return factor, error, status


# muons -------------------------------------------------------------------------------------------
def muon_factors_of(reduction: Reduction, settings: Settings) -> MuonFactors | None:
    """Return the factors of muons that a reduction has found.

    Parameters
    ----------
    reduction : Reduction
        The result.
    settings : Settings
        With the fine edges of |eta|.

    Returns
    -------
    MuonFactors or None
        None: it has none.
    """
    state = reduction.state
    if "muons" not in state:
        return None
    return MuonFactors(
        np.asarray(settings.muons.abs_eta),
        np.asarray(state["ring_of"], dtype=np.int64),
        np.asarray(state["muons"]),
        np.asarray(state["muons_covariance"]),
        0.0,
        1,
    )


def _muon_cells(reduction: Reduction, settings: Settings) -> tuple[Array, Array, Array]:
    """Return factor, uncertainty and status in bins of pt and |eta|, shape (pt, |eta|) each.

    The factor is that at the geometric middle of the bin of pt.
    """
    edges, eta = np.asarray(settings.muons.pt), np.asarray(settings.muons.abs_eta)
    shape = (len(edges) - 1, len(eta) - 1)
    factor, error = np.ones(shape), np.ones(shape)
    status = np.full(shape, float(Status.NOT_DETERMINED.code))
    found = muon_factors_of(reduction, settings)
    if found is None:
        return factor, error, status
    pt, middle = (
        x.ravel()
        for x in np.meshgrid(
            np.sqrt(edges[1:] * edges[:-1]), 0.5 * (eta[1:] + eta[:-1]), indexing="ij"
        )
    )
    value, own = (x.reshape(shape) for x in (found.at(pt, middle), found.error(pt, middle)))
    known = np.isfinite(value) & np.isfinite(own) & (value > 0)
    of_bin = np.array([s is Status.OK for s in found.status()])
    with np.errstate(invalid="ignore", divide="ignore"):
        is_own = of_bin[None, :] & (own / value <= MOST_ERROR)
    codes = np.where(is_own, Status.OK.code, Status.MERGED.code).astype(float)
    return (
        np.where(known, value, factor),
        np.where(known, own, error),
        np.where(known, codes, status),
    )


def _of_muons(reduction: Reduction, settings: Settings, whose: str) -> list[dict[str, Any]]:
    positive = np.asarray(settings.muons.abs_eta, dtype=float)
    # an inner region that is left out has no bins of its own: the clamp of eta goes through it
    edges = np.concatenate([-positive[:0:-1], [0.0], positive[1:]])
    axes = [Axis("pt", settings.muons.pt), Axis("eta", tuple(edges))]
    texts = (
        ("factor", f"Factor on ptErr of a single muon of {whose}"),
        ("uncertainty", "Uncertainty of the factor on ptErr: one standard deviation"),
        (
            "status",
            f"Status of the factor on ptErr: {_STATUS}; merged: largely what all muons"
            " have in common; not_determined: factor 1, nothing was measured",
        ),
    )
    return [
        correction(
            name,
            description,
            _MUON_INPUTS,
            output,
            over_bins(axes, list(np.hstack([cells[:, ::-1], cells]).ravel())),
        )
        for name, (output, description), cells in zip(
            MUON_NAMES, texts, _muon_cells(reduction, settings), strict=True
        )
    ]


def evaluate_muon(
    payload: Mapping[str, Any], pt: Array, eta: Array
) -> tuple[Array, Array, Array] | None:
    """Return factor on ptErr, uncertainty and status of each muon.

    Evaluated at |eta|, so that a muon on an edge is in the bin that it was calibrated in.

    Parameters
    ----------
    payload : mapping
        The document.
    pt : array, shape (n,)
        In GeV.
    eta : array, shape (n,)
        With sign.

    Returns
    -------
    three arrays, shape (n,), or None
        Factor, its uncertainty, code of the status; None: the payload has none.
    """
    factor, error, status = (evaluated(payload, n, pt, np.abs(eta)) for n in MUON_NAMES)
    if factor is None or error is None or status is None:
        return None
    return factor, error, status


def way(payload: Mapping[str, Any]) -> str:
    """Return which factors a payload is applied with; one without a word on it: ``category``."""
    found = evaluated(payload, APPLY, "muon")
    return "muon" if found is not None and float(found) == 1.0 else "category"


# values ------------------------------------------------------------------------------------------
def values(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Return all factors, as `calib.payload.values.table`: of kind ``factor`` and ``muon_factor``.

    A category is named by its bins, ``30-45 0-0.9 0.9-1.8``; a muon by pt and |eta|,
    ``muon 30-37.5 0-0.3`` (the factor is the same at -eta).

    Raises
    ------
    InputError
        If the factors do not stand in bins of pt, |eta| and |eta|, or pt and eta.
    """
    (pt, first, second), names = _cells(payload, NAME)
    found = [table(names, "factor", *evaluate(payload, pt, first, second))]
    if any(c["name"] == MUON for c in payload["corrections"]):
        (pt, eta), names = _cells(payload, MUON)
        muons = evaluate_muon(payload, pt, eta)
        if muons is not None:
            kept = eta > 0
            labels = [f"muon {name}" for name, k in zip(names, kept, strict=True) if k]
            found.append(table(labels, "muon_factor", *(x[kept] for x in muons)))
    return pd.concat(found, ignore_index=True)


def _cells(payload: Mapping[str, Any], name: str) -> tuple[list[Array], list[str]]:
    """Return the middles of the bins of a correction, along each axis, and their names."""
    node = next(c["data"] for c in payload["corrections"] if c["name"] == name)
    try:
        edges = [np.asarray(axis, dtype=float) for axis in node["edges"]]
        n = {NAME: 3, MUON: 2}[name]
        middles = [0.5 * (axis[1:] + axis[:-1]) for axis in edges]
        points = [x.ravel() for x in np.meshgrid(*middles, indexing="ij")]
        if len(points) != n:
            raise ValueError(f"{len(points)} axes, {n} expected")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"payload: {name} is not laid out as expected ({error!r}); take a payload.json that"
            " `calib run` has written"
        ) from None
    bins = [[f"{low:g}-{high:g}" for low, high in pairwise(axis)] for axis in edges]
    return points, [" ".join(labels) for labels in product(*bins)]


# read back ---------------------------------------------------------------------------------------
POINTS = 10_000


def _differs(a: Array, b: Array) -> BoolArray:
    """Return where two numbers differ by more than the reader's last bits (1e-14)."""
    return ~(np.abs(a - b) <= 1e-14 * np.abs(b))


def _bins(points: Array, edges: Array) -> IntArray:
    found = np.searchsorted(edges, points, side="right") - 1
    return np.asarray(np.clip(found, 0, len(edges) - 2))


def check(
    payload: Mapping[str, Any], reduction: Reduction, settings: Settings, seed: int
) -> Sequence[Check]:
    """Return the outcome of reading the payload back at 10 000 points, all edges among them.

    Every correction is read: factor, uncertainty, status and each variation of the categories,
    the three of the muons, and the word on which of them is applied.

    Parameters
    ----------
    payload : mapping
        The document, as read from the file.
    reduction : Reduction
        What it was made from.
    settings : Settings
        Axes.
    seed : int
        Of the points.

    Returns
    -------
    sequence of Check
        ``payload_read_back`` first.
    """
    random = np.random.default_rng([seed, 36])
    wrong = _wrong_categories(payload, reduction, settings, random)
    wrong |= _wrong_muons(payload, reduction, settings, random)
    if way(payload) != settings.apply:
        wrong[:] = True
    checks = [
        Check.at_most(
            "payload_read_back",
            wrong.sum(),
            0,
            f"of {POINTS} points at which the payload differs from the factors",
            title="Payload read back",
            advice="do not publish it: the formula of the payload is not that of the result",
        )
    ]
    if settings.apply == "muon":
        usable = float(np.mean(_muon_cells(reduction, settings)[2] <= Status.HELD.code))
        checks.append(
            Check.at_least(
                "muon_factors_usable",
                usable,
                1.0,
                "share of the bins of pt and |eta| with a usable factor on ptErr",
                title="Muon bins with a factor",
                advice="take more events, coarser settings.muons.pt or settings.muons.abs_eta, or"
                " settings.apply: category",
            )
        )
    return checks


def _wrong_categories(
    payload: Mapping[str, Any], reduction: Reduction, settings: Settings, random: Generator
) -> BoolArray:
    n = POINTS
    pt_edges, eta_edges = np.asarray(settings.leading_pt), np.asarray(settings.abs_eta)
    pt = random.uniform(pt_edges[0], pt_edges[-1], n)
    eta = random.uniform(eta_edges[0], eta_edges[-1], (2, n))
    pt[: n // 4] = random.choice(pt_edges[:-1], n // 4)
    eta[0, n // 8 : n // 3] = random.choice(eta_edges[:-1], n // 3 - n // 8)
    eta[1, n // 5 : n // 2] = random.choice(eta_edges[:-1], n // 2 - n // 5)
    rings = len(eta_edges) - 1
    flat = (_bins(pt, pt_edges) * rings + _bins(eta[0], eta_edges)) * rings
    flat += _bins(eta[1], eta_edges)
    factor, error, status = _published(reduction)
    found = evaluate(payload, pt, eta[0], eta[1])
    wrong = np.asarray(found[2] != status[flat])
    for one, expected in zip(found, (factor, error), strict=False):
        wrong |= _differs(one, expected[flat])
    for word, values in shifts(reduction).factors(factor).items():
        try:
            shifted = evaluated(payload, VARIATION, word, pt, *eta)
        except (IndexError, RuntimeError):  # it has no such variation
            shifted = None
        wrong |= True if shifted is None else _differs(shifted, values[flat])
    return wrong


def _wrong_muons(
    payload: Mapping[str, Any], reduction: Reduction, settings: Settings, random: Generator
) -> BoolArray:
    n = POINTS
    pt_edges, eta_edges = np.asarray(settings.muons.pt), np.asarray(settings.muons.abs_eta)
    pt = random.uniform(0.5 * pt_edges[0], 2 * pt_edges[-1], n)
    eta = random.uniform(-1.1 * eta_edges[-1], 1.1 * eta_edges[-1], n)
    pt[: n // 3] = random.choice(pt_edges, n // 3)
    # at an edge below zero the bins in eta and in |eta| are not the same
    eta[n // 4 : n // 2] = random.choice(eta_edges, n // 2 - n // 4)
    at = (_bins(pt, pt_edges), _bins(np.abs(eta), eta_edges))
    wrong = np.zeros(n, dtype=np.bool_)
    for name, cells in zip(MUON_NAMES, _muon_cells(reduction, settings), strict=True):
        found = evaluated(payload, name, pt, eta)
        wrong |= True if found is None else _differs(found, cells[at])
    return wrong
