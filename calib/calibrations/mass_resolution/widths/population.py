"""All categories of one set of events: what they have in common, their gates, and their factors.

The muons of one ring share a factor, the categories of one pt may share a slope, and each
category deviates a little from that. A category with many events keeps its own value; one with
few leans on the others, and its error says by how much they scatter
(`calib.fitting.random_effects`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from calib.calibrations.mass_resolution.settings import FactorGates
from calib.fitting.random_effects import (
    GRID,
    Estimate,
    Population,
    Prior,
    estimate,
    on_grid,
    population,
)
from calib.quality.category_gates import probability
from calib.results import Status
from calib.types import Array, BoolArray

from .curves import Curves
from .line_check import LineFit

RING_SPREAD = 0.3
"""Of the logarithms of the rings' factors around their mean, before any event."""
SLOPE_SPREAD = 0.3
"""Of the slope of ln factor in ln(leading pt), before any event."""
CATEGORY_SPREAD = 0.06
"""Scale of the half-normal of tau, the spread of the categories beyond rings and slope."""
CHANGE = 2e-3
"""Of the rings' factors, at which their iteration ends."""
LEAST = 300.0
"""Effective events below which a category's own likelihood is not used: its template is made of
too few sources."""

FALLBACK = "rings"


@dataclass(frozen=True)
class Members:
    """What is known of each category beside its mass. Arrays of shape (n,) but ``shares``.

    ``shares`` (n, 2): parts of the variance of the leading and the other muon; ``log_pt``: mean
    ln(leading pt / 45 GeV); ``median``, ``median_error``: of the prediction, in GeV; ``flat``:
    whether the cut on the leading pt is above half of the mass, so that it does not carve
    the background.
    """

    names: tuple[str, ...]
    rings: tuple[tuple[int, int], ...]
    effective: Array
    shares: Array
    log_pt: Array
    median: Array
    median_error: Array
    flat: BoolArray

    def take(self, at: Sequence[int]) -> Members:
        """Return some of the categories."""
        rows = list(at)
        return Members(
            tuple(self.names[c] for c in rows),
            tuple(self.rings[c] for c in rows),
            self.effective[rows],
            self.shares[rows],
            self.log_pt[rows],
            self.median[rows],
            self.median_error[rows],
            self.flat[rows],
        )


class CurvesAt(Protocol):
    """The likelihoods of a set of events with one model of the mass."""

    def curves(self, log_rings: Array) -> Curves:
        """Return the curves at some factors of the rings, where x is 0.

        Parameters
        ----------
        log_rings : array, shape (rings,)
            Logarithms of the factors.

        Returns
        -------
        Curves
            One likelihood a row.
        """

    def line(self, log_rings: Array, found: Curves, used: BoolArray) -> LineFit:
        """Return the line shape of the data, from the rows that are used.

        Parameters
        ----------
        log_rings : array, shape (rings,)
            Logarithms of the factors.
        found : Curves
            At these.
        used : bool array, shape (rows,)
            Rows that have a say.

        Returns
        -------
        LineFit
            How much of each variation the data have.
        """


@dataclass(frozen=True)
class Common:
    """What all categories have in common, with the line shape of the templates and with others.

    Parameters
    ----------
    log_rings : array, shape (rings,)
        Logarithm of the factor of each ring; x of the curves is 0 there.
    line : LineFit
        The line shape of the data; the curves are corrected for it.
    found : Population
    moved : mapping of name to Population
        If the data had another line shape, by one of its independent errors.
    """

    log_rings: Array
    line: LineFit
    found: Population
    moved: Mapping[str, Population]


