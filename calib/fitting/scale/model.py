"""The muon's scale and resolution, and what they do to the mass of a pair.

    k_true / k = 1 + A - e k + q M / k                              (scale, per muon)
    mu^2 = (m_reco / m_gen)^2 = s_plus s_minus                      (scale, per pair)
    (sigma_k / k)^2 = a^2 + c^2 / k^2                               (resolution, per muon)
    sigma_m^2 / m^2 = 1/4 (res_plus + res_minus)                    (resolution, per pair)

with k = 1/pt in 1/GeV. A has no unit, e is in GeV, M in 1/GeV; a has no unit, c is in 1/GeV. The
parameters of the resolution are ``a2 = a^2`` and ``c2 = c^2`` here: the width is linear in them,
and a fit may find them below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.types import AnyArray, Array, IntArray

KINDS = ("A", "e", "M", "a2", "c2")
"""Kinds of parameters, in the order of the vector: all A, all e, all M, all a2, all c2."""


@dataclass(frozen=True)
class Means:
    """Where a category's muons are: eta bins, and means over its entries; arrays (n,).

    ``k`` is the mean of 1/pt in 1/GeV, ``inverse_k`` the mean of pt in GeV (not 1/k),
    ``pt2`` the mean of pt^2 in GeV^2.
    """

    eta_plus: IntArray
    eta_minus: IntArray
    k_plus: Array
    k_minus: Array
    inverse_k_plus: Array
    inverse_k_minus: Array
    pt2_plus: Array
    pt2_minus: Array

    def __len__(self) -> int:
        return len(self.eta_plus)


@dataclass(frozen=True)
class Extraction:
    """Parameters with everything that is known about them.

    Parameters
    ----------
    names : tuple of str, length p
        ``A_0 ... e_0 ... M_0 ...`` and, where the resolution is fitted, ``a2_0 ... c2_0 ...``.
    values : array, shape (p,)
        Not determined ones are NaN.
    covariance : array, shape (p, p)
        Rows and columns of parameters that are not determined are NaN.
    determined : bool array, shape (p,)
        False where the data do not fix the parameter: no entries, or a direction without
        information (its eigenvector is in ``undetermined``).
    chi2, ndf, edm : float, int, float
        ``chi2`` is twice the log likelihood ratio against the saturated model for a likelihood.
    iterations : int
    converged : bool
    condition : float
        Largest over smallest eigenvalue of the normal matrix, scaled to a diagonal of 1 (each
        muon counted on its own, see `calib.fitting.scale.normal_equations.Normal`).
    undetermined : array, shape (m, p)
        Directions (in units of the parameters' own scales) that were left out.
    residuals : array, shape (n,)
        Of mu^2 per category, data minus model, in units of its error; NaN where not used.
    method : str
    """

    names: tuple[str, ...]
    values: Array
    covariance: Array
    determined: AnyArray
    chi2: float
    ndf: int
    edm: float
    iterations: int
    converged: bool
    condition: float
    undetermined: Array
    residuals: Array
    method: str

    @property
    def errors(self) -> Array:
        """Standard deviations, NaN where not determined."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance)))

    @property
    def n_eta(self) -> int:
        """Number of eta bins."""
        return sum(name.startswith("A_") for name in self.names)

    def kind(self, name: str) -> Array:
        """Return the values of one kind, shape (n_eta,)."""
        return self.values[self._rows(name)]

    def kind_err(self, name: str) -> Array:
        """Return the errors of one kind, shape (n_eta,)."""
        return self.errors[self._rows(name)]

    def _rows(self, name: str) -> slice:
        n = self.n_eta
        at = KINDS.index(name) * n
        return slice(at, at + n)

    @property
    def A(self) -> Array:
        """Magnetic field, no unit."""
        return self.kind("A")

    @property
    def e(self) -> Array:
        """Energy loss, GeV."""
        return self.kind("e")

    @property
    def M(self) -> Array:
        """Sagitta, 1/GeV."""
        return self.kind("M")


def corrected(k: Array, q: AnyArray, A: Array, e: Array, M: Array) -> Array:
    """Return the corrected k of muons, in 1/GeV: (1 + A - e k) k + q M.

    Parameters
    ----------
    k : array, shape (n,)
        1/pt, in 1/GeV.
    q : array, shape (n,)
        Charge, 1 or -1.
    A : array, shape (n,)
        Magnetic field, without unit.
    e : array, shape (n,)
        Energy loss, in GeV.
    M : array, shape (n,)
        Sagitta, in 1/GeV.

    Returns
    -------
    array, shape (n,)
        In 1/GeV.
    """
    return np.asarray((1 + A - e * k) * k + q * M)


def composed(
    first: tuple[Array, Array, Array], then: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Return (A, e, M) that do at once what two corrections do one after the other.

    Exact but for products of the second's e with the first's e or M (below 1e-7 in k for the
    sizes that occur after the first step); `corrected` twice is exact.

    Parameters
    ----------
    first, then : tuple of array, shape (n_eta,)
        (A, e, M) each: without unit, in GeV, in 1/GeV.

    Returns
    -------
    tuple of array, shape (n_eta,)
        (A, e, M) of both.
    """
    A1, e1, M1 = first
    A2, e2, M2 = then
    return (1 + A1) * (1 + A2) - 1, (1 + A2) * e1 + e2 * (1 + A1) ** 2, (1 + A2) * M1 + M2


def mu2(means: Means, A: Array, e: Array, M: Array) -> Array:
    """Return (m_reco/m_gen)^2 of each category.

    Parameters
    ----------
    means : Means
        Of n categories.
    A : array, shape (n_eta,)
        Magnetic field, without unit.
    e : array, shape (n_eta,)
        Energy loss, in GeV.
    M : array, shape (n_eta,)
        Sagitta, in 1/GeV.

    Returns
    -------
    array, shape (n,)
        Without unit.
    """
    i, j = means.eta_plus, means.eta_minus
    plus = 1 + A[i] - e[i] * means.k_plus + M[i] * means.inverse_k_plus
    minus = 1 + A[j] - e[j] * means.k_minus - M[j] * means.inverse_k_minus
    return np.asarray(plus * minus)


def sigma2(means: Means, a2: Array, c2: Array) -> Array:
    """Return (sigma_m/m)^2 of each category.

    Parameters
    ----------
    means : Means
        Of n categories.
    a2 : array, shape (n_eta,)
        a^2, without unit.
    c2 : array, shape (n_eta,)
        c^2, in 1/GeV^2.

    Returns
    -------
    array, shape (n,)
        Relative, without unit.
    """
    i, j = means.eta_plus, means.eta_minus
    plus = a2[i] + c2[i] * means.pt2_plus
    minus = a2[j] + c2[j] * means.pt2_minus
    return np.asarray(0.25 * (plus + minus))
