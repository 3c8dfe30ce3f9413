"""The minimiser of the shared likelihood: Newton steps of eta bins and backgrounds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.fitting.scale.category import Prepared, adjustment, evaluate, outward
from calib.fitting.scale.model import KINDS
from calib.fitting.scale.normal_equations import Normal, Spectrum, assemble, design, spectrum
from calib.fitting.scale.schur import Reduced, reduced
from calib.types import Array, BoolArray, IntArray

EDM_GOAL = 1e-5
"""Of the shared parameters and all backgrounds together, in NLL."""
EDM_EXACT = 2.0
"""Per category; further away the expected information makes the steps."""
SETTLED = 0.5
"""Mean EDM of the backgrounds below which the shared parameters move too."""
ROSE = 1e-3
"""A category whose NLL is above what was expected by more takes shorter steps."""


@dataclass(frozen=True)
class Point:
    """The likelihood of one part at some parameters, per category.

    ``columns, rows`` are the derivatives of (lambda, v) in the shared parameters; ``usual`` is
    the expected Hessian of the profile in (lambda, v).
    """

    theta: Array
    columns: IntArray
    rows: Array
    nll: Array
    gradient: Array
    hessian: Array
    usual: Array
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


@dataclass(frozen=True)
class Fit:
    """What all steps of one fit share.

    ``tilts`` are, per part, None or (origin, slope), both (n, 2): slope times (lambda, v) -
    origin is taken off the NLL.
    """

    data: tuple[Prepared, ...]
    n_eta: int
    min_eigenvalue: float
    tilts: tuple[tuple[Array, Array] | None, ...]

    @property
    def n_categories(self) -> int:
        """Number of categories of all parts."""
        return sum(len(d) for d in self.data)

    def look(self, parameters: Array, backgrounds: Sequence[Array], near: bool) -> list[Point]:
        """Return the likelihood of all parts; its exact Hessian where ``near``.

        Parameters
        ----------
        parameters : array, shape (5 n_eta,)
            A, e, M, a2, c2 of the eta bins, kind by kind.
        backgrounds : sequence of array, shape (n, p - 2)
            Of the categories of each part.
        near : bool
            Whether the Hessian is the exact one; else Fisher's.

        Returns
        -------
        list of Point
            One of each part.
        """
        triples = zip(self.data, backgrounds, self.tilts, strict=True)
        return [_look(d, parameters, b, self.n_eta, near, tilt) for d, b, tilt in triples]

    def adjusted(self, points: Sequence[Point]) -> Fit:
        """Return the fit without the score that fitted backgrounds leave behind at a minimum."""
        pairs = zip(self.data, points, strict=True)
        left = (adjustment(d, point.theta, point.held) for d, point in pairs)
        tilts = tuple((p.theta[:, :2], a) for p, a in zip(points, left, strict=True))
        return replace(self, tilts=tilts)

    def system(self, points: Sequence[Point], dampings: Sequence[Array] | None = None) -> System:
        """Return gradient and Hessian of the profile likelihood in the shared parameters.

        Parameters
        ----------
        points : sequence of Point
            One of each part.
        dampings : sequence of array, shape (n,), optional
            Of the categories of each part; 0 without.

        Returns
        -------
        System
            With the backgrounds eliminated.
        """
        p = len(KINDS) * self.n_eta
        normal, parts = Normal(np.zeros((p, p)), np.zeros(p), np.zeros(p)), []
        for i, point in enumerate(points):
            damping = np.zeros(len(point.nll)) if dampings is None else dampings[i]
            r = reduced(point.gradient, point.hessian, point.held, damping, point.usual)
            normal += assemble(point.columns, point.rows, r.hessian, r.gradient, p)
            parts.append(r)
        return System(normal, tuple(parts))

    def spectrum(self, system: System) -> Spectrum:
        """Return what the system fixes."""
        return spectrum(system.normal, self.min_eigenvalue)

    def edm(self, system: System, directions: Spectrum) -> float:
        """Return the distance from the minimum, in NLL.

        Parameters
        ----------
        system : System
            At the point.
        directions : Spectrum
            Of its normal matrix.

        Returns
        -------
        float
            Of the shared parameters and of all backgrounds.
        """
        vector = system.normal.vector
        return 0.5 * float(vector @ directions.solve(vector)) + system.local_edm

    def moved(self, points: Sequence[Point], system: System, step: Array) -> list[Array]:
        """Return the backgrounds after a step of the shared parameters, within their bounds.

        Parameters
        ----------
        points : sequence of Point
            One of each part.
        system : System
            At the points.
        step : array, shape (5 n_eta,)
            Of the shared parameters.

        Returns
        -------
        list of array, shape (n, p - 2)
            Backgrounds of each part.
        """
        triples = zip(self.data, points, system.parts, strict=True)
        return [_moved(d, point, r, step) for d, point, r in triples]


def total(points: Sequence[Point]) -> float:
    """Return the NLL above the saturated model's, with the constraints on the slopes."""
    return float(sum(p.nll.sum() for p in points))