@dataclass(frozen=True)
class FitSet:
    """The factors of one set of events with one model of the mass.

    Parameters
    ----------
    common : Common
    curves : Curves
        Likelihood of each category.
    x : Estimate
        Logarithm of each category's factor relative to its rings, with covariance.
    own, status : tuples of Status
        Of the category's own fit, and of what is published.
    reasons : tuple of str
    factor : array, shape (n,)
        NaN where nothing can be published.
    statistical : array, shape (n, n)
        Covariance of ln factor from the events and the templates.
    systematics : mapping of name to array, shape (n,)
        Change of ln factor if the line shape were another one.
    """

    model: str
    members: Members
    common: Common
    curves: Curves
    x: Estimate
    own: tuple[Status, ...]
    status: tuple[Status, ...]
    reasons: tuple[str, ...]
    factor: Array
    statistical: Array
    systematics: Mapping[str, Array]

    @property
    def covariance(self) -> Array:
        """Covariance of ln factor with the systematic variations, shape (n, n)."""
        shifts = [np.outer(s, s) for s in self.systematics.values()]
        return np.asarray(self.statistical + sum(shifts, np.zeros_like(self.statistical)))

    @property
    def factor_error(self) -> Array:
        """Uncertainty of the factors, shape (n,)."""
        return np.asarray(self.factor * np.sqrt(np.diag(self.covariance)))

    @property
    def own_factor(self) -> Array:
        """The factor that the category's own events prefer, shape (n,)."""
        return self.curves.width(self.curves.best) / self.members.median

    @property
    def own_factor_error(self) -> Array:
        """Its expected uncertainty, shape (n,)."""
        slope = np.abs(self.curves.relative_slope(np.nan_to_num(self.curves.best)))
        relative = np.hypot(
            slope * self.curves.error, self.members.median_error / self.members.median
        )
        return np.asarray(self.own_factor * relative)

    def common_line(self) -> tuple[float, float]:
        """Return the mean change of x from the line shape of the data, and its error."""
        line, curves = self.common.line, self.curves
        weight = np.nan_to_num(np.where(curves.error > 0, curves.error, np.inf), nan=np.inf) ** -2.0
        if not line.names or not weight.sum() > 0:
            return 0.0, 0.0
        errors = [np.average(s, weights=weight) for s in line_errors(line, curves).values()]
        mean = np.average(line.shift(curves.shifts), weights=weight)
        return float(mean), float(np.sqrt(np.sum(np.square(errors))))

    def with_row(self, c: int, one: FitSet) -> FitSet:
        """Return the same with one category replaced by the only one of another set.

        Its correlations with the others stay.

        Parameters
        ----------
        c : int
            The category.
        one : FitSet
            With a single category.

        Returns
        -------
        FitSet
            Of as many categories.
        """

        def put(mine: tuple[Any, ...], its: tuple[Any, ...]) -> tuple[Any, ...]:
            return (*mine[:c], its[0], *mine[c + 1 :])

        def moved(covariance: Array, variance: float) -> Array:
            scale = np.ones(len(covariance))
            scale[c] = np.sqrt(variance / covariance[c, c]) if covariance[c, c] > 0 else 1.0
            return np.asarray(covariance * np.outer(scale, scale))

        factor, mean = self.factor.copy(), self.x.mean.copy()
        factor[c], mean[c] = one.factor[0], one.x.mean[0]
        systematics = {name: values.copy() for name, values in self.systematics.items()}
        for name, values in systematics.items():
            values[c] = one.systematics[name][0]
        return replace(
            self,
            curves=self.curves.with_row(c, one.curves),
            x=Estimate(mean, moved(self.x.covariance, one.x.covariance[0, 0])),
            own=put(self.own, one.own),
            status=put(self.status, one.status),
            reasons=put(self.reasons, one.reasons),
            factor=factor,
            statistical=moved(self.statistical, one.statistical[0, 0]),
            systematics=systematics,
        )


def model_rows(members: Members, log_rings: Array) -> Array:
    """Return the model of x: how each category hangs on the rings and on the slope.

    ln r = share_first d(ln F_first) + share_second d(ln F_second) + slope ln(pt / 45 GeV).

    Parameters
    ----------
    members : Members
        n categories.
    log_rings : array, shape (rings,)
        Logarithms of the factors that the shares are at.

    Returns
    -------
    array, shape (n, rings + 1)
        Shares of the rings, and ln pt.
    """
    n, k = len(members.names), len(log_rings)
    rows = np.zeros((n, k + 1))
    for c, rings in enumerate(members.rings):
        share = members.shares[c] * np.exp(2 * log_rings[list(rings)])
        total = share.sum()
        share = share / total if total > 0 else np.full(2, 0.5)
        for ring, part in zip(rings, share, strict=True):
            rows[c, ring] += part
    rows[:, k] = np.where(np.isfinite(members.log_pt), members.log_pt, 0.0)
    return rows


def prior_of(n_rings: int) -> Prior:
    """Return what is held of rings and slope before any event: tied, but not to anything."""
    tied = (np.eye(n_rings) - 1.0 / n_rings) / RING_SPREAD**2
    free = np.eye(n_rings) * 1e-2
    precision = np.zeros((n_rings + 1, n_rings + 1))
    precision[:n_rings, :n_rings] = tied + free
    precision[n_rings, n_rings] = 1 / SLOPE_SPREAD**2
    return Prior(precision, CATEGORY_SPREAD)


