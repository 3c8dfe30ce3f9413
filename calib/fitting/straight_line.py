"""A straight line through measured variances, y = A + B u, with errors that follow the line.

For widths of which the relative error is known: a width that has come out small has a small error
as well, and with errors as measured it would pull the line down (by half of its error, with 4 % a
point). So the error of each point is its relative one times the line itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.types import Array

ROUNDS = 20


@dataclass(frozen=True)
class Line:
    """A and B with their covariance, shape (2, 2); NaN where they are not determined."""

    values: Array
    covariance: Array
    chi2: float
    ndf: int

    def variance(self, u: Array) -> Array:
        """Return the variance of y at u.

        Parameters
        ----------
        u : array, shape (n,)
            Where.

        Returns
        -------
        array, shape (n,)
            In the unit of y, squared.
        """
        c = self.covariance
        return np.asarray(c[0, 0] + 2 * c[0, 1] * u + c[1, 1] * u**2)


def straight_line(u: Array, y: Array, relative: Array) -> Line:
    """Return the line of least chi2.

    Parameters
    ----------
    u, y : array, shape (n,)
        The points.
    relative : array, shape (n,)
        Relative standard deviation of each y.

    Returns
    -------
    Line
        A and B; NaN where the points do not determine them.
    """
    nothing = Line(np.full(2, np.nan), np.full((2, 2), np.nan), float("nan"), len(u) - 2)
    if len(u) < 2 or not np.ptp(u) > 0:
        return nothing
    matrix = np.stack([np.ones_like(u), u], axis=1)
    expected = y
    for _ in range(ROUNDS):
        weight = 1 / (relative * expected) ** 2
        covariance = np.linalg.inv(matrix.T @ (weight[:, None] * matrix))
        values = covariance @ (matrix.T @ (weight * y))
        before, expected = expected, np.maximum(matrix @ values, 1e-3 * y)
        if np.all(np.abs(expected - before) < 1e-10 * expected):
            break
    pull = (y - matrix @ values) / (relative * expected)
    return Line(np.asarray(values), np.asarray(covariance), float(pull @ pull), len(u) - 2)
