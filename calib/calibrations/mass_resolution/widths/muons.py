"""A factor for each muon on its ptErr, in fine bins of |eta|, with a power of pt in each ring.

The pairs are divided by leading pt and the two fine |eta| bins of their muons. The likelihood of
the width of each such row is that of categories; its two muons share it by their variances,

    x = 1/2 ln[(V_1 F_1^2 + V_2 F_2^2) / (V_1 + V_2)],   F = exp(f(eta) + b(ring) ln(pt / 45 GeV)),

with V the mean relative variance that ptErr predicts. All f and b are fitted together. A width
that changes inside a ring, which no factor of a pair of rings can hold, is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import REFERENCE_PT, coarse_edges
from calib.fitting.profile import Window, profile
from calib.results import Status
from calib.types import AnyArray, Array, IntArray

from .peaks import LOG_NODES, POINTS, powers_of

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

SPREAD, POWER = 0.3, 0.5
"""Of the logarithms of the factors around their mean, and of the powers of pt, before any event."""
LEAST = 50.0
"""Effective events of a row that is used."""
MOST_ERROR = 0.15
"""Largest relative error of a factor that is the muon's own."""


@dataclass(frozen=True)
class MuonFactors:
    """Factors of muons: logarithms at 45 GeV and powers of pt, with their covariance.

    Parameters
    ----------
    eta_edges : array, shape (n + 1,)
        Fine ones of |eta|.
    ring_of : int array, shape (n,)
        Ring of each fine bin.
    values : array, shape (n + rings,)
        ln F of each bin at 45 GeV, and the power of pt of each ring.
    covariance : array, shape (n + rings, n + rings)
    chi2, ndf : float, int
        Of the rows around the fitted factors.
    """

    eta_edges: Array
    ring_of: IntArray
    values: Array
    covariance: Array
    chi2: float
    ndf: int

    def __len__(self) -> int:
        return len(self.ring_of)

    def bins(self, eta: Array) -> IntArray:
        """Return the fine bin of each muon; those outside go to the first or the last.

        Parameters
        ----------
        eta : array, shape (m,)
            With or without sign.

        Returns
        -------
        int array, shape (m,)
            From 0.
        """
        found = np.searchsorted(self.eta_edges, np.abs(eta), side="right") - 1
        return np.asarray(np.clip(found, 0, len(self) - 1))

    def at(self, pt: Array, eta: Array) -> Array:
        """Return the factor of each muon.

        Parameters
        ----------
        pt : array, shape (m,)
            In GeV.
        eta : array, shape (m,)
            With or without sign.

        Returns
        -------
        array, shape (m,)
            Without unit.
        """
        return np.asarray(np.exp(self.gradient(pt, eta) @ self.values))

    def error(self, pt: Array, eta: Array) -> Array:
        """Return the uncertainty of each factor.

        Parameters
        ----------
        pt : array, shape (m,)
            In GeV.
        eta : array, shape (m,)
            With or without sign.

        Returns
        -------
        array, shape (m,)
            Without unit.
        """
        rows = self.gradient(pt, eta)
        variance = np.einsum("ik,kl,il->i", rows, self.covariance, rows)
        return np.asarray(self.at(pt, eta) * np.sqrt(np.maximum(variance, 0.0)))

    def status(self) -> tuple[Status, ...]:
        """Return the status of each fine bin: its own, or what all have in common."""
        n = len(self)
        error = np.sqrt(np.diag(self.covariance)[:n])
        return tuple(Status.OK if e <= MOST_ERROR else Status.MERGED for e in error)

    def gradient(self, pt: Array, eta: Array) -> Array:
        """Return d ln F / d values of each muon.

        Parameters
        ----------
        pt : array, shape (m,)
            In GeV.
        eta : array, shape (m,)
            With or without sign.

        Returns
        -------
        array, shape (m, values)
            Without unit.
        """
        at, n = self.bins(eta), len(self)
        rows = np.zeros((len(at), len(self.values)))
        i = np.arange(len(at))
        rows[i, at] = 1.0
        rows[i, n + self.ring_of[at]] = np.log(pt / REFERENCE_PT)
        return rows


@dataclass(frozen=True)
class _Muons:
    """Rows of pairs: the likelihood of x of each, and what its two muons are.

    ``first``, ``second``: fine bins; ``variance``, ``log_pt``: (2, rows).
    """

    nll: Sequence[CubicSpline]
    first: IntArray
    second: IntArray
    variance: Array
    log_pt: Array


def muon_factors(
    sums: Mapping[str, AnyArray],
    made: Mapping[str, AnyArray],
    model: str,
    parts: Sequence[int],
    settings: Settings,
    noise: float,
    line: tuple[float, float] = (0.0, 0.0),
) -> MuonFactors | None:
    """Return the factors of muons from some halves.

    Parameters
    ----------
    sums, made : mappings of name to array
        Of the target, and of the sample that the templates are made from.
    model : str
        ``embedded`` or ``simulation``.
    parts : sequence of int
        Halves.
    settings : Settings
        Edges and gates.
    noise : float
        Variance of x from the templates over that from the events.
    line : (float, float)
        What the line shape of the data does to x on average, and the error of that.

    Returns
    -------
    MuonFactors or None
        None: no row has enough events.
    """
    edges = np.asarray(settings.muons.abs_eta)
    n = len(edges) - 1
    rings = np.searchsorted(settings.abs_eta, 0.5 * (edges[1:] + edges[:-1]), side="right") - 1
    rings = np.clip(rings, 0, len(settings.abs_eta) - 2)
    rows = _rows(sums, made, model, parts, settings, noise)
    if rows is None:
        return None
    values = np.zeros(n + len(settings.abs_eta) - 1)
    prior = np.zeros((len(values), len(values)))
    prior[:n, :n] = (np.eye(n) - 1.0 / n) / SPREAD**2 + 1e-2 * np.eye(n)
    prior[n:, n:] = np.eye(len(values) - n) / POWER**2
    values, hessian, chi2 = _fit(rows, rings, values, prior, n)
    ndf = max(len(rows.first) - len(values), 1)
    covariance = np.asarray(np.linalg.inv(hessian) * max(1.0, chi2 / ndf), dtype=np.float64)
    values[:n] -= line[0]
    covariance[:n, :n] += line[1] ** 2
    return MuonFactors(edges, rings, values, covariance, chi2, ndf)


