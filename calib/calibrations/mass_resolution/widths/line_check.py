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

from calib.calibrations.mass_resolution.sums.collect import FSR_CHANGE
from calib.fitting.minuit import chi_square
from calib.fitting.profile import Window, fractions
from calib.types import AnyArray, Array, BoolArray

from .curves import CountedRows, Curves, between, floors_of, scale_of
from .peaks import PeakShapes

_ITERATIONS = 40

SLOPE = 1.0
"""Standard deviation of the slope of a background over the range of the fit, in these categories:
a steep one would be taken for the tail of the radiation."""
PRIOR = {"fsr": 1.0, "photon": 0.5, "mass_power": 1.0}
"""Standard deviations of what is known of each variation beforehand."""
MODEL = {"fsr": 0.6, "photon": 1.0, "mass_power": 0.35}
"""Standard deviations of what a background of another shape than the exponential makes of it;
photon exchange is nearly flat, as a background is: the tails cannot tell them apart."""


RADIATED = (79.0, 101.0)
"""Generated masses from which the radiation of a simulation is measured, in GeV: well inside the
window of the reconstructed ones."""


@dataclass(frozen=True)
class LineFit:
    """How much of each variation of the line shape the data have: 0 none, 1 all of it.

    Parameters
    ----------
    names : tuple of str
    values, covariance : arrays, shape (n,) and (n, n)
        After what the tails say and what was known before.
    tails, tails_covariance : arrays, shape (n,) and (n, n)
        What the tails say alone, with the statistical covariance.
    chi2, ndf : float, int
        Of the fit of the tails.
    """

    names: tuple[str, ...]
    values: Array
    covariance: Array
    tails: Array
    tails_covariance: Array
    chi2: float = 0.0
    ndf: int = 0

    @classmethod
    def of(
        cls, names: Sequence[str], tails: Array, covariance: Array, chi2: float, ndf: int
    ) -> LineFit:
        """Return what the tails say together with what was known before.

        Parameters
        ----------
        names : sequence of str
            Of the variations.
        tails, covariance : arrays, shape (n,) and (n, n)
            What the tails say.
        chi2, ndf : float, int
            Of that fit.

        Returns
        -------
        LineFit
            With the posterior in ``values``.
        """
        known = np.diag(prior_of(names) ** -2.0)
        said = np.linalg.inv(covariance + np.diag(model_of(names) ** 2))
        after = np.asarray(np.linalg.inv(known + said))
        return cls(tuple(names), after @ said @ tails, after, tails, covariance, chi2, ndf)

    @classmethod
    def unknown(cls, names: Sequence[str]) -> LineFit:
        """Return what was known before."""
        nothing, prior = np.zeros(len(names)), np.diag(prior_of(names) ** 2)
        return cls(tuple(names), nothing, prior, nothing, prior)

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
        """How far the tails are from what was known, in standard deviations, shape (n,)."""
        variance = prior_of(self.names) ** 2 + model_of(self.names) ** 2
        return np.asarray(self.tails / np.sqrt(variance + np.diag(self.tails_covariance)))

    def shift(self, shifts: Mapping[str, Array]) -> Array:
        """Return what the values do to x of each row.

        Parameters
        ----------
        shifts : mapping of str to array, shape (rows,)
            Change of x for all of each variation.

        Returns
        -------
        array, shape (rows,)
            Change of x.
        """
        return np.asarray(sum(v * shifts[k] for k, v in zip(self.names, self.values, strict=True)))


def prior_of(names: Sequence[str]) -> Array:
    """Return the standard deviations of what is known of each variation before any event."""
    return np.array([PRIOR[name] for name in names])


def model_of(names: Sequence[str]) -> Array:
    """Return the standard deviations of what a wrong background makes of each variation."""
    return np.array([MODEL[name] for name in names])


