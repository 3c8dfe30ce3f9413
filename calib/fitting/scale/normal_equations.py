"""The linear algebra that chi2 and likelihood share: derivatives, normal matrix, what it fixes.

Every category touches at most ten of the parameters, so that the normal matrix is a sum of small
blocks that are added where they belong, in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from calib.errors import InputError
from calib.fitting.scale.model import KINDS, Means, mu2, sigma2
from calib.types import Array, BoolArray, IntArray

MIN_EIGENVALUE = 1e-5
"""Smaller eigenvalues of the scaled normal matrix count as no information: errors 300 times
those of one parameter alone."""
SHARE = 0.01
"""A parameter whose variance a left-out direction would raise by this share is not determined."""


@dataclass(frozen=True)
class Design:
    """What the parameters predict, and the derivatives that are not zero.

    Parameters
    ----------
    mu2, sigma2 : arrays, shape (n,)
    columns : int array, shape (n, q)
        The parameters that a category knows.
    rows : array, shape (n, m, q)
        Derivatives of mu2 (and, m = 2, sigma2) in them.
    """

    mu2: Array
    sigma2: Array
    columns: IntArray
    rows: Array


def names(n_eta: int, resolution: bool) -> tuple[str, ...]:
    """Return ``A_0 ...`` in the order of the vector.

    Parameters
    ----------
    n_eta : int
        Number of eta bins.
    resolution : bool
        Whether a2 and c2 follow A, e, M.

    Returns
    -------
    tuple of str, length 5 n_eta or 3 n_eta
        Kind by kind.
    """
    kinds = KINDS if resolution else KINDS[:3]
    return tuple(f"{kind}_{i}" for kind in kinds for i in range(n_eta))


def check_bins(means: Means, n_eta: int) -> None:
    """Refuse eta bins that are not there.

    Parameters
    ----------
    means : Means
        Of n categories.
    n_eta : int
        Number of eta bins.

    Raises
    ------
    InputError
    """
    for side in ("eta_plus", "eta_minus"):
        bins = getattr(means, side)
        if len(bins) and not (0 <= bins.min() and bins.max() < n_eta):
            raise InputError(
                f"{side}: found bins from {bins.min()} to {bins.max()}, expected 0 to"
                f" {n_eta - 1} (n_eta = {n_eta}); drop the categories outside the eta range"
            )


def design(means: Means, parameters: Array, n_eta: int, resolution: bool) -> Design:
    """Return predictions and derivatives at these parameters.

    Parameters
    ----------
    means : Means
        Of n categories.
    parameters : array, shape (5 n_eta,) or (3 n_eta,)
        Kind by kind: A, e (GeV), M (1/GeV), a2, c2 (1/GeV^2).
    n_eta : int
        Number of eta bins.
    resolution : bool
        Whether sigma2 is predicted too.

    Returns
    -------
    Design
        Of n categories; sigma2 is 0 without ``resolution``.
    """
    kinds = parameters.reshape(-1, n_eta)
    A, e, M = kinds[:3]
    i, j = means.eta_plus, means.eta_minus
    plus = 1 + A[i] - e[i] * means.k_plus + M[i] * means.inverse_k_plus
    minus = 1 + A[j] - e[j] * means.k_minus - M[j] * means.inverse_k_minus
    n, q = len(means), 10 if resolution else 6
    columns = np.empty((n, q), dtype=np.int64)
    rows = np.zeros((n, 2 if resolution else 1, q))
    for at, bins, k, pt, other in (
        (0, i, means.k_plus, means.inverse_k_plus, minus),
        (3, j, means.k_minus, -means.inverse_k_minus, plus),
    ):
        for kind in range(3):
            columns[:, at + kind] = bins + kind * n_eta
        rows[:, 0, at], rows[:, 0, at + 1], rows[:, 0, at + 2] = other, -k * other, pt * other
    if not resolution:
        return Design(plus * minus, np.zeros(n), columns, rows)
    for at, bins, pt2 in ((6, i, means.pt2_plus), (8, j, means.pt2_minus)):
        columns[:, at], columns[:, at + 1] = bins + 3 * n_eta, bins + 4 * n_eta
        rows[:, 1, at], rows[:, 1, at + 1] = 0.25, 0.25 * pt2
    return Design(mu2(means, A, e, M), sigma2(means, kinds[3], kinds[4]), columns, rows)


@dataclass(frozen=True)
class Normal:
    """Sum R^T W R, shape (p, p), sum R^T r, shape (p,), and the scale of the former.

    ``own``, shape (p,), is the diagonal before the two muons of a category that share a bin are
    added: what cancels between them is not information, whatever rounding leaves of it.
    """

    matrix: Array
    vector: Array
    own: Array

    def __add__(self, other: Normal) -> Normal:
        return Normal(self.matrix + other.matrix, self.vector + other.vector, self.own + other.own)


def assemble(columns: IntArray, rows: Array, weight: Array, right: Array, p: int) -> Normal:
    """Return the normal equations of p parameters.

    Parameters
    ----------
    columns : int array, shape (n, q)
        Parameters that a category knows.
    rows : array, shape (n, m, q)
        Derivatives of its m measured quantities.
    weight : array, shape (n, m, m)
        Inverse covariances.
    right : array, shape (n, m)
        Right sides: weight times what is measured minus model, or a gradient.
    p : int
        Number of parameters.

    Returns
    -------
    Normal
        Sums over the categories.
    """
    matrix, vector, own = np.zeros((p, p)), np.zeros(p), np.zeros(p)
    weight, right = np.ascontiguousarray(weight), np.ascontiguousarray(right)
    _scatter(columns, rows, weight, right, matrix, vector, own)
    return Normal(matrix, vector, own)


@numba.njit(
    "void(i8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,::1], f8[::1], f8[::1])", cache=True
)
def _scatter(columns, rows, weight, right, matrix, vector, own):  # type: ignore[no-untyped-def]
    """Add every category, one after the other: always the same sum."""
    n, m, q = rows.shape
    turned = np.empty((m, q))
    for c in range(n):
        for a in range(m):
            for i in range(q):
                x = 0.0
                for b in range(m):
                    x += weight[c, a, b] * rows[c, b, i]
                turned[a, i] = x
        for i in range(q):
            at = columns[c, i]
            y = 0.0
            for a in range(m):
                y += rows[c, a, i] * right[c, a]
            vector[at] += y
            for j in range(q):
                x = 0.0
                for a in range(m):
                    x += rows[c, a, i] * turned[a, j]
                matrix[at, columns[c, j]] += x
                if i == j:
                    own[at] += abs(x)  # a single category may bend the wrong way


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the normal matrix scaled by ``own``, and which of them count.

    Parameters
    ----------
    scale : array, shape (p,)
        One over the root of ``own``; 0 where no category knows the parameter.
    values : array, shape (m,)
        Ascending; m parameters are known to some category.
    vectors : array, shape (p, m)
    kept : bool array, shape (m,)
    """

    scale: Array
    values: Array
    vectors: Array
    kept: BoolArray

    @cached_property
    def n_kept(self) -> int:
        """Number of directions that the data fix."""
        return int(self.kept.sum())

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue, infinite where that is not positive."""
        if not len(self.values) or self.values[0] <= 0:
            return float("inf")
        return float(self.values[-1] / self.values[0])

    @property
    def left_out(self) -> Array:
        """Directions without information, shape (number, p), in units of 1 / scale."""
        return np.ascontiguousarray(self.vectors[:, ~self.kept].T)

    @cached_property
    def determined(self) -> BoolArray:
        """Which parameters stay as certain without the directions that are left out."""
        kept = self.vectors[:, self.kept] ** 2 / self.values[self.kept]
        # an eigenvalue of nothing is known to the rounding of the largest
        small = np.maximum(np.abs(self.values[~self.kept]), 1e-14)
        lost = (self.vectors[:, ~self.kept] ** 2 / small).sum(1)
        return np.asarray((self.scale > 0) & (lost <= SHARE * kept.sum(1)))

    def solve(self, vector: Array, damping: float = 0.0) -> Array:
        """Return the solution in the directions that count, zero in the others.

        Parameters
        ----------
        vector : array, shape (p,)
            Right side of the normal equations.
        damping : float
            Added to the eigenvalues.

        Returns
        -------
        array, shape (p,)
            In the units of the parameters.
        """
        v = self.vectors[:, self.kept]
        inner = v.T @ (self.scale * vector)
        return np.asarray(self.scale * (v @ (inner / (self.values[self.kept] + damping))))

    @cached_property
    def inverse(self) -> Array:
        """Pseudo-inverse, shape (p, p)."""
        v = self.scale[:, None] * self.vectors[:, self.kept]
        return np.asarray((v / self.values[self.kept]) @ v.T)


def spectrum(normal: Normal, min_eigenvalue: float) -> Spectrum:
    """Return what the normal equations fix.

    Parameters
    ----------
    normal : Normal
        Of p parameters.
    min_eigenvalue : float
        Directions up to it do not count; the scaled matrix has a diagonal of about 1.

    Returns
    -------
    Spectrum
        Of the directions that some category knows.
    """
    known = normal.own > 0
    scale = np.where(known, 1 / np.sqrt(np.where(known, normal.own, 1.0)), 0.0)
    at = np.flatnonzero(known)
    unit = (normal.matrix * scale[:, None] * scale)[np.ix_(at, at)]
    values, inner = np.linalg.eigh(0.5 * (unit + unit.T))
    vectors = np.zeros((len(scale), len(at)))
    vectors[at] = inner
    return Spectrum(scale, values, vectors, values > min_eigenvalue)


def masked(spectrum: Spectrum, values: Array, covariance: Array) -> tuple[Array, Array]:
    """Return values and covariance with NaN where a parameter is not determined.

    Parameters
    ----------
    spectrum : Spectrum
        Which parameters are determined.
    values : array, shape (p,)
        Of the parameters.
    covariance : array, shape (p, p)
        Made symmetric.

    Returns
    -------
    array, shape (p,)
        Values.
    array, shape (p, p)
        Covariance.
    """
    good = spectrum.determined
    return (
        np.where(good, values, np.nan),
        np.where(good[:, None] & good, 0.5 * (covariance + covariance.T), np.nan),
    )
