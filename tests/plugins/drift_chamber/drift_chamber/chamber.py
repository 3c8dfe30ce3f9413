"""Straight tracks through eight layers of drift cells, and the relations of time and distance.

d(t) = sum_j c_j T_j(u), u = 2 t / longest - 1, a set of c for each shape of a cell and bin of the
angle. A row of the table is a track: ``angle`` (rad), and of each layer i ``time_i`` (ns),
``wire_i`` (cm, the place of the wire) and ``side_i`` (+1 or -1, on which the track passes).
"""

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from calib.plugin import Axis, Categories

ORDER, HALF_WIDTH = 5, np.array([0.6, 0.8])  # of a cell of each shape, cm
LONGEST = np.array([400.0, 520.0])  # drift time in a cell of each shape, ns
HEIGHT, SHAPE = 1.5 * np.arange(8), np.repeat([0, 1], 4)  # of the layers, cm; of their cells
ANGLE = Axis("angle", tuple(np.linspace(-0.48, 0.48, 7)), tuple(f"a{i}" for i in range(6)), "rad")
SETS = Categories.of([Axis("shape", (0, 1, 2), ("small", "large"), whole=True), ANGLE])
COLUMNS = ("angle", *(f"{word}_{i}" for word in ("time", "wire", "side") for i in range(8)))
_DESIGN = np.stack([np.ones(8), HEIGHT], axis=1)
_HAT = _DESIGN @ np.linalg.inv(_DESIGN.T @ _DESIGN) @ _DESIGN.T


def basis(time, shape):
    """Return T_j(u) of each hit, shape (..., ORDER + 1)."""
    return chebvander(np.clip(2 * time / LONGEST[shape] - 1, -1.0, 1.0), ORDER)


def linear():
    """Return the coefficients of a constant drift velocity, shape (sets, ORDER + 1)."""
    half = np.repeat(HALF_WIDTH, 6)[:, None] / 2
    return np.hstack([half, half, np.zeros((len(SETS), ORDER - 1))])


def hits(records, coefficients):
    """Return set, basis, distance of a track that is fitted without the hit, and residual; cm."""
    angle = records["angle"][:, None]
    time, wire, side = (
        np.stack([records[f"{word}_{i}"] for i in range(8)], axis=1)
        for word in ("time", "wire", "side")
    )
    sets = SHAPE * len(ANGLE) + ANGLE.index(angle)
    t = basis(time, np.broadcast_to(SHAPE, time.shape))
    distance = np.einsum("nij,nij->ni", t, coefficients[sets])
    x = wire + side * distance / np.cos(angle)
    residual = -side * (x - x @ _HAT) / (1 - np.diag(_HAT)) * np.cos(angle)
    return [p.reshape(-1, *p.shape[2:]) for p in (sets, t, distance + residual, residual)]