def line_fit(
    wide: CountedRows, narrow: CountedRows, shapes: PeakShapes, found: Curves, used: BoolArray
) -> LineFit:
    """Return how much of each variation of the line shape the data have.

    One likelihood of all rows over the whole window: the variations are common, the numbers of
    signal and background, the width, the mass and the slope are each row's own.

    Parameters
    ----------
    wide, narrow : CountedRows
        The same events in the whole window, and in the range of the fit.
    shapes : PeakShapes
        Of the same rows.
    found : Curves
        The fits in the narrow range.
    used : bool array, shape (rows,)
        Rows that have a say.

    Returns
    -------
    LineFit
        Of all variations; unknown where no row has a say.
    """
    names = tuple(name for name in shapes.varied if name != "nominal")
    if not names or not used.any():
        return LineFit.unknown(names)
    free = np.full(len(names), 30.0)
    rows = _WideRows.of(wide, narrow, shapes, found, used, names)
    state = _start(rows, found, used, len(names))
    now, damping = _deviance(rows, state, free), 1e-3
    for _ in range(_ITERATIONS):
        step = _step(rows, state, free, damping)
        new = state.moved(step[0], step[1])
        value = _deviance(rows, new, free)
        if not value <= now:
            damping *= 10
            if damping > 1e6:
                break
            continue
        gain, state, now, damping = now - value, new, value, max(damping / 10, 1e-9)
        if gain < 1e-3:
            break
    _, _, covariance = _step(rows, state, free, 0.0)
    return LineFit.of(names, state.line, covariance, *_chi2(rows, state))


@dataclass(frozen=True)
class _WideRows:
    """What the fit of the line shape looks at: effective counts and shapes over the window."""

    counts: Array
    shapes: PeakShapes
    floors: Array
    window: Window
    changes: Array
    span: float

    @classmethod
    def of(
        cls,
        wide: CountedRows,
        narrow: CountedRows,
        shapes: PeakShapes,
        found: Curves,
        used: BoolArray,
        names: Sequence[str],
    ) -> _WideRows:
        """Return the rows that are used."""
        at = np.flatnonzero(used)
        own = shapes.take(at)
        nominal = _normalised(own.varied["nominal"][:, wide.first : wide.last])
        changes = [_normalised(own.varied[k][:, wide.first : wide.last]) - nominal for k in names]
        # the templates' noise lowers what the events say
        scale = scale_of(narrow)[at, None] / (1 + found.noise)
        span = float(np.ptp(wide.window.edges) / np.ptp(narrow.window.edges))
        return cls(
            np.maximum(wide.counts[at], 0.0) * scale,
            own,
            floors_of(own),
            wide.window,
            np.stack(changes, axis=1),
            span,
        )


@dataclass(frozen=True)
class _State:
    """Each row's signal, background, x, mu and slope, shape (rows, 5); the line, (variations,)."""

    own: Array
    line: Array

    def moved(self, own: Array, line: Array) -> _State:
        """Return the state after a step, within what is possible."""
        new = self.own + own
        # a background may come out below nothing: held at nothing in many small rows, it would
        # be taken from the radiation
        new[:, 1] = np.clip(new[:, 1], -0.3 * np.abs(new[:, 0]), np.abs(new[:, 0]))
        new[:, 3] = np.clip(new[:, 3], 0.98, 1.02)
        new[:, 4] = np.clip(new[:, 4], -10.0, 10.0)
        return _State(new, self.line + line)


def _start(rows: _WideRows, found: Curves, used: BoolArray, n: int) -> _State:
    total = rows.counts.sum(axis=1)
    share = 0.02 if rows.window.background else 0.0
    own = np.stack(
        [
            (1 - share) * total,
            share * total,
            found.best[used],
            found.nuisances[0, used],
            0.0 * total,
        ],
        axis=1,
    )
    return _State(own, np.zeros(n))


def _model(rows: _WideRows, state: _State) -> tuple[Array, Array, Array]:
    """Return expected counts, their derivatives by each row's own values, and by the line."""
    signal, background, x, mu, slope = state.own.T
    nothing = np.full(len(x), 1e-9)

    def shape(at: Array) -> tuple[Array, Array, Array]:
        nuisances = np.stack([mu, nothing, slope * rows.span])
        return fractions(between(rows.shapes, at), rows.floors, nuisances, rows.window)

    step = rows.shapes.x[:, 1] - rows.shapes.x[:, 0]
    at = np.clip(x, rows.shapes.x[:, 0] + step, rows.shapes.x[:, -1] - step)
    _, gradient, peak = shape(at)
    flat = gradient[:, 1] + peak
    by_x = (shape(at + step)[2] - shape(at - step)[2]) / (2 * step)[:, None]
    line = np.maximum(peak + np.einsum("v,rvi->ri", state.line, rows.changes), 1e-9)
    own = np.stack(
        [
            line,
            flat,
            signal[:, None] * by_x,
            signal[:, None] * gradient[:, 0],
            background[:, None] * rows.span * gradient[:, 2] / 1e-9,
        ],
        axis=1,
    )
    expected = signal[:, None] * line + background[:, None] * flat
    if not rows.window.background:
        own[:, [1, 4]] = 0.0
    return np.maximum(expected, 1e-9), own, signal[:, None, None] * rows.changes


