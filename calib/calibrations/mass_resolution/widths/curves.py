"""Likelihood of the width in rows of events, and one distance for every comparison of widths.

A row is a category, or a bin of a closure test. Its likelihood is a function of x, the logarithm
of a factor on the resolution of both muons, with mass, background and slope profiled. It is not
a parabola where the width is below that of the Z: an error at the fitted value is too small for
a fit that fluctuated downwards. So errors are expected ones, at the rings' value, and distances
are signed roots of the likelihood ratio.

The noise of the templates is that of their source events: all copies of one event share its
kinematics. It lowers the likelihood by the ratio of the variance without it to that with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.fitting.minuit import chi_square
from calib.fitting.profile import SLOPE_SIGMA, Profile, Window, fractions, profile
from calib.results import Curve
from calib.types import Array, BoolArray, IntArray

from .peaks import PeakShapes

FINE = 401
"""Points at which a likelihood is looked up."""

ENOUGH_POINTS = 0.8
"""Least share of the points of a likelihood that must have converged; the others are left out."""


@dataclass(frozen=True)
class CountedRows:
    """What was counted in the bins of the fit: sums of weights and of squared weights, (n, bins).

    Shapes are given in even bins; the fit's are ``first`` to ``last`` of them.
    """

    counts: Array
    variance: Array
    window: Window
    first: int
    last: int

    def take(self, at: Sequence[int]) -> CountedRows:
        """Return some of the rows."""
        rows = list(at)
        return replace(self, counts=self.counts[rows], variance=self.variance[rows])


@dataclass(frozen=True)
class Information:
    """Errors that are expected at given values of the parameters.

    ``covariance`` (rows, 4, 4) of x, mu, background and slope without the templates' noise;
    ``influence`` (rows, bins) is what one event more in a bin adds to x; ``noise`` (rows,) the
    variance of x from the templates, ``shifts`` what another line shape would do to x.
    """

    covariance: Array
    influence: Array
    noise: Array
    shifts: Mapping[str, Array]


@dataclass(frozen=True)
class Curves:
    """The likelihood of x in each row, and the fit at its best.

    Parameters
    ----------
    x, nll : arrays, shape (rows, FINE)
        Negative logarithm of the likelihood, scaled for the templates' noise, 0 at its least.
    best : array, shape (rows,)
        x of the least; NaN where there is none.
    error : array, shape (rows,)
        Expected error of x at the rings' value (x = 0), template noise included.
    widths : array, shape (rows, FINE)
        Half of the central 68.27 % of m - m_gen at x, in GeV.
    nuisances : array, shape (3, rows)
        mu, background and slope at the best.
    nuisance_errors : array, shape (3, rows)
    level : array, shape (rows,)
        Negative log-likelihood at the best, relative to the saturated model.
    drawn : tuple of Curve, length rows
        Pictures of the fits at the best.
    chi2, ndf : arrays, shape (rows,)
    converged, at_limit : bool arrays, shape (rows,)
    shifts : mapping of name to array, shape (rows,)
        Change of x if the data had another line shape than the templates.
    noise : float
        Median of the variance from the templates over that from the events.
    """

    x: Array
    nll: Array
    best: Array
    error: Array
    widths: Array
    nuisances: Array
    nuisance_errors: Array
    level: Array
    drawn: tuple[Curve, ...]
    chi2: Array
    ndf: IntArray
    converged: BoolArray
    at_limit: BoolArray
    shifts: Mapping[str, Array]
    noise: float = 0.0

    def width(self, x: Array) -> Array:
        """Return the width of each row at its x, NaN outside the grid.

        Parameters
        ----------
        x : array, shape (rows,)
            Logarithm of the factor.

        Returns
        -------
        array, shape (rows,)
            In GeV.
        """
        return self._at(x, self.widths)

    def relative_slope(self, x: Array) -> Array:
        """Return d ln(width) / dx of each row at its x.

        Parameters
        ----------
        x : array, shape (rows,)
            Logarithm of the factor.

        Returns
        -------
        array, shape (rows,)
            Without unit.
        """
        step = 0.02
        low, high = (np.clip(x + s, self.x[:, 0], self.x[:, -1]) for s in (-step, step))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log(self.width(high) / self.width(low)) / (high - low))

    def at_width(self, width: Array) -> Array:
        """Return the x at which each row has a width.

        Parameters
        ----------
        width : array, shape (rows,)
            In GeV.

        Returns
        -------
        array, shape (rows,)
            x; NaN outside the grid.
        """
        found = np.full(len(width), np.nan)
        for r, value in enumerate(width):
            own = np.maximum.accumulate(self.widths[r])
            if np.isfinite(value) and own[0] <= value <= own[-1]:
                found[r] = np.interp(value, own, self.x[r])
        return found

    def distance(self, x0: Array, spread: Array) -> Array:
        """Return how far each row is from an expected x, in standard deviations.

        z = sign(best - x0) sqrt(min_x [2 (nll(x) - nll(best)) + (x - x0)^2 / spread^2]).

        Parameters
        ----------
        x0 : array, shape (rows,)
            Expected; NaN or outside the grid gives NaN.
        spread : array, shape (rows,)
            Standard deviation of x0, at least 1e-6.

        Returns
        -------
        array, shape (rows,)
            z, with the sign of best - x0.
        """
        inside = (x0 >= self.x[:, 0]) & (x0 <= self.x[:, -1])
        with np.errstate(invalid="ignore"):
            pull = (self.x - x0[:, None]) / np.maximum(spread, 1e-6)[:, None]
            total = _least(2 * self.nll + pull**2)
        z = np.sign(self.best - x0) * np.sqrt(np.maximum(total, 0.0))
        return np.where(inside & np.isfinite(self.best), z, np.nan)

    def shifted(self, by: Array) -> Curves:
        """Return the same likelihoods of x - by.

        Parameters
        ----------
        by : array, shape (rows,) or ()
            In x.

        Returns
        -------
        Curves
            On the same grid.
        """
        by = np.broadcast_to(by, self.best.shape)
        moved = np.array(
            [np.interp(x + b, x, own) for x, own, b in zip(self.x, self.nll, by, strict=True)]
        )
        best = np.clip(self.best - by, self.x[:, 0], self.x[:, -1])
        return replace(self, nll=moved, best=best)

    def with_row(self, r: int, other: Curves) -> Curves:
        """Return the same with one row replaced by the only row of others.

        Parameters
        ----------
        r : int
            The row.
        other : Curves
            With a single row.

        Returns
        -------
        Curves
            Of as many rows.
        """

        def put(mine: Array, its: Array) -> Array:
            mine = mine.copy()
            mine[r] = its[0]
            return mine

        own: dict[str, Any] = {
            name: put(getattr(self, name), getattr(other, name))
            for name in (
                "x",
                "nll",
                "best",
                "error",
                "widths",
                "level",
                "chi2",
                "ndf",
                "converged",
                "at_limit",
            )
        }
        both: dict[str, Any] = {
            name: put(getattr(self, name).T, getattr(other, name).T).T
            for name in ("nuisances", "nuisance_errors")
        }
        shifts = {name: put(values, other.shifts[name]) for name, values in self.shifts.items()}
        drawn = (*self.drawn[:r], other.drawn[0], *self.drawn[r + 1 :])
        return replace(self, **own, **both, shifts=shifts, drawn=drawn)

    def _at(self, x: Array, values: Array) -> Array:
        return np.array(
            [
                np.interp(at, own, v, left=np.nan, right=np.nan)
                for at, own, v in zip(x, self.x, values, strict=True)
            ]
        )


def _least(values: Array) -> Array:
    """Return the least of each row: of the parabola through the three points around it."""
    j = np.clip(np.argmin(values, axis=1), 1, values.shape[1] - 2)
    r = np.arange(len(values))
    low, middle, high = values[r, j - 1], values[r, j], values[r, j + 1]
    bend = low - 2 * middle + high
    deeper = np.where(bend > 0, (high - low) ** 2 / (8 * np.where(bend > 0, bend, 1.0)), 0.0)
    # at an end of the grid there is none in between
    inside = (middle <= low) & (middle <= high)
    return np.asarray(np.where(inside, middle - deeper, np.minimum(low, high)))


def curves(rows: CountedRows, shapes: PeakShapes) -> Curves:
    """Return the likelihood of x of each row.

    Parameters
    ----------
    rows : CountedRows
        What was counted.
    shapes : PeakShapes
        Of the same rows.

    Returns
    -------
    Curves
        One likelihood a row.
    """
    from scipy.interpolate import CubicSpline  # slow to load

    scale = scale_of(rows)
    counts = np.maximum(rows.counts, 0.0) * scale[:, None]
    floors = floors_of(shapes)
    found = profile(counts, shapes.cumulative, floors, rows.window)
    usable = (counts.sum(1) > 0) & (shapes.entries > 0) & np.isfinite(shapes.widths).all(1)
    converged = usable & (found.converged.mean(1) >= ENOUGH_POINTS)
    n = len(counts)
    fine = np.stack([np.linspace(x[0], x[-1], FINE) for x in shapes.x])
    nll, widths = np.zeros((n, FINE)), np.full((n, FINE), np.nan)
    for r in np.flatnonzero(usable):
        good = found.converged[r] if converged[r] else np.ones(len(found.nll[r]), dtype=np.bool_)
        nll[r] = CubicSpline(shapes.x[r][good], found.nll[r][good])(fine[r])
        widths[r] = CubicSpline(shapes.x[r], shapes.widths[r])(fine[r])
    least = np.argmin(nll, axis=1)
    at_zero = _information(rows, shapes, floors, found, np.zeros(n), scale)
    fisher = at_zero.covariance[:, 0, 0]
    # rounding where next to nothing is known
    usable &= (fisher > 0) & (at_zero.noise >= 0)
    variance = np.where(usable, fisher + at_zero.noise, np.nan)
    error, factor = np.sqrt(variance), np.where(usable, fisher / np.where(usable, variance, 1), 0)
    best = np.where(usable, fine[np.arange(n), least], np.nan)
    nuisances = _nuisances(found, shapes.x, np.nan_to_num(best))
    here = _information(rows, shapes, floors, found, np.nan_to_num(best), scale)
    total, _, _ = fractions(between(shapes, np.nan_to_num(best)), floors, nuisances, rows.window)
    flat = _falling(rows.window, nuisances[2])
    weight = rows.counts.sum(1)[:, None]
    expected = np.maximum(total, 1e-12) * weight
    chi2, ndf = _chi2(rows, expected, shapes, scale)
    flat = nuisances[1][:, None] * flat * weight
    drawn = tuple(
        Curve("", rows.window.edges, rows.counts[r], rows.variance[r], expected[r], flat[r])
        for r in range(n)
    )
    return Curves(
        fine,
        (nll - nll[np.arange(n), least][:, None]) * factor[:, None],
        best,
        error,
        widths,
        nuisances,
        np.sqrt(np.maximum(np.diagonal(here.covariance[:, 1:, 1:], axis1=1, axis2=2), 0.0)).T,
        nll[np.arange(n), least],
        drawn,
        chi2,
        ndf,
        converged & usable,
        usable & ((least == 0) | (least == FINE - 1)),
        at_zero.shifts,
        float(np.median((at_zero.noise / fisher)[usable])) if usable.any() else 0.0,
    )


def scale_of(rows: CountedRows) -> Array:
    """Return what turns sums of weights into effective counts, shape (rows,)."""
    squares = rows.variance.sum(1)
    return np.asarray(
        np.where(squares > 0, rows.counts.sum(1) / np.where(squares > 0, squares, 1), 1)
    )


def floors_of(shapes: PeakShapes) -> Array:
    """Return half of what one source event is worth in a bin: the least that is known of it.

    A smoothed bin has a share of the events of its neighbours. Without any event a shape is flat.
    """
    return np.asarray(np.maximum(0.5 * shapes.smoothing * np.abs(shapes.sources), 1e-9))


def between(shapes: PeakShapes, x: Array) -> Array:
    """Return the cumulative histogram of each row at its x.

    Parameters
    ----------
    shapes : PeakShapes
        Templates on their grid of x.
    x : array, shape (rows,)
        Where; outside the grid the line goes on.

    Returns
    -------
    array, shape (rows, bins + 1)
        Sums of weights.
    """
    step = shapes.x[:, 1] - shapes.x[:, 0]
    at = (x - shapes.x[:, 0]) / step
    j = np.clip(at.astype(int), 0, shapes.x.shape[1] - 2)
    t, r = (at - j)[:, None], np.arange(len(x))
    return np.asarray((1 - t) * shapes.cumulative[r, j] + t * shapes.cumulative[r, j + 1])


def _nuisances(found: Profile, x: Array, at: Array) -> Array:
    """Return mu, background and slope of each row at its x, shape (3, rows)."""
    values = (found.mu, found.background, found.slope)
    return np.array(
        [[np.interp(a, own, v) for a, own, v in zip(at, x, each, strict=True)] for each in values]
    )


def _falling(window: Window, slope: Array) -> Array:
    """Return the background's fraction per bin, shape (rows, bins)."""
    u = (window.edges - window.edges[0]) / (window.edges[-1] - window.edges[0])
    s = np.where(np.abs(slope) < 1e-7, 1e-7, slope)[:, None]
    return np.asarray(np.diff(np.expm1(-s * u) / np.expm1(-s), axis=1))


