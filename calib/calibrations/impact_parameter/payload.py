"""The payload: sigma of d0 and z0 by eta, phi and pt, and a and b themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from calib.events.categories import Axis
from calib.events.pairs import Muons
from calib.fitting.residual_widths import roots
from calib.fitting.straight_line import Line
from calib.payload.nodes import by_word, correction, evaluate, over_bins
from calib.payload.values import table
from calib.physics.constants import MUON_MASS
from calib.physics.kinematics import p_tilde
from calib.results import Check, Reduction, Status
from calib.types import Array

from .settings import Settings

NAME = "impact_parameter_sigma_d0"


def document(reduction: Reduction, settings: Settings) -> dict[str, Any]:
    """Return the payload: sigma of d0 and z0 with its variations, and a and b themselves.

    A bin without usable values is written with 0, and a status above 2.
    """
    made: list[dict[str, Any]] = []
    for key in keys(reduction):
        status = np.asarray(reduction.state[f"{key}_status"])
        usable = np.array([list(Status)[int(code)].usable for code in status])
        lines = np.where(usable[:, None], reduction.state[f"{key}_lines"], 0.0)
        own = np.where(usable[:, None, None], reduction.state[f"{key}_covariance"], 0.0)
        made.append(_sigma(key, lines, own, settings.places.axes))
        made.append(_parameters(key, lines, own, status, settings.places.axes))
    return {
        "schema_version": 2,
        "corrections": made,
        "description": "Impact-parameter resolution (dimucal, impact_parameter)",
    }


WHERE = (("eta", "Pseudorapidity of the muon"), ("phi", "Its azimuth"))
PT = ("pt", "Its transverse momentum (GeV); p_tilde follows from pt and eta")


def _sigma(key: str, lines: Array, covariance: Array, axes: Sequence[Axis]) -> dict[str, Any]:
    nodes = {
        word: over_bins(
            axes, [_formula(key[:2], *x, word) for x in zip(lines, covariance, strict=True)]
        )
        for word in ("nom", "up", "down")
    }
    return correction(
        f"impact_parameter_sigma_{key}",
        f"Resolution of {key[:2]} of prompt muons (um)",
        [("variation", "nom, up or down"), *WHERE, PT],
        "sigma",
        by_word("variation", nodes),
    )


def _parameters(
    key: str, lines: Array, covariance: Array, status: Array, axes: Sequence[Axis]
) -> dict[str, Any]:
    own = [roots(Line(v, c, 0.0, 0)) for v, c in zip(lines, covariance, strict=True)]
    (a, b), (aa, ab, bb) = (
        np.array([v for v, _ in own]).T,
        np.array([c[[0, 0, 1], [0, 1, 1]] for _, c in own]).T,
    )
    columns = {
        "a": a,
        "a_err": aa**0.5,
        "b": b,
        "b_err": bb**0.5,
        "covariance": ab,
        "status": status,
    }
    nodes = {word: over_bins(axes, list(np.nan_to_num(x))) for word, x in columns.items()}
    words = ", ".join(f"{s.code} {s.value}" for s in Status)
    return correction(
        f"impact_parameter_{key}",
        "a (um), b (um GeV), their errors and covariance; sigma^2 = a^2 + b^2 / p_tilde^2;"
        f" status: {words}",
        [("parameter", ", ".join(columns)), *WHERE],
        "value",
        by_word("parameter", nodes),
    )


def _formula(name: str, line: Array, covariance: Array, variation: str) -> dict[str, Any]:
    power, square = {"d0": 3, "z0": 5}[name], "(y*cosh(x))^2"
    u = f"(({square}+{MUON_MASS**2!r})/{square}^2*cosh(x)^{power})"
    variance = f"({float(line[0])!r}+({float(line[1])!r})*{u})"
    sigma, (aa, ab, bb) = f"sqrt({variance})", map(float, covariance[[0, 0, 1], [0, 1, 1]])
    error = f"sqrt(max({aa!r}+({2 * ab!r})*{u}+({bb!r})*{u}^2,0))/(2*{sigma})"
    if not np.any(line):
        sigma = error = "0"
    sign = {"nom": "", "up": f"+{error}", "down": f"-{error}"}[variation]
    return {
        "nodetype": "formula",
        "parser": "TFormula",
        "variables": ["eta", "pt"],
        "expression": sigma + sign,
    }


def keys(reduction: Reduction) -> list[str]:
    """Return what the arrays and corrections are named with: ``d0``, ``d0_simulation`` ..."""
    return [key.removesuffix("_lines") for key in reduction.state if key.endswith("_lines")]


def resolution(
    payload: Mapping[str, Any], key: str, muons: Muons
) -> tuple[Array, Array, Array] | None:
    """Return sigma and its error in um, and the status; None where the payload has none."""
    name, where = f"impact_parameter_sigma_{key}", (muons.eta, muons.phi)
    sigma = evaluate(payload, name, "nom", *where, muons.pt)
    if sigma is None:
        return None
    up = evaluate(payload, name, "up", *where, muons.pt)
    status = evaluate(payload, f"impact_parameter_{key}", "status", *where)
    assert up is not None
    unknown = np.full(len(sigma), -1.0)
    good = np.isfinite(sigma) & (sigma > 0)
    return (
        np.where(good, sigma, np.nan),
        np.where(good, up - sigma, np.nan),
        unknown if status is None else np.nan_to_num(status, nan=-1.0),
    )


def values(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Return a and b of each bin in a payload: ``d0 eta [-2.4, -2) phi [-3.14, 3.14) a``."""
    frames = []
    for own in payload["corrections"]:
        key = own["name"].removeprefix("impact_parameter_")
        if key == own["name"] or key.startswith("sigma_"):
            continue
        eta, phi = (list(pairwise(e)) for e in own["data"]["content"][0]["value"]["edges"])
        bins = [
            f"{key} eta [{a:.3g}, {b:.3g}) phi [{c:.3g}, {d:.3g})"
            for (a, b), (c, d) in product(eta, phi)
        ]
        centre = np.array([(0.5 * sum(x), 0.5 * sum(y)) for x, y in product(eta, phi)]).T
        for what in "ab":
            value, error, status = (
                evaluate(payload, own["name"], word, *centre)
                for word in (what, f"{what}_err", "status")
            )
            frames.append(table([f"{x} {what}" for x in bins], what, value, error, status))
    return pd.concat(frames, ignore_index=True)


