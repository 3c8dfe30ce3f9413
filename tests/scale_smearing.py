"""A second evaluator of ``muon_scalesmearing`` files, as analyses apply them: own formulas.

It shares nothing with the package, and follows the description of the layout alone: pt' from m and
a, then for simulation the inverse cumulative of a double-sided Crystal Ball at a number of the
file's own generator.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
from scipy.special import erf, erfinv

CORRECTIONS = {
    "a_data": ("eta", "phi", "variation"),
    "a_mc": ("eta", "phi", "variation"),
    "m_data": ("eta", "phi", "variation"),
    "m_mc": ("eta", "phi", "variation"),
    "k_data": ("abseta", "variation"),
    "k_mc": ("abseta", "variation"),
    "cb_params": ("abseta", "nTrackerLayers", "parameter"),
    "poly_params": ("abseta", "nTrackerLayers", "parameter"),
    "RandomSmearing": ("event", "luminosityBlock", "phi"),
}
TYPES = {"variation": "string", "parameter": "int", "event": "int", "luminosityBlock": "int"}


def document_of(path: Path) -> dict[str, Any]:
    with gzip.open(path) as file:
        return json.loads(file.read())


def loaded(document: Any) -> Any:
    return correctionlib.CorrectionSet.from_string(json.dumps(document, allow_nan=False))


def inverse_cumulative(u: np.ndarray, mean, sigma, n, alpha) -> np.ndarray:
    """Return x with P(X < x) = u, X a Crystal Ball with both tails alike."""
    ratio = n / alpha
    tail = ratio / (n - 1) * np.exp(-0.5 * alpha**2)
    core = np.sqrt(2 * np.pi) * erf(alpha / np.sqrt(2))
    total = core + 2 * tail
    lower = np.minimum(u, 1 - u)  # the same on the other side
    with np.errstate(invalid="ignore", divide="ignore"):
        far = -alpha + ratio * (1 - (lower * total / tail) ** (-1 / (n - 1)))
        near = np.sqrt(2) * erfinv((lower * total - 0.5 * total) / np.sqrt(np.pi / 2))
    x = np.where(lower < tail / total, far, near)
    return mean + sigma * np.where(u < 0.5, x, -x)


def scaled(found: Any, kind: str, pt, eta, phi, charge) -> np.ndarray:
    a, m = (found[f"{name}_{kind}"].evaluate(eta, phi, "nom") for name in "am")
    new = 1 / (m / pt + charge * a)
    return filtered(new, pt, pt)


def width(found: Any, eta, layers, pt) -> np.ndarray:
    p = [found["poly_params"].evaluate(np.abs(eta), layers, i) for i in range(3)]
    return np.maximum(p[0] + p[1] * pt + p[2] * pt**2, 0)


def residual_k(found: Any, eta) -> np.ndarray:
    data, mc = (found[f"k_{kind}"].evaluate(np.abs(eta), "nom") for kind in ("data", "mc"))
    return np.sqrt(np.maximum(data**2 - mc**2, 0))


def smeared(found: Any, pt, eta, phi, layers, event, block, raw) -> np.ndarray:
    """Return pt after the scale smeared; ``raw`` is pt as it was measured."""
    number = found["RandomSmearing"].evaluate(event, block, phi)
    ball = [found["cb_params"].evaluate(np.abs(eta), layers, i) for i in range(4)]
    r = inverse_cumulative(number, *ball)
    new = pt * (1 + residual_k(found, eta) * width(found, eta, layers, pt) * r)
    return filtered(new, pt, raw)


def filtered(new, old, raw) -> np.ndarray:
    inside = (raw >= 26) & (raw <= 200) & np.isfinite(new) & (new >= 0.1 * old) & (new <= 2 * old)
    return np.where(inside, new, old)
