"""Simulated muons beside what was generated: the relative residual of pt where it was measured.

For layouts of others, which smear by |eta|, number of tracker layers and pt; the calibration
itself does not look at it. Filled once, in the first pass over the events.
"""

from __future__ import annotations

import numpy as np

from calib.events.pairs import Muons, Pairs
from calib.types import AnyArray, Array

from .inner_loops import Histogram, bins_of

LAYERS = "nTrackerLayers"
"""Column of the muons, which an input may lack."""

ABS_ETA = np.round(np.linspace(0.0, 2.4, 13), 10)
N_LAYERS = np.array([0.0, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 100.0])
PT = np.array([16.0, 26.0, 32.0, 38.0, 44.0, 50.0, 60.0, 80.0, 120.0, 200.0])
"""GeV, of the generated muon; softer ones are not corrected by such layouts."""

SHAPE = (len(ABS_ETA) - 1, len(N_LAYERS), len(PT) - 1)
"""|eta|, layers (the last bin: not known), pt."""

UNIT = 0.005
STRETCHED = np.linspace(-4.4, 4.4, 89)
"""Edges of asinh(residual / UNIT): fine in the core, wide in the tails."""

EDGES = UNIT * np.sinh(STRETCHED)
"""Edges of the residual pt / generated pt - 1."""


def observed(pairs: Pairs, unit: bool) -> dict[str, AnyArray]:
    """Return residuals of simulated muons, and sums of generated pt^2, by |eta|, layers, pt.

    Parameters
    ----------
    pairs : Pairs
        With generated muons; others are left out.
    unit : bool
        Whether all weights are 1.

    Returns
    -------
    dict of str to array
        Sums; empty without what they are made of.
    """
    n = int(np.prod(SHAPE))
    histogram, total = Histogram.empty(n, STRETCHED, unit), np.zeros(n)
    for muons in (pairs.leading, pairs.subleading):
        if muons.gen_pt is None:
            return {}
        hard = np.flatnonzero((muons.gen_pt >= PT[0]) & (muons.gen_pt < PT[-1]))
        own, weight = muons.take(hard), pairs.weight[hard]
        assert own.gen_pt is not None
        row, value = _placed(own, own.gen_pt)
        histogram.fill(row, value, weight)
        good = row >= 0
        total += np.bincount(row[good], (weight * own.gen_pt**2)[good], minlength=n)
    return {**histogram.sums("residual"), "residual/pt2": total}


def _placed(muons: Muons, gen_pt: Array) -> tuple[AnyArray, Array]:
    eta, pt = bins_of(np.abs(muons.eta), ABS_ETA), bins_of(gen_pt, PT)
    unknown = len(N_LAYERS) - 1
    layers: AnyArray = np.full(len(eta), unknown)
    if LAYERS in muons.extra:
        layers = bins_of(np.asarray(muons.extra[LAYERS], dtype=np.float64), N_LAYERS)
        layers = np.where(layers < 0, unknown, layers)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.arcsinh((muons.pt / gen_pt - 1) / UNIT)
    inside = (eta >= 0) & (pt >= 0) & (np.abs(value) < STRETCHED[-1])
    row = (eta * SHAPE[1] + layers) * SHAPE[2] + pt
    return np.where(inside, row, -1), np.where(inside, value, 0.0)
