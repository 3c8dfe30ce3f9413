"""Straight tracks through eight layers of cells, and the residuals of their hits.

A row of the table is a track: ``angle`` (rad), and of each layer i ``time_i`` (ns), ``wire_i``
(cm, the place of the wire) and ``side_i`` (+1 or -1, on which the track passes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drift_chamber.relations import basis, set_of

HEIGHT = 1.5 * np.arange(8)
"""Of the layers, cm."""

SHAPE = np.array([0, 0, 0, 0, 1, 1, 1, 1])
"""Of the cells of each layer."""

COLUMNS = ("angle", *(f"{word}_{i}" for word in ("time", "wire", "side") for i in range(8)))

_DESIGN = np.stack([np.ones(8), HEIGHT], axis=1)
_HAT = _DESIGN @ np.linalg.inv(_DESIGN.T @ _DESIGN) @ _DESIGN.T


@dataclass(frozen=True)
class Hits:
    """Hits of all tracks, flat: arrays of shape (n,), cm; ``basis`` (n, ORDER + 1).

    ``expected`` is the distance of the track, found without this hit, from its wire;
    ``residual`` is what is missing from it to the distance of the relation.
    """

    set: np.ndarray
    time: np.ndarray
    basis: np.ndarray
    expected: np.ndarray
    residual: np.ndarray


def hits(records, coefficients):
    """Return the hits of tracks, fitted with these relations."""
    angle = records["angle"][:, None]
    time, wire, side = (
        np.stack([records[f"{word}_{i}"] for i in range(8)], axis=1).astype(float)
        for word in ("time", "wire", "side")
    )
    shape = np.broadcast_to(SHAPE, time.shape)
    sets = set_of(shape, angle)
    t = basis(time, shape)
    distance = np.einsum("nij,nij->ni", t, coefficients[sets])
    x = wire + side * distance / np.cos(angle)
    # of a straight line fitted without the hit
    without = (x - x @ _HAT) / (1 - np.diag(_HAT))
    residual = -side * without * np.cos(angle)
    parts = (sets, time, t, distance + residual, residual)
    flat = (p.reshape(-1, *p.shape[2:]) for p in parts)
    return Hits(*flat)
