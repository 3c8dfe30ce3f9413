"""Widths of residuals in categories, and their variance as a straight line, place by place.

For a resolution with two terms: sigma^2 = a^2 + b^2 u, with a u that is known for every entry
(1/p_tilde^2 of an impact parameter, pt^2 of a curvature). A place is a bin that has an a and a b;
its categories are bins of u. The mean of u is over the entries, since a bin's centre is not its
mean, and the core of a category is as wide as u is in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.edits import left_out, require_known
from calib.errors import InputError
from calib.events.histograms import Fill, Sums
from calib.fitting.core_width import CoreFit, fit_core
from calib.fitting.models.core import USUAL
from calib.fitting.straight_line import Line, straight_line
from calib.later import pandas as pd
from calib.quality.category_gates import CategoryValue, GateLimits, own_status
from calib.quality.fallbacks import BinGates, Estimates
from calib.results import Status
from calib.types import Array, IntArray

EDITABLE = ("use", "reach")
"""Keys that can be set for a single category."""

MEANS = ("u", "u_squared", "error_squared")
"""Kept beside the counts; the last one is of the error that the events have, NaN without."""


@dataclass(frozen=True)
class Residuals:
    """Residuals of some muons, one entry each; arrays of shape (n,).

    ``error`` is that which the events have (NaN without), ``u`` what the variance is a line in;
    ``place`` and ``point`` the bins, -1 outside; ``pt`` in GeV and ``phi`` are looked along by the
    closure.
    """

    value: Array
    error: Array
    u: Array
    place: IntArray
    point: IntArray
    pt: Array
    phi: Array
    weight: Array

    def joined(self, other: Residuals) -> Residuals:
        """Return these entries, then the others."""
        both = (vars(self).values(), vars(other).values())
        return Residuals(*(np.concatenate(pair) for pair in zip(*both, strict=True)))

    def fill(self, places: int, how: Fitting) -> Fill:
        """Return the columns of the histograms that `Histograms.of` reads.

        Parameters
        ----------
        places : int
            Their number.
        how : Fitting
            Its edges and the number of points of a place.

        Returns
        -------
        Fill
            One histogram per category.
        """
        inside = (self.place >= 0) & (self.point >= 0)
        flat = np.where(inside, self.place * how.n_points + self.point, -1)
        means = dict(zip(MEANS, (self.u, self.u**2, self.error**2), strict=True))
        return Fill(flat, places * how.n_points, self.value, how.edges, self.weight, means)


@dataclass(frozen=True)
class Histograms:
    """Sums of some categories: (n, bins), and the sums of weight times `MEANS`, (n, 3)."""

    counts: Array
    sumw: Array
    sumw2: Array
    means: Array

    @classmethod
    def of(cls, sums: Sums, name: str) -> Histograms:
        """Return the sums that a `calib.events.histograms.Fill` of this name has made.

        Parameters
        ----------
        sums : dict
            Sums of one processing, flat arrays by key.
        name : str
            Of the fill.

        Returns
        -------
        Histograms
            Of all its categories.
        """

        def part(what: str) -> Array:
            return np.asarray(sums[f"{name}/{what}"], dtype=np.float64)

        means = np.stack([part(f"mean_{key}") for key in MEANS], axis=1)
        return cls(part("counts"), part("sumw"), part("sumw2"), means)

    def merged(self, groups: Sequence[Sequence[int]]) -> Histograms:
        """Return the sums over groups of categories."""
        own = (self.counts, self.sumw, self.sumw2, self.means)
        return Histograms(*(np.array([x[list(g)].sum(axis=0) for g in groups]) for x in own))

    def estimates(self, name: str, members: Sequence[int], how: Fitting) -> Estimates:
        """Return the parameters of some places as one.

        Parameters
        ----------
        name : str
            Of the merged place.
        members : sequence of int
            The places.
        how : Fitting
            How the merged categories are fitted.

        Returns
        -------
        Estimates
            Two parameters of one bin.
        """
        groups = [[m * how.n_points + p for m in members] for p in range(how.n_points)]
        names = [f"{name}_p{p}" for p in range(how.n_points)]
        return widths(self.merged(groups), names, how).estimates()

    def mean(self, key: str) -> Array:
        """Return one of the means, shape (n,); NaN without entries."""
        total = self.sumw.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.means[:, MEANS.index(key)] / np.where(total > 0, total, np.nan))


@dataclass(frozen=True)
class Fitting:
    """How categories are fitted: edges, number of categories a place has, and the gates."""

    edges: Array
    n_points: int
    min_events: float
    chi2_probability: float

    @classmethod
    def widening(
        cls, core: float, window: float, bins: int, n_points: int, gates: BinGates
    ) -> Fitting:
        """Return it with bins from -window to window that widen from ``core`` on.

        Parameters
        ----------
        core : float
            The bins are even up to about here, in the unit of the residuals.
        window : float
            Half of the range, in the same unit.
        bins : int
            Number of bins.
        n_points : int
            Categories that a place has.
        gates : BinGates
            Least number of events and least chi2 probability.

        Returns
        -------
        Fitting
            With edges in the unit of the residuals.
        """
        reach = np.arcsinh(window / core)
        edges = np.asarray(core * np.sinh(np.linspace(-reach, reach, bins + 1)))
        return cls(edges, n_points, gates.min_events, gates.chi2_probability)

    def half(self) -> Fitting:
        """Return the same for half of the events."""
        return Fitting(self.edges, self.n_points, 0.5 * self.min_events, self.chi2_probability)


@dataclass(frozen=True)
class Widths:
    """The widths of the categories, with their pictures, and the line of each place."""

    table: pd.DataFrame
    fits: tuple[CoreFit, ...]
    lines: tuple[Line, ...]

    def fitted(self) -> list[tuple[str, CoreFit]]:
        """Return the fits that there are, each with its category."""
        both = zip(self.table["category"], self.fits, strict=True)
        return [(str(name), fit) for name, fit in both if fit.result is not None]

    @property
    def start(self) -> Start:
        """What later ones of the same places start from."""
        return Start(np.array([line.values for line in self.lines]), np.array(_usual(self.table)))

    @property
    def values(self) -> tuple[Array, Array]:
        """A and B of each place, shape (places, 2), and their covariance, (places, 2, 2)."""
        lines = self.lines
        return np.array([x.values for x in lines]), np.array([x.covariance for x in lines])

    def estimates(self) -> Estimates:
        """Return a and b of each place."""
        own = [roots(line) for line in self.lines]
        n_events = self.table["n_events"].to_numpy().reshape(len(own), -1).sum(axis=1)
        return Estimates(
            np.array([v for v, _ in own]),
            np.array([c for _, c in own]),
            np.array([line.chi2 for line in self.lines]),
            np.array([line.ndf for line in self.lines], dtype=np.int64),
            n_events,
        )


@dataclass(frozen=True)
class Start:
    """What is known from earlier widths of the same places.

    ``lines`` (places, 2) are A and B: from them comes the spread of the true width within a
    category; ``usual`` the share and the ratio of the tail that all of them have in common.
    """

    lines: Array
    usual: Array


def widths(
    found: Histograms,
    names: Sequence[str],
    how: Fitting,
    start: Start | None = None,
    edits: Mapping[str, Mapping[str, Any]] | None = None,
) -> Widths:
    """Return the widths of categories and the lines of their places.

    Parameters
    ----------
    found : Histograms
        The categories of the first place, then of the next.
    names : sequence of str, length n
        Of the categories.
    how : Fitting
        Edges, points of a place, gates.
    start : Start, optional
        What earlier ones of the same places have given.
    edits : mapping, optional
        ``{category: {"use": False, "reach": 300.0}}``; reach is half the range of the fit.

    Returns
    -------
    Widths
        Of n categories and their places.
    """
    spread, usual = np.zeros(len(names)), USUAL
    if start is not None:
        spread = _spread(found, start.lines, how.n_points)
        usual = (float(start.usual[0]), float(start.usual[1]))
    edits = edits or {}
    dropped = left_out(edits)
    rows, fits = [], []
    for i, name in enumerate(names):
        effective = float(found.sumw[i].sum() ** 2 / max(float(found.sumw2[i].sum()), 1e-300))
        reach = edits.get(name, {}).get("reach")
        counts = found.sumw[i] if effective >= how.min_events else 0 * found.sumw[i]
        fit = fit_core(
            how.edges,
            counts,
            found.sumw2[i],
            spread=float(spread[i]),
            usual=usual,
            within=None if reach is None else (-float(reach), float(reach)),
        )
        status, reason = _status(name, effective, fit, how)
        if name in dropped:
            status, reason = Status.LEFT_OUT, f"category {name}: left out by hand (use: false)"
        rows.append(_row(name, found, i, fit) | {"status": status.value, "reason": reason})
        fits.append(fit)
    table = pd.DataFrame(rows)
    n = how.n_points
    lines = tuple(_line(table[j : j + n]) for j in range(0, len(table), n))
    return Widths(table, tuple(fits), lines)


def _status(name: str, effective: float, fit: CoreFit, how: Fitting) -> tuple[Status, str]:
    chi2, ndf = fit.chi2
    limits = GateLimits(how.min_events, 0.5, how.chi2_probability, np.inf, 0.0, (0.0, np.inf))
    value, error = fit.value("width"), fit.error("width")
    return own_status(
        CategoryValue(name, effective, value, error, chi2, ndf, fit.status, False), limits
    )


def _row(name: str, found: Histograms, i: int, fit: CoreFit) -> dict[str, Any]:
    row: dict[str, Any] = {
        "category": name,
        "n_events": int(found.counts[i].sum()),
        "sigma": fit.value("width"),
        "sigma_err": fit.error("width"),
        "u": found.mean("u")[i],
        "predicted": np.sqrt(found.mean("error_squared")[i]),
    }
    for key in ("mean", "tail", "ratio"):
        row |= {key: fit.value(key), f"{key}_err": fit.error(key)}
    chi2, ndf = fit.chi2
    return row | {"chi2": chi2, "ndf": ndf}


def _line(table: pd.DataFrame) -> Line:
    """Return the line through the variances of one place."""
    own = table[table["status"] == Status.OK.value]
    u, sigma, error = (own[c].to_numpy(dtype=float) for c in ("u", "sigma", "sigma_err"))
    return straight_line(u, sigma**2, 2 * error / sigma)


def _spread(found: Histograms, lines: Array, n: int) -> Array:
    """Return the relative standard deviation of the variance within each category."""
    A, B = np.repeat(lines, n, axis=0).T
    u = found.mean("u")
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.sqrt(np.maximum(found.mean("u_squared") - u**2, 0.0))
        return np.asarray(np.clip(np.nan_to_num(B * width / (A + B * u)), 0.0, 0.9))


def _usual(table: pd.DataFrame) -> tuple[float, float]:
    """Return the tail that categories have in common: its share, and its ratio."""
    good = table[table["status"] == Status.OK.value]
    if len(good) < 3:
        return USUAL
    n, tail, ratio = (good[c].to_numpy(dtype=float) for c in ("n_events", "tail", "ratio"))
    share = float(np.clip((n * tail).sum() / n.sum(), 0.005, 0.4))
    if not (n * tail).sum() > 0:
        return share, USUAL[1]
    return share, float(np.exp((n * tail * np.log(ratio)).sum() / (n * tail).sum()))


def require_edits(edits: Mapping[str, Mapping[str, Any]], names: Collection[str]) -> None:
    """Refuse edits that `widths` cannot follow.

    Parameters
    ----------
    edits : mapping
        Category: key: value.
    names : collection of str
        Categories there are.

    Raises
    ------
    InputError
        If a category or a key does not exist, or ``reach`` is no width.
    """
    require_known(edits, names, EDITABLE)
    for category, changes in edits.items():
        reach = changes.get("reach", 1.0)
        if isinstance(reach, bool) or not isinstance(reach, (int, float)) or not reach > 0:
            raise InputError(
                f"category {category}: key 'reach': found {reach!r}, expected um, half of the"
                " range of the fit"
            )


# the parameters of a place -----------------------------------------------------------------------
def roots(line: Line) -> tuple[Array, Array]:
    """Return (a, b) = (sqrt A, sqrt B) and their covariance; NaN where not determined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.sqrt(line.values)
        turn = np.diag(0.5 / values)
        return values, np.asarray(turn @ line.covariance @ turn)