def _rows(
    sums: Mapping[str, AnyArray],
    made: Mapping[str, AnyArray],
    model: str,
    parts: Sequence[int],
    settings: Settings,
    noise: float,
) -> _Muons | None:
    """Return the rows of pairs with enough events."""

    def total(name: str) -> Array:
        both = np.split(np.asarray(sums[f"muons/{name}"], dtype=np.float64), 2)
        return np.asarray(sum(both[p] for p in parts))

    counts, variance = total("sumw"), total("sumw2")
    template = np.asarray(made[f"{model}/muons"], dtype=np.float64)
    if model == "embedded":
        both = np.split(template, 2)
        template = np.asarray(sum(both[p] for p in parts))
    low, high = settings.fit.range
    edges = coarse_edges(settings)
    first = int(np.searchsorted(edges, low - 1e-9))
    last = int(np.searchsorted(edges, high + 1e-9)) - 1
    counts, variance = counts[:, first:last], variance[:, first:last]
    squares = variance.sum(1)
    scale = np.where(squares > 0, counts.sum(1) / np.where(squares > 0, squares, 1.0), 1.0)
    good = (counts.sum(1) * scale >= LEAST) & (template.sum((1, 2)) > 0)
    if not good.any():
        return None
    x = np.linspace(LOG_NODES[0], LOG_NODES[-1], POINTS)
    shape = np.einsum(
        "pk,kn,rnb->rpb", powers_of(x), np.linalg.pinv(powers_of(LOG_NODES)), template[good]
    )
    cumulative = np.zeros((*shape.shape[:2], shape.shape[2] + 1))
    np.cumsum(shape, axis=2, out=cumulative[:, :, 1:])
    window = Window(
        edges[first : last + 1],
        float(edges[0]),
        float(edges[1] - edges[0]),
        settings.fit.background != "none",
    )
    floors = (
        0.5 * template[good].sum((1, 2)) / np.maximum(counts[good].sum(1), 1.0) / template.shape[1]
    )
    effective = np.maximum(counts[good], 0.0) * scale[good, None]
    nll = profile(effective, cumulative, floors, window).nll / (1 + noise)
    weights = [np.asarray(total(f"mean_variance_{m}"))[good] for m in ("first", "second")]
    log_pt = [
        total(f"mean_pt_{m}")[good] / w for m, w in zip(("first", "second"), weights, strict=True)
    ]
    i, j = np.triu_indices(len(settings.muons.abs_eta) - 1)
    from scipy.interpolate import CubicSpline  # slow to load

    pairs = np.arange(len(good)) % len(i)
    return _Muons(
        [CubicSpline(x, row - row.min()) for row in nll],
        i[pairs][good],
        j[pairs][good],
        np.array(weights),
        np.array(log_pt),
    )


def _fit(
    rows: _Muons, ring_of: IntArray, values: Array, prior: Array, n: int
) -> tuple[Array, Array, float]:
    """Return the values at their best, the Hessian there, and chi2; Newton with damping."""

    def model(at: Array) -> tuple[Array, Array]:
        """Return x of each row and its derivatives."""
        logs = [
            at[b] + at[n + ring_of[b]] * p
            for b, p in zip((rows.first, rows.second), rows.log_pt, strict=True)
        ]
        parts = rows.variance * np.exp(2 * np.array(logs))
        share = parts / parts.sum(0)
        gradient = np.zeros((len(rows.first), len(at)))
        r = np.arange(len(gradient))
        for k, b in enumerate((rows.first, rows.second)):
            np.add.at(gradient, (r, b), share[k])
            np.add.at(gradient, (r, n + ring_of[b]), share[k] * rows.log_pt[k])
        return 0.5 * np.log(parts.sum(0) / rows.variance.sum(0)), gradient

    def each(x: Array, order: int) -> Array:
        inside = np.clip(x, LOG_NODES[0], LOG_NODES[-1])
        return np.array([s(v, order) for s, v in zip(rows.nll, inside, strict=True)])

    def value(at: Array) -> float:
        return float(each(model(at)[0], 0).sum() + 0.5 * at @ prior @ at)

    now, damping = value(values), 1e-3
    hessian = prior
    for _ in range(60):
        x, gradient = model(values)
        slope = gradient.T @ each(x, 1) + prior @ values
        curvature = np.maximum(each(x, 2), 1e-3)
        hessian = (gradient.T * curvature) @ gradient + prior
        while True:
            change = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), slope)
            new = value(values - change)
            if new <= now or damping > 1e8:
                break
            damping *= 10
        if not new <= now:
            break
        gain, values, now, damping = now - new, values - change, new, max(damping / 10, 1e-9)
        if gain < 1e-8:
            break
    return values, hessian, 2 * float(each(model(values)[0], 0).sum())
