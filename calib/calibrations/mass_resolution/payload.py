"""The payload of the mass resolution: correctionlib schema 2, drop-in for what analyses read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from calib.arrays import Array, BoolArray, IntArray
from calib.categories import Axis
from calib.correction import correction, over_bins
from calib.correction import evaluate as evaluated
from calib.errors import InputError
from calib.results import Check, Reduction, Status
from calib.values import table

from .settings import Settings

NAME = "BS_ebe_mass_res_calibration"
NAMES = (NAME, f"{NAME}_uncertainty", f"{NAME}_status")

_INPUTS = (
    ("leading_mu_pt", "Transverse momentum of the leading muon (GeV)"),
    ("leading_mu_abseta", "Absolute pseudorapidity of the leading muon"),
    ("subleading_mu_abseta", "Absolute pseudorapidity of the subleading muon"),
)


def document(reduction: Reduction, settings: Settings) -> dict[str, Any]:
    """Return the payload: factor, its uncertainty, and the status of each category.

    A category without a usable value is written as factor 1 with an uncertainty of 1 and a
    status above 2; a payload that holds one never passes the verdict.
    """
    status = np.asarray(reduction.state["status"])
    usable = np.array([list(Status)[int(code)].usable for code in status])
    factor = np.where(usable, reduction.state["factor"], 1.0)
    error = np.where(usable, reduction.state["factor_err"], 1.0)
    words = ", ".join(f"{s.code} {s.value}" for s in Status)
    ends = (settings.leading_pt, settings.abs_eta, settings.abs_eta)
    axes = [Axis(key, edges) for (key, _), edges in zip(_INPUTS, ends, strict=True)]
    texts = (
        ("correction_factor", "Dimuon mass resolution: fitted sigma over predicted sigma", factor),
        ("uncertainty", "Uncertainty of the correction factor", error),
        ("status", f"Status of the category: {words}", status.astype(float)),
    )
    return {
        "schema_version": 2,
        "description": "Dimuon mass resolution calibration (dimucal, mass_resolution)",
        "corrections": [
            correction(name, description, _INPUTS, output, over_bins(axes, list(values)))
            for name, (output, description, values) in zip(NAMES, texts, strict=True)
        ],
    }


def evaluate(
    payload: Mapping[str, Any], leading_pt: Array, leading_eta: Array, subleading_eta: Array
) -> tuple[Array, Array, Array]:
    """Return factor, uncertainty and status of each pair, from a payload.

    Inputs that are not numbers give NaN: correctionlib's clamp would give a number.
    """
    arguments = [leading_pt, np.abs(leading_eta), np.abs(subleading_eta)]
    found = [evaluated(payload, name, *arguments) for name in NAMES]
    nothing = np.where(np.all(np.isfinite(arguments), axis=0), 0.0, np.nan)
    # a payload of others: the factor alone
    factor, error, status = (nothing if x is None else x for x in found)
    return factor, error, status


def values(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Return the factor of each cell, as `calib.values.table`; named ``30-45 0-0.9 0.9-1.8``.

    Raises
    ------
    InputError
        If the factors do not stand in bins of pt, |eta| and |eta|.
    """
    node = next(c["data"] for c in payload["corrections"] if c["name"] == NAME)
    try:
        edges = [np.asarray(axis, dtype=float) for axis in node["edges"]]
        middles = [0.5 * (axis[1:] + axis[:-1]) for axis in edges]
        pt, first, second = (x.ravel() for x in np.meshgrid(*middles, indexing="ij"))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"payload: {NAME} is not laid out as expected ({error!r}); take a payload.json that"
            " `calib run` has written"
        ) from None
    bins = [[f"{low:g}-{high:g}" for low, high in pairwise(axis)] for axis in edges]
    names = [" ".join(labels) for labels in product(*bins)]
    return table(names, "factor", *evaluate(payload, pt, first, second))


def _differs(a: Array, b: Array) -> BoolArray:
    """Return where two numbers differ by more than the reader's last bits (1e-14)."""
    return ~(np.abs(a - b) <= 1e-14 * np.abs(b))


def check(
    payload: Mapping[str, Any], reduction: Reduction, settings: Settings, seed: int
) -> Sequence[Check]:
    """Return the outcome of reading the payload back at 10 000 points, all edges among them."""
    random = np.random.default_rng([seed, 36])
    n = 10_000
    pt_edges, eta_edges = np.asarray(settings.leading_pt), np.asarray(settings.abs_eta)
    pt = random.uniform(pt_edges[0], pt_edges[-1], n)
    eta = random.uniform(eta_edges[0], eta_edges[-1], (2, n))
    pt[: n // 4] = random.choice(pt_edges[:-1], n // 4)
    eta[0, n // 8 : n // 3] = random.choice(eta_edges[:-1], n // 3 - n // 8)
    eta[1, n // 5 : n // 2] = random.choice(eta_edges[:-1], n // 2 - n // 5)
    factor, error, status = evaluate(payload, pt, eta[0], eta[1])

    def bins(values: Array, edges: Array) -> IntArray:
        return np.searchsorted(edges, values, side="right") - 1

    rings = len(eta_edges) - 1
    flat = (bins(pt, pt_edges) * rings + bins(eta[0], eta_edges)) * rings + bins(eta[1], eta_edges)
    codes = np.asarray(reduction.state["status"])[flat]
    usable = codes <= Status.HELD.code
    wrong = (status != codes) | (
        usable
        & (
            _differs(factor, np.asarray(reduction.state["factor"])[flat])
            | _differs(error, np.asarray(reduction.state["factor_err"])[flat])
        )
    )
    return [
        Check(
            "payload_read_back",
            float(wrong.sum()),
            0.0,
            not wrong.any(),
            f"points of {n} at which the payload differs from the factors",
        )
    ]
