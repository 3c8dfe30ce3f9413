"""Which line shape do the data have? A fit of its variations over the whole window.

Radiation, photon exchange and a power of the mass change the tails most, outside the range in
which the width is fitted. Each category says how much of each variation its tails want (a score,
with width, mass and background free); together, and with what is known beforehand, they say it
well enough that a line shape that is a little wrong costs little: the widths are corrected for
what was found, and what is not known of it is their systematic error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calib.arrays import Array, BoolArray
from calib.profile import fractions

from .curves import Curves, Rows, between, floors_of, scale_of
from .peaks import Shapes


@dataclass(frozen=True)
class LineFit:
    """How much of each variation of the line shape the data have: 0 none, 1 all of it.

    Parameters
    ----------
    names : tuple of str
    values : array, shape (n,)
        With a Gaussian of standard deviation 1 as what was known before.
    covariance : array, shape (n, n)
    chi2, ndf : float, int
        Of the categories' scores around the values.
    """

    names: tuple[str, ...]
    values: Array
    covariance: Array
    chi2: float = 0.0
    ndf: int = 0

    @classmethod
    def unknown(cls, names: Sequence[str]) -> LineFit:
        """Return what was known before."""
        return cls(tuple(names), np.zeros(len(names)), np.eye(len(names)))

    @property
    def errors(self) -> Array:
        """Standard deviations, shape (n,)."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def root(self) -> Array:
        """Symmetric root of the covariance, (n, n): independent variations, near their names."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)

    @property
    def pulls(self) -> Array:
        """Distances from what was known before, in standard deviations, shape (n,).

        The values lean on that; without it they would be further away.
        """
        spread = 1.0 - np.diag(self.covariance)
        return np.asarray(self.values / np.sqrt(np.maximum(spread, 1e-3)))

    def shift(self, shifts: Mapping[str, Array]) -> Array:
        """Return what the values do to x of each row, shape (rows,)."""
        return np.asarray(sum(v * shifts[k] for k, v in zip(self.names, self.values, strict=True)))


def line_fit(wide: Rows, narrow: Rows, shapes: Shapes, found: Curves, used: BoolArray) -> LineFit:
    """Return how much of each variation of the line shape the data have.

    Parameters
    ----------
    wide, narrow : Rows
        The same events in the whole window, and in the range of the fit.
    shapes : Shapes
    found : Curves
        The fits in the narrow range.
    used : bool array, shape (rows,)
        Rows that have a say.
    """
    names = tuple(name for name in shapes.varied if name != "nominal")
    if not names or not used.any():
        return LineFit.unknown(names)
    scale = scale_of(narrow)
    expected, gradient, n_signal = _wide_model(
        wide, narrow, shapes, found, np.nan_to_num(found.best), scale
    )
    counts = np.maximum(wide.counts, 0.0) * scale[:, None]
    matrix = np.einsum("rai,rbi->rab", gradient, gradient / expected[:, None])
    k = np.arange(matrix.shape[1])
    matrix[:, k, k] += np.where(matrix[:, k, k] > 0, 1e-9 * matrix[:, k, k], 1.0)
    inverse = np.linalg.inv(matrix)
    residual = (counts - expected) / expected
    left = np.einsum("rai,ri->ra", gradient, residual)
    nominal = _normalised(shapes.varied["nominal"][:, wide.first : wide.last])
    change = np.stack(
        [_normalised(shapes.varied[k][:, wide.first : wide.last]) - nominal for k in names], axis=1
    )
    change = n_signal[:, None, None] * change
    both = np.einsum("rai,rvi->rva", gradient, change / expected[:, None])
    turned = np.einsum("rab,rvb->rva", inverse, both)
    score = np.einsum("rvi,ri->rv", change, residual) - np.einsum("rva,ra->rv", turned, left)
    information = np.einsum("rvi,rwi->rvw", change, change / expected[:, None])
    information -= np.einsum("rva,rwa->rvw", turned, both)
    return _together(names, score[used], information[used])


def _together(names: tuple[str, ...], score: Array, information: Array) -> LineFit:
    total = information.sum(axis=0) + np.eye(len(names))
    covariance = np.linalg.inv(total)
    values = covariance @ score.sum(axis=0)
    left = score - information @ values
    chi2 = float(np.einsum("rv,rvw,rw->", left, np.linalg.pinv(information), left))
    ndf = (len(score) - 1) * len(names)
    scale = max(1.0, chi2 / ndf) if ndf > 0 else 1.0
    # what was known before has no scatter
    covariance = np.linalg.inv(information.sum(axis=0) / scale + np.eye(len(names)))
    return LineFit(names, values, np.asarray(covariance), chi2, ndf)


def _normalised(template: Array) -> Array:
    total = template.sum(axis=1)
    return np.asarray(template / np.where(total > 0, total, np.inf)[:, None])


def _wide_model(
    wide: Rows, narrow: Rows, shapes: Shapes, found: Curves, at: Array, scale: Array
) -> tuple[Array, Array, Array]:
    """Return the fits continued over the whole window: counts, derivatives, number of signal.

    The derivatives are by number of signal and background, x, mu and slope.
    """
    mu, share, slope = found.nuisances
    n = np.maximum(narrow.counts.sum(1), 0.0) * scale
    span = np.ptp(wide.window.edges) / np.ptp(narrow.window.edges)
    floors = floors_of(shapes)
    nothing = np.full_like(share, 1e-9)

    def shape(x: Array) -> tuple[Array, Array, Array]:
        nuisances = np.stack([mu, nothing, slope * span])
        return fractions(between(shapes, x), floors, nuisances, wide.window)

    inside = slice(narrow.first - wide.first, narrow.last - wide.first)
    _, gradient, signal = shape(at)
    flat = gradient[:, 1] + signal
    falls = gradient[:, 2] / nothing[:, None]
    n_signal = (1 - share) * n / np.maximum(signal[:, inside].sum(1), 1e-9)
    n_flat = share * n / np.maximum(flat[:, inside].sum(1), 1e-9)
    step = shapes.x[:, 1] - shapes.x[:, 0]
    middle = np.clip(at, shapes.x[:, 0] + step, shapes.x[:, -1] - step)
    by_x = (shape(middle + step)[2] - shape(middle - step)[2]) / (2 * step)[:, None]
    some = (share > 0)[:, None]
    derivatives = np.stack(
        [
            signal,
            np.where(some, flat, 0.0),
            n_signal[:, None] * by_x,
            n_signal[:, None] * gradient[:, 0],
            np.where(some, n_flat[:, None] * falls, 0.0),
        ],
        axis=1,
    )
    expected = n_signal[:, None] * signal + n_flat[:, None] * flat
    return np.maximum(expected, 1e-9), derivatives, n_signal