def _information(
    rows: CountedRows, shapes: PeakShapes, floors: Array, found: Profile, at: Array, scale: Array
) -> Information:
    """Return the expected errors of each row at its x, nuisances at their best there."""
    nuisances = _nuisances(found, shapes.x, at)
    step = shapes.x[:, 1] - shapes.x[:, 0]
    inside = np.clip(at, shapes.x[:, 0] + step, shapes.x[:, -1] - step)
    total, gradient, signal = fractions(between(shapes, inside), floors, nuisances, rows.window)
    up, down = (
        fractions(between(shapes, inside + s), floors, nuisances, rows.window)[0]
        for s in (step, -step)
    )
    by_x = (up - down) / (2 * step)[:, None]
    gradient = np.concatenate([by_x[:, None], gradient], axis=1)
    total = np.maximum(total, 1e-12)
    n = np.maximum(rows.counts.sum(1), 0.0) * scale
    free = _free(nuisances[1], rows.window.background)
    gradient = np.where(free[:, :, None], gradient, 0.0)
    matrix = np.einsum("r,rai,rbi->rab", n, gradient, gradient / total[:, None])
    matrix[:, 3, 3] += 1 / SLOPE_SIGMA**2
    # a fixed parameter has no share in the others' errors
    k = np.arange(4)
    matrix[:, k, k] = np.where(free, np.maximum(matrix[:, k, k], 1e-12), 1e12)
    covariance = np.linalg.inv(matrix)
    influence = np.einsum("rb,rbi->ri", covariance[:, 0], gradient / total[:, None])
    share = (1 - nuisances[1]) * n
    return Information(
        covariance,
        influence,
        _noise(rows, shapes, influence, signal, share),
        _shifts(rows, shapes, influence, share),
    )


