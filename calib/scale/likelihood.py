"""A, e, M and the resolution from one likelihood over all categories of all resonances.

The parameters of the eta bins are shared; fraction and slope of the background belong to each
category and are eliminated by the Schur complement of their Hessian, so that a Newton step of
25 000 parameters is one of some hundred. No fit of a single category stands in between: its bias
of a part of its error at some 1 000 events does not arise. Use `calib.scale.chi2` for where to
start and for a residual per category that was fitted on its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.arrays import Array, BoolArray, IntArray
from calib.errors import InputError
from calib.scale.model import KINDS, Extraction
from calib.scale.normal import (
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
from calib.scale.part import Part, Prepared, evaluate, outward, prepared, spread
from calib.scale.schur import Reduced, reduced

__all__ = ["Part", "extract"]

log = logging.getLogger(__name__)

EDM_GOAL = 1e-5
"""Of the shared parameters and all backgrounds together, in NLL."""
EDM_EXACT = 2.0
"""Per category; further away the expected information makes the steps."""
SETTLED = 0.5
"""Mean EDM of the backgrounds below which the shared parameters move too."""
ROSE = 1e-3
"""A category whose NLL is above what was expected by more takes shorter steps."""
MAX_ITERATIONS = 60


@dataclass(frozen=True)
class Point:
    """The likelihood of one part at some parameters, per category."""

    theta: Array
    columns: IntArray
    rows: Array
    nll: Array
    gradient: Array
    hessian: Array
    held: BoolArray
    exact: bool


@dataclass(frozen=True)
class System:
    """The normal equations of the shared parameters, with the backgrounds eliminated."""

    normal: Normal
    parts: tuple[Reduced, ...]

    @property
    def local_edm(self) -> float:
        """Distance of all backgrounds from their minima, in NLL."""
        return float(sum(r.edm.sum() for r in self.parts))


def extract(
    parts: Sequence[Part],
    n_eta: int,
    start: Extraction,
    *,
    min_eigenvalue: float = MIN_EIGENVALUE,
    max_iterations: int = MAX_ITERATIONS,
) -> Extraction:
    """Return the parameters of all eta bins: 5 n_eta, with a2 and c2 as the means' reference.

    In category c the kernel model has ln mu = log_mu + ln(mu2(A, e, M)) / 2 and
    (sigma/mu)^2 = v + sigma2(a2, c2): the parameters are differences to what made the reference.

    Parameters
    ----------
    parts : sequence of Part
        One per resonance.
    n_eta : int
    start : Extraction
        Where to start, from `calib.scale.chi2`; parameters that it did not determine start at 0.
    min_eigenvalue : float
        Directions whose eigenvalue in the scaled reduced Hessian is below it are left out, and
        said.
    max_iterations : int

    Returns
    -------
    Extraction
        ``chi2`` is twice the NLL above the saturated model: with some entries a bin, not a chi2.
        The covariance contains weights, statistics of the templates and of the reference. Where
        ``converged`` is False the values are where the fit ended.

    Raises
    ------
    InputError
        If an eta bin is not in [0, n_eta), or a category has no events or template.
    """
    if not parts or not sum(len(p) for p in parts):
        raise InputError("parts: found no categories, expected some; loosen the selection")
    for part in parts:
        check_bins(part.means, n_eta)
    parameters = _first(start, n_eta)
    data = [prepared(p, p.v + design(p.means, parameters, n_eta, True).sigma2) for p in parts]
    parameters, points, number = _walk(data, parameters, n_eta, min_eigenvalue, max_iterations)
    system = _system(points, [np.zeros(len(p.nll)) for p in points], len(parameters))
    directions = spectrum(system.normal, min_eigenvalue)
    edm = _edm(system, directions)
    extra, residuals, constraint = _extra(data, points, system, len(parameters))
    inverse = directions.inverse
    values, covariance = masked(directions, parameters, inverse + inverse @ extra @ inverse)
    log.debug("%d iterations, edm %.1e, condition %.1e", number, edm, directions.condition)
    return Extraction(
        names=names(n_eta, True),
        values=values,
        covariance=covariance,
        determined=directions.determined,
        chi2=2 * (_total(points) - constraint),
        ndf=_ndf(data, points) - directions.n_kept,
        edm=edm,
        iterations=number,
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


def _walk(
    data: list[Prepared], parameters: Array, n_eta: int, min_eigenvalue: float, most: int
) -> tuple[Array, list[Point], int]:
    """Return parameters, the likelihood there, and the number of iterations."""
    p = len(parameters)
    backgrounds = [_background(d) for d in data]
    dampings = [np.zeros(len(d)) for d in data]
    expected = [np.full(len(d), np.inf) for d in data]
    damping, edm, number = 0.0, np.inf, 0
    points: list[Point] = []
    trial = parameters
    categories = sum(len(d) for d in data)
    while number < most:
        number += 1
        near = edm < EDM_EXACT * categories
        there = [_look(d, trial, b, n_eta, near) for d, b in zip(data, backgrounds, strict=True)]
        if not points or _total(there) <= _total(points) + 1e-10 * (1 + abs(_total(points))):
            parameters, points, damping = trial, there, 0.1 * damping if damping > 1e-6 else 0.0
        else:
            damping = max(10 * damping, 1e-3)
            if damping > 1e8:
                break
        dampings = [
            _damped(d, point.nll > e + ROSE)
            for d, point, e in zip(dampings, there, expected, strict=True)
        ]
        system = _system(points, [np.zeros_like(d) for d in dampings], p)
        edm = _edm(system, spectrum(system.normal, min_eigenvalue))
        if edm < EDM_GOAL and all(point.exact for point in points):
            break
        system = _system(points, dampings, p)
        step = -spectrum(system.normal, min_eigenvalue).solve(system.normal.vector, damping)
        if system.local_edm > SETTLED * categories:
            step[:] = 0.0
        step *= _shortened(points, step)
        trial = parameters + step
        expected = [
            _expected(point, r, step) for point, r in zip(points, system.parts, strict=True)
        ]
        backgrounds = [
            _moved(d, point, r, step)
            for d, point, r in zip(data, points, system.parts, strict=True)
        ]
    return parameters, points, number


def _background(data: Prepared) -> Array:
    """Return the first fraction, slope, ... within their bounds, shape (n, p - 2)."""
    p = data.shared.n_parameters
    out = np.zeros((len(data), p - 2))
    if data.shared.n_background:
        out[:, 0], out[:, 1] = data.part.fraction, data.part.slope
    return np.clip(np.nan_to_num(out), data.shared.low[2:p], data.shared.high[2:p])


def _look(data: Prepared, parameters: Array, background: Array, n_eta: int, near: bool) -> Point:
    here = design(data.part.means, parameters, n_eta, True)
    x = np.stack(
        [
            data.part.log_mu + 0.5 * np.log(np.maximum(here.mu2, 0.1)),
            data.part.v + here.sigma2,
        ],
        1,
    )
    low, high = data.shared.low[:2], data.shared.high[:2]
    inside = (x >= low) & (x <= high)
    rows = here.rows.copy()
    rows[:, 0] /= 2 * np.maximum(here.mu2, 0.1)[:, None]
    rows *= inside[:, :, None]  # beyond its bounds a category does not see the parameters
    theta = np.concatenate([np.clip(x, low, high), background], 1)
    nll, slope, hessian = evaluate(data, theta, near)
    held = outward(data, theta, slope)
    return Point(theta, here.columns, rows, nll, slope, hessian, held, near)


def _total(points: Sequence[Point]) -> float:
    return float(sum(p.nll.sum() for p in points))


def _expected(point: Point, r: Reduced, step: Array) -> Array:
    """Return the NLL of each category after a step, as its quadratic form has it."""
    dx = _dx(point, step)
    slope = r.gradient + 0.5 * np.matmul(r.hessian, dx[:, :, None])[:, :, 0]
    return np.asarray(point.nll + (slope * dx).sum(1) - r.edm)


def _damped(damping: Array, rose: BoolArray) -> Array:
    lower = np.where(damping > 1e-4, 0.1 * damping, 0.0)
    return np.where(rose, np.maximum(10 * damping, 1e-2), lower)


def _system(points: Sequence[Point], dampings: Sequence[Array], p: int) -> System:
    """Return gradient and Hessian of the profile likelihood in the shared parameters."""
    normal, parts = Normal(np.zeros((p, p)), np.zeros(p), np.zeros(p)), []
    for point, damping in zip(points, dampings, strict=True):
        r = reduced(point.gradient, point.hessian, point.held, damping)
        normal += assemble(point.columns, point.rows, r.hessian, r.gradient, p)
        parts.append(r)
    return System(normal, tuple(parts))


def _edm(system: System, directions: Spectrum) -> float:
    vector = system.normal.vector
    shared = 0.5 * float(vector @ directions.solve(vector))
    return shared + system.local_edm


def _dx(point: Point, step: Array) -> Array:
    """Return the steps of (lambda, v) of each category, to first order."""
    return np.asarray(np.einsum("nmq,nq->nm", point.rows, step[point.columns]))


def _shortened(points: Sequence[Point], step: Array) -> float:
    most = max(float(np.abs(_dx(point, step)[:, 0]).max()) for point in points)
    return min(1.0, 0.01 / most) if most > 0 else 1.0


def _moved(data: Prepared, point: Point, system: Reduced, step: Array) -> Array:
    """Return the backgrounds after a step of the shared parameters, within their bounds."""
    p = data.shared.n_parameters
    own = system.back(_dx(point, step))
    own[:, :1] = np.clip(own[:, :1], -0.2, 0.2)
    own[:, 1:] = np.clip(own[:, 1:], -3.0, 3.0)
    moved = point.theta[:, 2:] + own
    return np.asarray(np.clip(moved, data.shared.low[2:p], data.shared.high[2:p]))


def _extra(
    data: Sequence[Prepared], points: Sequence[Point], system: System, p: int
) -> tuple[Array, Array, float]:
    """Return the variance of the score beyond the Hessian (p, p), residuals, and constraints."""
    matrix, residuals, constraint = np.zeros((p, p)), [], 0.0
    for d, point, r in zip(data, points, system.parts, strict=True):
        found, weak = spread(d, point.theta)
        inner = np.matmul(r.project, np.matmul(found, r.project.transpose(0, 2, 1)))
        inner += r.hessian @ d.part.reference_covariance @ r.hessian
        none = np.zeros((len(d), 2))
        matrix += assemble(point.columns, point.rows, inner, none, p).matrix
        residuals.append(_residuals(r, inner))
        constraint += weak
    return matrix, np.concatenate(residuals), constraint


def _residuals(r: Reduced, extra: Array) -> Array:
    """Return how far each category's own lambda is from the model, in units of its error."""
    h = r.hessian
    det = h[:, 0, 0] * h[:, 1, 1] - h[:, 0, 1] ** 2
    good = (h[:, 0, 0] > 0) & (det > 0)
    first = np.stack([h[:, 1, 1], -h[:, 0, 1]], 1) / np.where(good, det, 1.0)[:, None]
    off = -(first * r.gradient).sum(1)
    variance = first[:, 0] + np.einsum("ni,nij,nj->n", first, extra, first)
    return np.where(good, off / np.sqrt(np.where(good, variance, 1.0)), np.nan)


def _ndf(data: Sequence[Prepared], points: Sequence[Point]) -> int:
    return sum(
        d.counts.shape[1] * len(d) - len(d) - int((~p.held[:, 2:]).sum())
        for d, p in zip(data, points, strict=True)
    )
