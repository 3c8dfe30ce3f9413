"""A, e, M and the resolution from mu^2 and sigma^2 of every category, by least squares.

Fast (a few iterations of a matrix of some hundred rows) and transparent: each category has a
residual. Its weights come from fits, so that at some 1 000 events a category it is biased by a
part of its error; `calib.scale.likelihood` is not.
"""

from __future__ import annotations

import logging

import numpy as np

from calib.arrays import Array, BoolArray
from calib.scale.model import Extraction, Means
from calib.scale.normal import MIN_EIGENVALUE, assemble, check_bins, design, masked, names, spectrum

log = logging.getLogger(__name__)

EDM_GOAL = 1e-8
MAX_ITERATIONS = 20


def extract(
    means: Means,
    mu2: Array,
    sigma2: Array,
    covariance: Array,
    *,
    n_eta: int,
    resolution: bool = True,
    min_eigenvalue: float = MIN_EIGENVALUE,
) -> Extraction:
    """Return the parameters of all eta bins.

    Parameters
    ----------
    means : Means
        Of n categories.
    mu2 : array, shape (n,)
        (m_reco / m_gen)^2, or data over reference.
    sigma2 : array, shape (n,)
        (sigma_m / m)^2, or data minus reference: then a2 and c2 are differences.
    covariance : array, shape (n, 2, 2)
        Of (mu2, sigma2).
    n_eta : int
    resolution : bool
        Whether a2 and c2 are fitted; without them sigma2 is not looked at.
    min_eigenvalue : float
        Directions whose eigenvalue in the normal matrix with unit diagonal is below it are left
        out, and said.

    Returns
    -------
    Extraction
        Categories with values that are not finite, or a covariance that is not positive
        definite, are not used: their residual is NaN.

    Raises
    ------
    InputError
        If an eta bin is not in [0, n_eta).
    """
    check_bins(means, n_eta)
    m = 2 if resolution else 1
    measured = np.stack([mu2, sigma2], 1)[:, :m]
    weight, used = _weights(measured, covariance[:, :m, :m])
    measured = np.where(used[:, None], measured, 0.0)
    parameters = np.zeros((5 if resolution else 3) * n_eta)
    directions, edm, number = None, np.inf, 0
    while number < MAX_ITERATIONS:
        number += 1
        matrix, vector, _ = _normal(means, parameters, measured, weight, n_eta, resolution)
        if directions is None:  # the product bends by a thousandth: steps may keep it
            directions = spectrum(matrix, min_eigenvalue)
        step = directions.solve(vector)
        edm = 0.5 * float(vector @ step)
        parameters = parameters + step
        if edm < EDM_GOAL:
            break
    matrix, vector, difference = _normal(means, parameters, measured, weight, n_eta, resolution)
    directions = spectrum(matrix, min_eigenvalue)
    edm = 0.5 * float(vector @ directions.solve(vector))
    values, inverse = masked(directions, parameters, directions.inverse)
    chi2 = float(np.einsum("ni,nij,nj->", difference, weight, difference))
    with np.errstate(invalid="ignore"):
        residuals = np.where(used, difference[:, 0] / np.sqrt(covariance[:, 0, 0]), np.nan)
    log.debug("chi2 %.1f from %d of %d categories, edm %.1e", chi2, used.sum(), len(used), edm)
    return Extraction(
        names=names(n_eta, resolution),
        values=values,
        covariance=inverse,
        determined=directions.determined,
        chi2=chi2,
        ndf=m * int(used.sum()) - directions.n_kept,
        edm=edm,
        iterations=number,
        converged=bool(used.any() and edm < EDM_GOAL),
        condition=directions.condition,
        undetermined=directions.left_out,
        residuals=residuals,
        method="chi2",
    )


def _normal(
    means: Means, parameters: Array, measured: Array, weight: Array, n_eta: int, resolution: bool
) -> tuple[Array, Array, Array]:
    """Return normal matrix, right-hand side and data minus model (n, m)."""
    here = design(means, parameters, n_eta, resolution)
    model = np.stack([here.mu2, here.sigma2], 1)[:, : measured.shape[1]]
    difference = measured - model
    right = np.matmul(weight, difference[:, :, None])[:, :, 0]
    matrix, vector = assemble(here.columns, here.rows, weight, right, len(parameters))
    return matrix, vector, difference


def _weights(measured: Array, covariance: Array) -> tuple[Array, BoolArray]:
    """Return inverse covariances, zero where a category is not used, and which are used."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        used = np.isfinite(measured).all(1) & np.isfinite(covariance).all((1, 2))
        used &= covariance[:, 0, 0] > 0
        if covariance.shape[1] == 1:
            inverse = 1 / covariance
        else:
            a, b, d = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
            det = a * d - b * b
            used &= det > 1e-12 * a * d
            inverse = np.stack([d, -b, -b, a], 1).reshape(-1, 2, 2) / det[:, None, None]
    return np.where(used[:, None, None], inverse, 0.0), used