def _free(background: Array, has_background: bool) -> BoolArray:
    """Return which of x, mu, background, slope float in each row, shape (rows, 4)."""
    some = (background > 0) & has_background
    true = np.ones_like(some)
    return np.stack([true, true, some, some], axis=1)


def _noise(
    rows: CountedRows, shapes: PeakShapes, influence: Array, signal: Array, share: Array
) -> Array:
    """Return the variance of x from the templates, counted by source events."""
    centred = influence - np.sum(influence * signal, axis=1)[:, None]
    bins, coarse = shapes.cumulative.shape[2] - 1, shapes.pairs.shape[1]
    size = -(-bins // coarse)
    # the mean over the fit's bins in each coarse one, weighted with the template
    at = np.arange(rows.first, rows.last) // size
    own, weight = np.zeros((2, len(signal), coarse))
    for i, c in enumerate(at):
        own[:, c] += centred[:, i] * signal[:, i]
        weight[:, c] += signal[:, i]
    own = own / np.where(weight > 0, weight, 1.0)
    inside = shapes.varied["nominal"][:, rows.first : rows.last].sum(1)
    per_entry = share / np.where(inside > 0, inside, np.inf)
    return np.asarray(per_entry**2 * np.einsum("rk,rkl,rl->r", own, shapes.pairs, own))


def _shifts(
    rows: CountedRows, shapes: PeakShapes, influence: Array, share: Array
) -> dict[str, Array]:
    """Return what each other line shape in the data would do to x."""

    def normalised(template: Array) -> Array:
        own = template[:, rows.first : rows.last]
        total = own.sum(1)
        return np.asarray(own / np.where(total > 0, total, np.inf)[:, None])

    nominal = normalised(shapes.varied["nominal"])
    return {
        name: share * np.sum(influence * (normalised(template) - nominal), axis=1)
        for name, template in shapes.varied.items()
        if name != "nominal"
    }


def _chi2(
    rows: CountedRows, expected: Array, shapes: PeakShapes, scale: Array
) -> tuple[Array, IntArray]:
    """Return chi2 and ndf of each row; the templates' noise of a bin is in its variance."""
    inside = shapes.varied["nominal"]
    own = inside[:, rows.first : rows.last]
    mean = shapes.pairs.diagonal(axis1=1, axis2=2).sum(1) / np.where(
        shapes.entries > 0, shapes.entries, 1
    )
    relative = mean[:, None] / np.maximum(own, np.maximum(mean, 1e-9)[:, None])
    poisson = expected / scale[:, None]
    variance = poisson + expected**2 * relative * shapes.smoothing
    n = 5 if rows.window.background else 3
    found = [
        chi_square(c, e, v, n) for c, e, v in zip(rows.counts, expected, variance, strict=True)
    ]
    return np.array([f[0] for f in found]), np.array([f[1] for f in found], dtype=np.int64)