def walk(
    fit: Fit, parameters: Array, backgrounds: Sequence[Array], most: int, edm: float = np.inf
) -> tuple[Array, list[Point], int]:
    """Return the parameters at the minimum, the likelihood there, and the number of iterations.

    Parameters
    ----------
    fit : Fit
        What all steps share.
    parameters : array, shape (5 n_eta,)
        Start of A, e, M, a2, c2, kind by kind.
    backgrounds : sequence of array, shape (n, p - 2)
        Start of the backgrounds of each part.
    most : int
        Iterations at most.
    edm : float
        Distance at the start, in NLL; infinite: not known.

    Returns
    -------
    array, shape (5 n_eta,)
        The parameters.
    list of Point
        The likelihood there, one of each part.
    int
        Iterations.
    """
    trial = parameters
    dampings = [np.zeros(len(d)) for d in fit.data]
    expected = [np.full(len(d), np.inf) for d in fit.data]
    damping, number = 0.0, 0
    points: list[Point] = []
    while number < most:
        number += 1
        there = fit.look(trial, backgrounds, edm < EDM_EXACT * fit.n_categories)
        if not points or total(there) <= total(points) + 1e-10 * (1 + abs(total(points))):
            parameters, points, damping = trial, there, 0.1 * damping if damping > 1e-6 else 0.0
        else:
            damping = max(10 * damping, 1e-3)
            if damping > 1e8:
                break
        dampings = [
            _damped(d, point.nll > e + ROSE)
            for d, point, e in zip(dampings, there, expected, strict=True)
        ]
        system = fit.system(points)
        edm = fit.edm(system, fit.spectrum(system))
        if edm < EDM_GOAL and all(point.exact for point in points):
            break
        system = fit.system(points, dampings)
        step = -fit.spectrum(system).solve(system.normal.vector, damping)
        if system.local_edm > SETTLED * fit.n_categories:
            step[:] = 0.0
        step *= _shortened(points, step)
        trial, backgrounds = parameters + step, fit.moved(points, system, step)
        expected = [_expected(*pair, step) for pair in zip(points, system.parts, strict=True)]
    return parameters, points, number


def first_background(data: Prepared) -> Array:
    """Return the first fraction, slope, ... within their bounds, shape (n, p - 2)."""
    p = data.shared.n_parameters
    out = np.zeros((len(data), p - 2))
    if data.shared.n_background:
        out[:, 0] = data.part.fraction
        out[:, 1] = data.part.slope - data.part.usual_slope
    return np.clip(np.nan_to_num(out), data.shared.low[2:p], data.shared.high[2:p])


def _look(
    data: Prepared,
    parameters: Array,
    background: Array,
    n_eta: int,
    near: bool,
    tilt: tuple[Array, Array] | None,
) -> Point:
    here = design(data.part.means, parameters, n_eta, True)
    mu2 = np.maximum(here.mu2, 0.1)
    x = np.stack([data.part.log_mu + 0.5 * np.log(mu2), data.part.v + here.sigma2], 1)
    low, high = data.shared.low[:2], data.shared.high[:2]
    inside = (x >= low) & (x <= high)
    rows = here.rows.copy()
    rows[:, 0] /= 2 * mu2[:, None]
    rows *= inside[:, :, None]  # beyond its bounds a category does not see the parameters
    theta = np.concatenate([np.clip(x, low, high), background], 1)
    nll, slope, hessian, usual = evaluate(data, theta, near)
    held = outward(data, theta, slope)
    if tilt is not None:
        nll -= ((theta[:, :2] - tilt[0]) * tilt[1]).sum(1)
        slope[:, :2] -= tilt[1]
    return Point(theta, here.columns, rows, nll, slope, hessian, usual, held, near)


def _expected(point: Point, r: Reduced, step: Array) -> Array:
    """Return the NLL of each category after a step, as its quadratic form has it."""
    dx = _dx(point, step)
    slope = r.gradient + 0.5 * np.matmul(r.hessian, dx[:, :, None])[:, :, 0]
    return np.asarray(point.nll + (slope * dx).sum(1) - r.edm)


def _damped(damping: Array, rose: BoolArray) -> Array:
    lower = np.where(damping > 1e-4, 0.1 * damping, 0.0)
    return np.where(rose, np.maximum(10 * damping, 1e-2), lower)


def _dx(point: Point, step: Array) -> Array:
    """Return the steps of (lambda, v) of each category, to first order."""
    return np.asarray(np.einsum("nmq,nq->nm", point.rows, step[point.columns]))


def _shortened(points: Sequence[Point], step: Array) -> float:
    most = max(float(np.abs(_dx(point, step)[:, 0]).max()) for point in points)
    return min(1.0, 0.01 / most) if most > 0 else 1.0


def _moved(data: Prepared, point: Point, system: Reduced, step: Array) -> Array:
    p = data.shared.n_parameters
    own = system.back(_dx(point, step))
    own[:, :1] = np.clip(own[:, :1], -0.2, 0.2)
    own[:, 1:] = np.clip(own[:, 1:], -3.0, 3.0)
    moved = point.theta[:, 2:] + own
    return np.asarray(np.clip(moved, data.shared.low[2:p], data.shared.high[2:p]))