def solve(
    curves_at: CurvesAt, members: Members, n_rings: int, gates: FactorGates, moving: bool = True
) -> tuple[Common, Curves]:
    """Return what categories have in common, and their curves at the rings' factors.

    The rings are moved until the model has nothing left to say about them; then the line shape
    of the data is fitted, and the curves are corrected for it.

    Parameters
    ----------
    curves_at : CurvesAt
        The likelihoods.
    members : Members
        What is known of each category.
    n_rings : int
        Number of rings.
    gates : FactorGates
        Which categories have a say.
    moving : bool
        Whether the curves are others at other rings' factors; else those at 1 are used.

    Returns
    -------
    Common
        What they have in common.
    Curves
        Corrected for the line shape.
    """
    log_rings, prior = np.zeros(n_rings), prior_of(n_rings)
    for _ in range(8):
        curves = curves_at.curves(log_rings)
        rows = model_rows(members, log_rings)
        used = informative(curves, members, gates)
        found = population(on_grid(curves.x, curves.nll), rows, prior, used)
        change = np.clip(found.theta[:n_rings], -0.4, 0.4)
        moved = np.clip(log_rings + change, -0.6, 0.6)
        if not moving or np.abs(moved - log_rings).max() < CHANGE:
            break
        log_rings = moved
    line = curves_at.line(log_rings, curves, used & members.flat)
    curves = curves.shifted(line.shift(curves.shifts))
    likelihood = on_grid(curves.x, curves.nll)
    found = population(likelihood, rows, prior, used)
    others = {
        name: population(_moved(likelihood, shift), rows, prior, used)
        for name, shift in line_errors(line, curves).items()
    }
    return Common(log_rings, line, found, others), curves


def line_errors(line: LineFit, curves: Curves) -> dict[str, Array]:
    """Return what is not known of the line shape: independent shifts of x, by name.

    Parameters
    ----------
    line : LineFit
        The line shape of the data.
    curves : Curves
        With the shifts of x by each variation.

    Returns
    -------
    dict of str to array, shape (rows,)
        Shifts of x for one standard deviation.
    """
    shifts = [curves.shifts[name] for name in line.names]
    return {
        name: np.asarray(sum(part * shift for part, shift in zip(row, shifts, strict=True)))
        for name, row in zip(line.names, line.root, strict=True)
    }


def _moved(likelihood: Array, shift: Array) -> Array:
    """Return likelihoods of x as they were without a bias: x - shift."""
    moved = [
        np.interp(GRID + by, GRID, own)
        for by, own in zip(np.nan_to_num(shift), likelihood, strict=True)
    ]
    return np.array(moved)


def informative(curves: Curves, members: Members, gates: FactorGates) -> BoolArray:
    """Return which categories have a likelihood that may speak for itself and for others.

    Parameters
    ----------
    curves : Curves
        Of n categories.
    members : Members
        Their effective numbers of events.
    gates : FactorGates
        Least chi2 probability.

    Returns
    -------
    bool array, shape (n,)
        True for those that may.
    """
    chi2_fine = np.array(
        [
            probability(c, n) >= gates.chi2_probability
            for c, n in zip(curves.chi2, curves.ndf, strict=True)
        ]
    )
    return np.asarray(curves.converged & chi2_fine & (members.effective >= LEAST))


def fit_set(
    model: str,
    curves_at: CurvesAt,
    members: Members,
    n_rings: int,
    gates: FactorGates,
    share: float = 1.0,
    moving: bool = True,
) -> FitSet:
    """Return the factors of all categories.

    Parameters
    ----------
    model : str
        Name of the model of the mass.
    curves_at : CurvesAt
        The likelihoods.
    members : Members
        What is known of each category.
    n_rings : int
        Number of rings.
    gates : FactorGates
        What a category must pass.
    share : float
        Of the events of the whole sample, for the gates on numbers of events.
    moving : bool
        As of `solve`.

    Returns
    -------
    FitSet
        Factor, covariance and status of each category.
    """
    common, curves = solve(curves_at, members, n_rings, gates, moving)
    return judged(model, members, common, curves, gates, share)


