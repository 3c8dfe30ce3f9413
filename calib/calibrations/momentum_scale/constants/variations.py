"""Variations of the correction: few directions that carry what the data leave open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.types import Array, BoolArray

N_PT = 25


@dataclass(frozen=True)
class ScaleVariations:
    """Shifts of (A, e, M) by one standard deviation each.

    Parameters
    ----------
    shifts : array, shape (v, 3, n)
        Of A, e, M in each of n eta bins; independent of each other, the largest first.
    covered : float
        Their share of the variance of the correction.
    rms : float
        Root of that variance: error of the correction in a typical bin, relative to pt.
    """

    shifts: Array
    covered: float
    rms: float

    def __len__(self) -> int:
        return len(self.shifts)


def gradient(pt: Array, charge: Array) -> Array:
    """Return d(k_corr / k) / d(A, e, M).

    Parameters
    ----------
    pt : array, shape (...)
        In GeV.
    charge : array, shape (...)
        1 or -1.

    Returns
    -------
    array, shape (3, ...)
        Without unit, 1/GeV, GeV.
    """
    one = np.ones(np.broadcast(pt, charge).shape)
    return np.stack([one, -one / pt, charge * pt * one])


def variations(
    covariance: Array, usable: BoolArray, pt_range: Array, share: float, most: int
) -> ScaleVariations:
    """Return the directions that together carry a share of the variance of the correction.

    A has no unit, e and M have others, so that eigenvectors of their covariance as it stands
    would depend on the units. Here each parameter is measured by what it does to pt, averaged
    over the eta bins, both charges and log(pt) in the range of the muons.

    Parameters
    ----------
    covariance : array, shape (3 n, 3 n)
        Of all A, all e, all M; zero for eta bins without a value.
    usable : bool array, shape (n,)
        Eta bins with a value.
    pt_range : array, shape (2,)
        GeV.
    share : float
        Of the variance, at least; 1 for all of it.
    most : int
        Number of variations, at most.

    Returns
    -------
    ScaleVariations
        Of n eta bins.
    """
    n = len(usable)
    effect = effect_on_pt(pt_range) / max(int(usable.sum()), 1)
    turn = np.kron(np.linalg.cholesky(effect).T, np.eye(n))
    values, vectors = np.linalg.eigh(turn @ covariance @ turn.T)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = float(values.sum())
    if not total > 0:
        return ScaleVariations(np.zeros((0, 3, n)), 1.0, 0.0)
    known = int((values > 1e-12 * values[0]).sum())
    enough = int(np.searchsorted(np.cumsum(values) / total, share * (1 - 1e-12))) + 1
    number = min(enough, most, known)
    shifts = np.linalg.solve(turn, vectors[:, :number] * np.sqrt(values[:number]))
    # an eigenvector has no sign of its own: the largest effect is upwards
    largest = np.abs(vectors[:, :number]).argmax(0)
    shifts = shifts * np.sign(vectors[largest, np.arange(number)])
    covered = float(values[:number].sum()) / total
    made = np.where(usable, shifts.T.reshape(number, 3, n), 0.0)  # no rounding in the others
    return ScaleVariations(made, covered, float(np.sqrt(total)))


def effect_on_pt(pt_range: Array) -> Array:
    """Return the mean of gradient times gradient over log(pt) and both charges.

    Parameters
    ----------
    pt_range : array, shape (2,)
        In GeV.

    Returns
    -------
    array, shape (3, 3)
        Of A, e, M.
    """
    low, high = float(pt_range[0]), float(pt_range[1])
    pt = np.geomspace(low, max(high, 1.5 * low), N_PT)  # one pt alone cannot tell A from e
    found = np.zeros((3, 3))
    for charge in (1.0, -1.0):
        g = gradient(pt, np.full(N_PT, charge))
        found += 0.5 * (g @ g.T) / N_PT
    return found