def read_back(
    payload: Mapping[str, Any], reduction: Reduction, settings: Settings, seed: int
) -> Check:
    """Return whether the written payload gives the lines of the result at 5 000 points a block."""
    random, n, wrong = np.random.default_rng([seed, 44]), 5_000, 0
    for key in keys(reduction):
        eta = random.uniform(settings.eta[0], settings.eta[-1], n)
        phi = random.uniform(settings.phi[0], settings.phi[-1], n)
        eta[: n // 4] = random.choice(settings.eta[:-1], n // 4)
        pt, place = random.uniform(2.0, 100.0, n), settings.places.index(eta, phi)
        found = resolution(payload, key, Muons(pt, eta, phi, np.ones(n, dtype=np.int64)))
        A, B = np.asarray(reduction.state[f"{key}_lines"])[place].T
        codes = np.asarray(reduction.state[f"{key}_status"])[place]
        if found is None:
            wrong += n
            continue
        sigma, _, status = found
        expected = np.sqrt(A + B * p_tilde(pt, eta, key[:2]) ** -2)
        same = np.abs(sigma - expected) <= 1e-9 * expected
        wrong += int(((status != codes) | ((codes <= Status.HELD.code) & ~same)).sum())
    return Check(
        "payload_read_back",
        float(wrong),
        0.0,
        not wrong,
        "points at which the payload differs from the result",
    )