def judged(
    model: str,
    members: Members,
    common: Common,
    curves: Curves,
    gates: FactorGates,
    share: float = 1.0,
) -> FitSet:
    """Return the factors of categories, with what they have in common given.

    Parameters
    ----------
    model : str
        Name of the model of the mass.
    members : Members
        What is known of each category.
    common : Common
        What they have in common.
    curves : Curves
        Likelihood of each category.
    gates : FactorGates
        What a category must pass.
    share : float
        Of the events of the whole sample, for the gates on numbers of events.

    Returns
    -------
    FitSet
        Factor, covariance and status of each category.
    """
    rows, found = model_rows(members, common.log_rings), common.found
    likelihood = on_grid(curves.x, curves.nll)
    nothing = np.ones_like(likelihood)
    alone = estimate(nothing, rows, found)
    pulls = curves.distance(alone.mean, np.hypot(alone.error, gates.neighbour_spread))
    expected = np.abs(curves.relative_slope(np.zeros(len(rows)))) * curves.error
    own = [
        _own_status(c, members, curves, float(expected[c]), float(pulls[c]), gates, share)
        for c in range(len(rows))
    ]
    usable = informative(curves, members, gates)
    passed = np.array([status in (Status.OK, Status.TOO_FEW_EVENTS) for status, _ in own])
    speaks = (usable & passed)[:, None]
    x = estimate(np.where(speaks, likelihood, nothing), rows, found)
    # nothing at all is known where the categories together do not fix the rings
    shared = np.sqrt(np.einsum("rk,kl,rl->r", rows, found.covariance, rows))
    known = shared <= gates.relative_error / share**0.5
    width = curves.width(x.mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(known, width / members.median, np.nan)
        median = members.median_error / members.median
    slope = curves.relative_slope(x.mean)
    covariance = np.outer(slope, slope) * x.covariance + np.diag(median**2)
    low, high = gates.factor_range
    status, reasons = [], []
    for c, (first, reason) in enumerate(own):
        final = _final(first, bool(np.isfinite(factor[c])), bool(low <= factor[c] <= high))
        status.append(final)
        reasons.append(reason)
    factor = np.where([s.usable for s in status], factor, np.nan)
    systematics = {}
    for name, shift in line_errors(common.line, curves).items():
        other = np.where(speaks, _moved(likelihood, shift), nothing)
        systematics[name] = slope * (estimate(other, rows, common.moved[name]).mean - x.mean)
    return FitSet(
        model,
        members,
        common,
        curves,
        x,
        tuple(s for s, _ in own),
        tuple(status),
        tuple(reasons),
        factor,
        covariance,
        systematics,
    )


def _final(own: Status, known: bool, in_range: bool) -> Status:
    if not known:
        return own if own is not Status.OK else Status.NOT_DETERMINED
    if not in_range:
        return Status.OUT_OF_RANGE
    if own is Status.OK:
        return own
    return Status.MERGED if own is Status.TOO_FEW_EVENTS else Status.HELD


def _own_status(
    c: int,
    members: Members,
    curves: Curves,
    expected: float,
    pull: float,
    gates: FactorGates,
    share: float,
) -> tuple[Status, str]:
    """Return the status of a category by itself, and the sentence that explains it.

    The gates look at what was expected, not at the fitted value: a fit that fluctuates to a
    small width must not look precise.
    """
    name, n = members.names[c], members.effective[c]
    least, most = gates.min_events * share, gates.relative_error / share**0.5
    if n < least:
        return Status.TOO_FEW_EVENTS, f"category {name}: {n:.0f} events, {least:.0f} needed"
    if not np.isfinite(curves.best[c]):
        return Status.NO_TEMPLATE, f"category {name}: no template can be made for it"
    if not curves.converged[c] and not curves.at_limit[c]:
        return Status.FIT_FAILED, f"category {name}: the fit did not converge"
    if expected > most:
        return Status.TOO_FEW_EVENTS, (
            f"category {name}: {n:.0f} events give an uncertainty of {100 * expected:.0f} %,"
            f" at most {100 * most:.0f} %"
        )
    if curves.at_limit[c]:
        return Status.AT_LIMIT, f"category {name}: the width is at a limit"
    p = probability(curves.chi2[c], int(curves.ndf[c]))
    if p < gates.chi2_probability:
        return Status.BAD_CHI2, (
            f"category {name}: chi2/ndf {curves.chi2[c]:.1f}/{curves.ndf[c]}, probability"
            f" {p:.1e}, at least {gates.chi2_probability:.0e} needed"
        )
    if abs(pull) >= gates.neighbours:
        return Status.OFF_NEIGHBOURS, (
            f"category {name}: its width is {abs(pull):.1f} standard deviations from what the"
            f" other categories say, at most {gates.neighbours:g}"
        )
    return Status.OK, ""