def _deviance(rows: _WideRows, state: _State, prior: Array) -> float:
    expected, _, _ = _model(rows, state)
    seen = rows.counts > 0
    ratio = np.where(seen, rows.counts / expected, 1.0)
    nll = np.sum(expected - rows.counts + np.where(seen, rows.counts * np.log(ratio), 0.0))
    own = 0.5 * np.sum((state.own[:, 4] / SLOPE) ** 2)
    return float(nll + own + 0.5 * np.sum((state.line / prior) ** 2))


def _step(
    rows: _WideRows, state: _State, prior: Array, damping: float
) -> tuple[Array, Array, Array]:
    """Return the Fisher step of the rows' own values and of the line, and its covariance."""
    expected, own, line = _model(rows, state)
    residual = (rows.counts - expected) / expected
    inner = np.einsum("rai,rbi->rab", own, own / expected[:, None])
    k = np.arange(inner.shape[1])
    inner[:, 4, 4] += 1 / SLOPE**2
    inner[:, k, k] = np.maximum(inner[:, k, k] * (1 + damping), 1e-9)
    score = np.einsum("rai,ri->ra", own, residual)
    score[:, 4] -= state.own[:, 4] / SLOPE**2
    both = np.einsum("rvi,rai->rva", line, own / expected[:, None])
    outer = np.einsum("rvi,rwi->vw", line, line / expected[:, None]) + np.diag(prior**-2.0)
    turned = np.linalg.solve(inner, both.transpose(0, 2, 1)).transpose(0, 2, 1)
    outer -= np.einsum("rva,rwa->vw", turned, both)
    total = np.einsum("rvi,ri->v", line, residual) - state.line / prior**2
    total -= np.einsum("rva,ra->v", turned, score)
    covariance = np.linalg.inv(outer)
    by_line = covariance @ total
    left = score - np.einsum("rva,v->ra", both, by_line)
    return np.linalg.solve(inner, left[:, :, None])[:, :, 0], by_line, np.asarray(covariance)


def _chi2(rows: _WideRows, state: _State) -> tuple[float, int]:
    """Return chi2 and ndf of all rows over the window, bins joined until they hold five."""
    expected, _, _ = _model(rows, state)
    found = [chi_square(c, e, e, 5) for c, e in zip(rows.counts, expected, strict=True)]
    return float(sum(f[0] for f in found)), int(sum(f[1] for f in found)) - len(state.line)


def _normalised(template: Array) -> Array:
    total = template.sum(axis=1)
    return np.asarray(template / np.where(total > 0, total, np.inf)[:, None])


def simulated_radiation(sums: Mapping[str, AnyArray], edges: Array) -> tuple[float, float] | None:
    """Return the radiation of simulated muons over the known one, and its statistical error.

    From the generated mass alone, against pairs like the simulated ones that radiate as the
    exact first order says; a power of the mass, which other parton densities make, is free. None
    where the simulation has no generated muons.

    Parameters
    ----------
    sums : mapping of name to array
        Of the simulation.
    edges : array, shape (bins + 1,)
        Of the generated mass, in GeV.

    Returns
    -------
    (float, float), or None
        Ratio, and its error.
    """
    if "simulation/radiated_own" not in sums:
        return None
    low, high = np.searchsorted(edges, RADIATED)
    starts = np.arange(low, high, 10)

    def coarse(name: str) -> Array:
        return np.asarray(np.add.reduceat(sums[f"simulation/radiated_{name}"][:high], starts))

    own, made = coarse("own"), coarse("made")
    variance = coarse("own_squares") + coarse("made_squares")
    filled = (variance > 0) & (made > 0)
    if filled.sum() < 10 or not made.sum() > 0:
        return None
    scale = own.sum() / made.sum()
    columns = np.stack([made, coarse("fsr") - made, coarse("mass_power") - made], axis=1) * scale
    weight = 1 / variance[filled]
    normal = (columns[filled].T * weight) @ columns[filled]
    values = np.linalg.solve(normal, (columns[filled].T * weight) @ own[filled])
    error = np.sqrt(np.linalg.inv(normal)[1, 1])
    return 1 + FSR_CHANGE * float(values[1] / values[0]), FSR_CHANGE * float(error)
