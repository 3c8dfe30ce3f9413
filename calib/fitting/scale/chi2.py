"""A, e, M and the resolution from mu^2 and sigma^2 of every category, by least squares.

Fast (a few iterations of a matrix of some hundred rows) and transparent: each category has a
residual. The errors come from the same fits as the values: a category that fluctuates to a narrow
peak gets a large weight, and at some 1 000 events a category a2 comes out too small by nearly its
error, A is off by a tenth of it. ``errors="smoothed"`` takes most of that away;
`calib.fitting.scale.likelihood` has no such step at all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calib.errors import InputError
from calib.fitting.scale.model import Extraction, Means
from calib.fitting.scale.normal_equations import (
    MIN_EIGENVALUE,
    Normal,
    Spectrum,
    assemble,
    check_bins,
    design,
    masked,
    names,
    spectrum,
)
from calib.types import Array, BoolArray

log = logging.getLogger(__name__)

EDM_GOAL = 1e-8
MOST = (0.02, 0.5, 2e-3, 1e-2, 1e-4)
"""Longest step of A, e, M, a2, c2: beyond it the product of two muons is no straight line."""
MAX_ITERATIONS = 20
SMOOTHINGS = 2
"""Fits with smoothed errors; the second moves by less than a hundredth of an error."""


@dataclass(frozen=True)
class Minimum:
    """Where Gauss-Newton ended; ``difference`` is data minus model, shape (n, m)."""

    parameters: Array
    directions: Spectrum
    chi2: float
    edm: float
    iterations: int
    difference: Array
    used: BoolArray


def extract(
    means: Means,
    mu2: Array,
    sigma2: Array,
    covariance: Array,
    *,
    n_eta: int,
    resolution: bool = True,
    min_eigenvalue: float = MIN_EIGENVALUE,
    errors: Literal["fitted", "smoothed"] = "fitted",
    width2: Array | None = None,
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
        Directions whose eigenvalue in the scaled normal matrix is below it are left out, and
        said.
    errors : {"fitted", "smoothed"}
        ``smoothed`` scales each covariance from the width that the category was fitted with to
        the one that the parameters predict, which does not fluctuate. It needs ``resolution``.
    width2 : array, shape (n,), optional
        (sigma_m / m)^2 of the data, where sigma2 is a difference.

    Returns
    -------
    Extraction
        Categories with values that are not finite, or a covariance that is not positive
        definite, are not used: their residual is NaN.

    Raises
    ------
    InputError
        If an eta bin is not in [0, n_eta), or the errors cannot be smoothed.
    """
    check_bins(means, n_eta)
    if errors == "smoothed" and not resolution:
        raise InputError(
            'errors: found "smoothed" with resolution=False; expected "fitted", or fit the'
            " resolution too: it predicts the errors"
        )
    m = 2 if resolution else 1
    measured = np.stack([mu2, sigma2], 1)[:, :m]
    given = cov = covariance[:, :m, :m]
    start = np.zeros((5 if resolution else 3) * n_eta)
    found = _fit(means, measured, cov, start, n_eta, min_eigenvalue)
    iterations = found.iterations
    for _ in range(SMOOTHINGS if errors == "smoothed" else 0):
        width = sigma2 if width2 is None else width2
        predicted = width - found.difference[:, 1]
        cov = _smoothed(given, width, predicted)
        found = _fit(means, measured, cov, found.parameters, n_eta, min_eigenvalue)
        iterations += found.iterations
    directions, used = found.directions, found.used
    values, inverse = masked(directions, found.parameters, directions.inverse)
    err = np.sqrt(np.where(used, cov[:, 0, 0], np.nan))
    log.debug("chi2 %.1f from %d of %d categories", found.chi2, used.sum(), len(used))
    return Extraction(
        names=names(n_eta, resolution),
        values=values,
        covariance=inverse,
        determined=directions.determined,
        chi2=found.chi2,
        ndf=m * int(used.sum()) - directions.n_kept,
        edm=found.edm,
        iterations=iterations,
        converged=bool(used.any() and found.edm < EDM_GOAL),
        condition=directions.condition,
        undetermined=directions.left_out,
        residuals=found.difference[:, 0] / err,
        method="chi2",
    )


def _fit(
    means: Means,
    measured: Array,
    covariance: Array,
    parameters: Array,
    n_eta: int,
    min_eigenvalue: float,
) -> Minimum:
    weight, used = _weights(measured, covariance)
    measured = np.where(used[:, None], measured, 0.0)
    directions, edm, number = None, np.inf, 0
    most = np.repeat(MOST, n_eta)[: len(parameters)]
    while number < MAX_ITERATIONS:
        number += 1
        normal, _ = _normal(means, parameters, measured, weight, n_eta)
        if directions is None:  # the product bends by a thousandth: steps may keep it
            directions = spectrum(normal, min_eigenvalue)
        step = directions.solve(normal.vector)
        edm = 0.5 * float(normal.vector @ step)
        reach = float(np.max(np.abs(step) / most))
        parameters = parameters + step / max(reach, 1.0)
        if reach > 0.1:  # along a weak direction it bends by more
            directions = None
        if edm < EDM_GOAL:
            break
    normal, difference = _normal(means, parameters, measured, weight, n_eta)
    directions = spectrum(normal, min_eigenvalue)
    edm = 0.5 * float(normal.vector @ directions.solve(normal.vector))
    chi2 = float(np.einsum("ni,nij,nj->", difference, weight, difference))
    return Minimum(parameters, directions, chi2, edm, number, difference, used)


def _smoothed(covariance: Array, width: Array, predicted: Array) -> Array:
    """Return covariances scaled to the predicted width: errors of sigma and of sigma^2."""
    good = np.isfinite(width) & (width > 0) & (predicted > 0)
    ratio = np.where(good, predicted / np.where(good, width, 1.0), 1.0)
    size = np.stack([np.sqrt(ratio), ratio], 1)
    return np.asarray(covariance * size[:, :, None] * size[:, None, :])


def _normal(
    means: Means, parameters: Array, measured: Array, weight: Array, n_eta: int
) -> tuple[Normal, Array]:
    """Return the normal equations, and data minus model (n, m)."""
    here = design(means, parameters, n_eta, measured.shape[1] == 2)
    model = np.stack([here.mu2, here.sigma2], 1)[:, : measured.shape[1]]
    difference = measured - model
    right = np.matmul(weight, difference[:, :, None])[:, :, 0]
    return assemble(here.columns, here.rows, weight, right, len(parameters)), difference


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
