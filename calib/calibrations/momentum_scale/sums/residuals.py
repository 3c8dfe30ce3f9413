"""Simulated muons beside what was generated: the relative residual of pt where it was measured.

For layouts of others, which smear by |eta|, number of tracker layers and pt; the calibration
itself does not look at it. Filled once, in the first pass over the events.
"""

from __future__ import annotations

import numba
import numpy as np

from calib.events.binning import bin_of
from calib.events.pairs import Pairs
from calib.types import AnyArray

from .inner_loops import Histogram

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
        size = len(muons.pt)
        layers = muons.extra.get(LAYERS)
        row, value = np.empty(size, dtype=np.int64), np.empty(size)
        _place(
            muons.pt,
            muons.eta,
            muons.gen_pt,
            np.empty(0) if layers is None else np.asarray(layers, dtype=np.float64),
            pairs.weight,
            row,
            value,
            total,
        )
        histogram.fill(row, value, pairs.weight)
    return {**histogram.sums("residual"), "residual/pt2": total}


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(pt, eta, gen_pt, layers, weight, row, value, pt2):  # type: ignore[no-untyped-def]
    """Write row (-1: none) and stretched residual of each muon, and add up generated pt^2."""
    n_layers, n_pt = len(N_LAYERS), len(PT) - 1
    per_eta = (len(ABS_ETA) - 1) / ABS_ETA[-1]
    per_layer = (n_layers - 1) / (N_LAYERS[-1] - N_LAYERS[0])
    per_pt = n_pt / (PT[-1] - PT[0])
    for i in range(len(row)):
        row[i], value[i] = -1, 0.0
        p = bin_of(gen_pt[i], PT, per_pt)
        e = bin_of(abs(eta[i]), ABS_ETA, per_eta)
        if p < 0 or e < 0:
            continue
        stretched = np.arcsinh((pt[i] / gen_pt[i] - 1) / UNIT)
        if not abs(stretched) < STRETCHED[-1]:
            continue
        known = bin_of(layers[i], N_LAYERS, per_layer) if len(layers) else -1
        layer = known if known >= 0 else n_layers - 1
        row[i], value[i] = (e * n_layers + layer) * n_pt + p, stretched
        pt2[row[i]] += weight[i] * gen_pt[i] ** 2
