"""A, e, M and the resolution from one likelihood over all categories of all resonances.

The parameters of the eta bins are shared; fraction and slope of the background belong to each
category and are eliminated by the Schur complement of their Hessian, so that a Newton step of
25 000 parameters is one of some hundred. No fit of a single category stands in between: its bias
of a part of its error at some 1 000 events does not arise. Use `scale.chi2` for where to start
and for a residual per category that was fitted on its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from calib.errors import InputError
from calib.fitting.scale.category import Part, prepared, spread
from calib.fitting.scale.joint import EDM_GOAL, Fit, Point, System, first_background, walk
from calib.fitting.scale.model import KINDS, Extraction
from calib.fitting.scale.normal_equations import (
    MIN_EIGENVALUE,
    assemble,
    check_bins,
    design,
    masked,
    names,
)
from calib.fitting.scale.schur import Reduced
from calib.types import Array

__all__ = ["Part", "extract"]

log = logging.getLogger(__name__)

MAX_ITERATIONS = 60


def extract(
    parts: Sequence[Part],
    n_eta: int,
    start: Extraction,
    *,
    adjusted: bool = True,
    min_eigenvalue: float = MIN_EIGENVALUE,
    max_iterations: int = MAX_ITERATIONS,
) -> Extraction:
    """Return the parameters of all eta bins, 5 n_eta.

    In category c the kernel model has ln mu = log_mu + ln(mu2(A, e, M)) / 2 and
    (sigma/mu)^2 = v + sigma2(a2, c2): the parameters are differences to what made the reference.

    Parameters
    ----------
    parts : sequence of Part
        One per resonance.
    n_eta : int
    start : Extraction
        Where to start, from `scale.chi2`; parameters that it did not determine start at 0.
    adjusted : bool
        Whether the score is corrected for the backgrounds that were fitted to the same events
        (see `scale.category.adjustment`); without it a2 is high by a tenth of its error at
        1 000 events a category.
    min_eigenvalue : float
        Directions whose eigenvalue in the scaled reduced Hessian is below it are left out, and
        said.
    max_iterations : int

    Returns
    -------
    Extraction
        ``chi2`` is twice the NLL above the saturated model: with few entries a bin, not a chi2.
        The covariance contains weights, statistics of the templates and of the reference. Where
        ``converged`` is False the values are where the fit ended.

    Raises
    ------
    InputError
        If an eta bin is not in [0, n_eta), or a category has no events or template.
    """
    if not parts or not sum(len(p) for p in parts):
        raise InputError("parts: found no categories, expected some; loosen the selection")
    parts = [p for p in parts if len(p)]
    for part in parts:
        check_bins(part.means, n_eta)
    parameters = _first(start, n_eta)
    widths = [p.v + design(p.means, parameters, n_eta, True).sigma2 for p in parts]
    data = tuple(prepared(p, v) for p, v in zip(parts, widths, strict=True))
    fit = Fit(data, n_eta, min_eigenvalue, (None,) * len(data))
    begin = [first_background(d) for d in data]
    parameters, points, iterations = walk(fit, parameters, begin, max_iterations)
    if adjusted:
        fit, begin = fit.adjusted(points), [point.theta[:, 2:] for point in points]
        parameters, points, more = walk(fit, parameters, begin, max_iterations, edm=0.0)
        iterations += more
    system = fit.system(points)
    directions = fit.spectrum(system)
    edm = fit.edm(system, directions)
    extra, residuals, nll = _extra(fit, points, system)
    inverse = directions.inverse
    values, covariance = masked(directions, parameters, inverse + inverse @ extra @ inverse)
    log.debug("%d iterations, edm %.1e, condition %.1e", iterations, edm, directions.condition)
    return Extraction(
        names=names(n_eta, True),
        values=values,
        covariance=covariance,
        determined=directions.determined,
        chi2=2 * nll,
        ndf=_ndf(fit, points) - directions.n_kept,
        edm=edm,
        iterations=iterations,
        converged=edm < EDM_GOAL and all(p.exact for p in points),
        condition=directions.condition,
        undetermined=directions.left_out,
        residuals=residuals,
        method="likelihood",
    )


def _first(start: Extraction, n_eta: int) -> Array:
    found = np.zeros(len(KINDS) * n_eta)
    values = np.nan_to_num(start.values)
    if start.n_eta != n_eta or len(values) > len(found):
        raise InputError(
            f"start: found {start.n_eta} eta bins, expected {n_eta}; extract it with the same bins"
        )
    found[: len(values)] = values
    return found


def _extra(fit: Fit, points: Sequence[Point], system: System) -> tuple[Array, Array, float]:
    """Return the variance of the score beyond the Hessian (p, p), residuals, and the NLL."""
    p = len(KINDS) * fit.n_eta
    matrix, residuals, nll = np.zeros((p, p)), [], 0.0
    for d, point, r in zip(fit.data, points, system.parts, strict=True):
        found, bare = spread(d, point.theta)
        inner = np.matmul(r.project, np.matmul(found, r.project.transpose(0, 2, 1)))
        inner += r.hessian @ d.part.reference_covariance @ r.hessian
        none = np.zeros((len(d), 2))
        matrix += assemble(point.columns, point.rows, inner, none, p).matrix
        residuals.append(_residuals(r, inner))
        nll += bare
    return matrix, np.concatenate(residuals), nll


def _residuals(r: Reduced, extra: Array) -> Array:
    """Return how far each category's own lambda is from the model, in units of its error."""
    h = r.hessian
    det = h[:, 0, 0] * h[:, 1, 1] - h[:, 0, 1] ** 2
    good = (h[:, 0, 0] > 0) & (det > 0)
    first = np.stack([h[:, 1, 1], -h[:, 0, 1]], 1) / np.where(good, det, 1.0)[:, None]
    off = -(first * r.gradient).sum(1)
    variance = first[:, 0] + np.einsum("ni,nij,nj->n", first, extra, first)
    return np.where(good, off / np.sqrt(np.where(good, variance, 1.0)), np.nan)


def _ndf(fit: Fit, points: Sequence[Point]) -> int:
    return sum(
        d.counts.shape[1] * len(d) - len(d) - int((~p.held[:, 2:]).sum())
        for d, p in zip(fit.data, points, strict=True)
    )
