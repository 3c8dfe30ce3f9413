"""Space-time relations: drift time to distance, Chebyshev polynomials, one set per shape and angle.

d(t) = sum_j c_j T_j(u), with u = 2 t / t_max - 1 and t_max the longest drift time of the shape.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.polynomial.chebyshev import chebvander

ORDER = 5
"""Of the polynomials."""

HALF_WIDTH = np.array([0.6, 0.8])
"""Of a cell of each shape, cm."""

LONGEST = np.array([400.0, 520.0])
"""Drift time in a cell of each shape, ns."""

N_SHAPES = len(HALF_WIDTH)
ANGLES = np.linspace(-0.48, 0.48, 7)
"""Edges of the bins of the angle of incidence, rad."""

N_SETS = N_SHAPES * (len(ANGLES) - 1)


def set_of(shape, angle):
    """Return the set of each hit: its shape and the bin of its angle."""
    at = np.clip(np.searchsorted(ANGLES, angle, side="right") - 1, 0, len(ANGLES) - 2)
    return shape * (len(ANGLES) - 1) + at


def names():
    """Return the name of each set: ``small_a0`` ..."""
    return [f"{word}_a{i}" for word in ("small", "large") for i in range(len(ANGLES) - 1)]


def basis(time, shape):
    """Return T_j(u) of each hit, shape (n, ORDER + 1)."""
    return chebvander(np.clip(2 * time / LONGEST[shape] - 1, -1.0, 1.0), ORDER)


def linear():
    """Return the coefficients of a constant drift velocity, shape (N_SETS, ORDER + 1)."""
    c = np.zeros((N_SHAPES, len(ANGLES) - 1, ORDER + 1))
    c[:, :, 0] = c[:, :, 1] = HALF_WIDTH[:, None] / 2
    return c.reshape(N_SETS, ORDER + 1)


def powers(coefficients, shape):
    """Return the coefficients of 1, t, t^2 ... (t in ns) of one set."""
    relation = Chebyshev(coefficients, domain=[0.0, LONGEST[shape]])
    found = relation.convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef
    return np.pad(found, (0, ORDER + 1 - len(found)))
