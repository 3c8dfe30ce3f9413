"""The mass along axes that are not the categories': fits, and what is judged.

Data and reference are fitted alike: a bin of phi mixes widths of 0.7 to 2 %, a shape that a single
Gaussian with a floating background fits with a bias of its own, 5e-5 without any true shift. So
the background that the data were found to have is put under the reference, and the bias cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.calibrations.momentum_scale.constants.peaks import (
    sound,
    sums_of,
    template_mass,
    with_background,
)
from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.grid import Grid
from calib.distributions import chi2_sf
from calib.events.histograms import Sums
from calib.fitting.kernel.result import CategoryFits
from calib.fitting.many import fit_categories
from calib.later import pandas as pd
from calib.physics.constants import LABELS
from calib.quality.closure import combined
from calib.results import Check, Status
from calib.types import Array, BoolArray

from . import axes
from .cross_validation import AxisFits, Crossed, weighted_mean

PROBABILITY = 1e-3
TOLERANCE = 5e-5
"""Of the mass scale in a bin: half of the field's target."""

OF_MEAN = 2e-5
"""Of the mean: what the method itself may be off."""

MOST_MEAN = 3.0

PERIODIC = 5
"""Parameters of a mean and two harmonics in phi."""


# fits --------------------------------------------------------------------------------------------
def fits_of(g: Grid, data: Sums, reference: Sums, settings: Settings) -> AxisFits:
    """Fit the data along the axes, and the reference with the background of the data under it.

    Parameters
    ----------
    g : Grid
        Of the resonance.
    data : mapping of str to array
        Sums of the data along the axes.
    reference : mapping of str to array
        Sums of the reference along the axes.
    settings : Settings
        Background and gates.

    Returns
    -------
    AxisFits
        One of each row of `axes.rows`.
    """
    background = settings.of(g.resonance).background
    template, _ = sums_of(reference, "axes/reference/template")
    made, made_variance = sums_of(reference, "axes/reference/mass")
    mass = template_mass(reference, "reference", g.gen_edges)
    shared = reference.get("axes/reference/shared")

    def fit(
        counts: Array, variance: Array | None, template: Array, shared: Array | None = None
    ) -> CategoryFits:
        return fit_categories(
            counts,
            g.mass_edges,
            template,
            mass,
            variance=variance,
            background=background,
            template_errors=shared is not None,
            template_variance=shared,
            min_events=settings.gates.min_events,
        )

    found = fit(*sums_of(data, "axes/after"), template)
    standard = fit(*with_background(made, made_variance, found, g.mass_edges), template, shared)
    ln, err = _log_mu(standard, sound(standard))

    def over(fits: CategoryFits) -> tuple[Array, Array]:
        value, error = _log_mu(fits, sound(fits))
        return value - np.resize(ln, len(value)), error

    after, after_err = over(found)
    before, before_err = over(fit(*sums_of(data, "axes/before"), template))
    events = sums_of(data, "axes/after")[0].sum(1)
    if "axes/moves" not in data:  # sums of an earlier version
        return AxisFits(before, before_err, after, after_err, err, None, None, None, events)
    counts, variance = sums_of(data, "axes/half")
    halves, halves_err = over(fit(counts, variance, np.tile(template, (2, 1))))
    n = len(counts)
    total = np.where(counts.sum(1) > 0, counts.sum(1), np.nan)
    moves = np.asarray(data["axes/moves"]).reshape(n, -1) / total[:, None]
    return AxisFits(
        before,
        before_err,
        after,
        after_err,
        err,
        halves.reshape(2, -1),
        halves_err.reshape(2, -1),
        moves.reshape(2, n // 2, -1),
        events,
    )


def _log_mu(fits: CategoryFits, good: BoolArray) -> tuple[Array, Array]:
    with np.errstate(invalid="ignore"):
        return (
            np.where(good, np.log(fits.mu), np.nan),
            np.where(good, fits.mu_err / fits.mu, np.nan),
        )


# the table ---------------------------------------------------------------------------------------
def table_of(g: Grid, sample: str, found: AxisFits, settings: Settings) -> pd.DataFrame:
    """Return one row a bin of each axis, all events together.

    phi is compared with the mean of all its bins, which is judged apart.

    Parameters
    ----------
    g : Grid
        Of the resonance.
    sample : str
        Name of the data.
    found : AxisFits
        One of each row.
    settings : Settings
        Edges of the axes.

    Returns
    -------
    DataFrame
        As `Closure.table`, with the bin's ``variable, charge, low, high``.
    """
    rows = axes.rows(settings, g.resonance)
    error = np.hypot(found.after_err, found.reference_err)
    expected, spread = np.ones(len(rows)), error.copy()
    for charge in axes.CHARGES:
        at = np.array([r.variable == "phi" and r.charge == charge for r in rows])
        mean, mean_err = weighted_mean(found.after[at], error[at])
        expected[at] = np.exp(mean)
        spread[at] = np.sqrt(np.maximum(error[at] ** 2 - mean_err**2, 0.0))
    fitted, known = np.exp(found.after), np.isfinite(found.after) & np.isfinite(error)
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = np.where(known, (found.after - np.log(expected)) / spread, np.nan)
    kind = np.array(["axis_fit" if r.variable == "eta" else "axis" for r in rows])
    if found.halves is not None:  # its own events have fixed it: nothing to judge
        pull = np.where(kind == "axis_fit", np.nan, pull)
    else:
        kind = np.full(len(rows), "axis")
    return pd.DataFrame(
        {
            "bin": [f"{g.resonance}_{r.variable}_{r.charge}_{r.low:.3g}" for r in rows],
            "expected": expected,
            "fitted": fitted,
            "error": fitted * error,
            "pull": pull,
            "status": np.where(known, Status.OK.value, Status.TOO_FEW_EVENTS.value),
            "kind": kind,
            "sample": sample,
            "variable": [r.variable for r in rows],
            "charge": [r.charge for r in rows],
            "low": [r.low for r in rows],
            "high": [r.high for r in rows],
            "before": np.exp(found.before),
            "before_err": np.exp(found.before) * np.hypot(found.before_err, found.reference_err),
            "half": "all",
        }
    )


# what is judged ----------------------------------------------------------------------------------
def chi2_probability(values: Array, covariance: Array, tolerance: float) -> float:
    """Return the probability of values that should be 0; NaN without any.

    Parameters
    ----------
    values : array, shape (n,)
        NaN is left out.
    covariance : array, shape (n, n)
        Of the values.
    tolerance : float
        Added to each error, in the unit of the values.

    Returns
    -------
    float
        From 0 to 1.
    """
    at = np.flatnonzero(np.isfinite(values) & np.isfinite(np.diagonal(covariance)))
    if not len(at):
        return float("nan")
    matrix = covariance[np.ix_(at, at)] + tolerance**2 * np.eye(len(at))
    return float(chi2_sf(values[at] @ np.linalg.solve(matrix, values[at]), len(at)))


def check_eta(
    resonance: str, tests: Sequence[Crossed], table: pd.DataFrame, tolerance: float = TOLERANCE
) -> Check:
    """Return whether the mass is 1 in bins of eta, events with the constants of others.

    Parameters
    ----------
    resonance : str
        In the name of the check.
    tests : sequence of Crossed
        Of both halves and charges.
    table : DataFrame
        Of `table_of`; its worst bin is said.
    tolerance : float
        Of ln(mass), added to each error.

    Returns
    -------
    Check
        ``closure_axes_RESONANCE``: the probability.
    """
    p = combined([chi2_probability(t.values, t.covariance, tolerance) for t in tests])
    own = table[(table["variable"] == "eta") & (table["kind"] == "axis")]
    where = _worst_bin(own)
    return Check.at_least(
        f"closure_axes_{resonance}",
        _number(p),
        PROBABILITY,
        "p-value of the mass in bins of eta, each half of the events with the constants of the"
        f" other half{_worst(own)} (tolerance {tolerance:g})",
        title=f"{LABELS[resonance]} closure in eta",
        advice=f"the mass is off around {where}: take finer eta bins there (settings.eta), and look"
        " at the fits of its categories"
        if where
        else "take more events, or coarser eta bins",
    )


def check_phi(resonance: str, table: pd.DataFrame, tolerance: float = TOLERANCE) -> Check:
    """Return whether the mass does not depend on phi; the mean over phi is judged apart.

    Parameters
    ----------
    resonance : str
        In the name of the check.
    table : DataFrame
        Of `table_of`.
    tolerance : float
        Of ln(mass), added to each error.

    Returns
    -------
    Check
        ``closure_phi_RESONANCE``: the probability.
    """
    own = table[(table["variable"] == "phi") & (table["kind"] == "axis")]
    found = []
    for charge in axes.CHARGES:
        rows = own[own["charge"] == charge]
        value = np.log(rows["fitted"].to_numpy(dtype=float))
        error = np.hypot(rows["error"].to_numpy(dtype=float), tolerance)
        mean, _ = weighted_mean(value, error)
        pull = (value - mean) / error
        n = int(np.isfinite(pull).sum())
        p = float(chi2_sf(np.nansum(pull**2), n - 1)) if n > 1 else np.nan
        found.append(p)
    p = combined(found)
    where = _worst_bin(own)
    return Check.at_least(
        f"closure_phi_{resonance}",
        _number(p),
        PROBABILITY,
        f"p-value of the mass in bins of phi around its mean{_worst(own)} (tolerance"
        f" {tolerance:g})",
        title=f"{LABELS[resonance]} closure in phi",
        advice=f"the scale changes with phi, furthest at {where}, which A, e, M per eta bin do not"
        " describe: state it as a systematic uncertainty, and look for a part of the"
        " detector that was off"
        if where
        else "take more events",
    )


def check_period(resonance: str, table: pd.DataFrame, tolerance: float = TOLERANCE) -> Check:
    """Return whether the mass has no period of 2 pi in phi: its first and second harmonic.

    Of what a detector does to phi most is in these (the beam spot, a shift of the solenoid, two
    halves of a barrel), and four numbers see it where `check_phi` spreads it over all bins.

    Parameters
    ----------
    resonance : str
        In the name of the check.
    table : DataFrame
        Of `table_of`.
    tolerance : float
        Of ln(mass), added to the error of each bin.

    Returns
    -------
    Check
        ``closure_phi_period_RESONANCE``: the probability of both charges together.
    """
    own = table[(table["variable"] == "phi") & (table["kind"] == "axis")]
    found, words = [], []
    for charge in axes.CHARGES:
        rows = own[own["charge"] == charge]
        value = np.log(rows["fitted"].to_numpy(dtype=float))
        error = np.hypot(rows["error"].to_numpy(dtype=float), tolerance)
        good = np.isfinite(value) & (error > 0)
        if good.sum() <= PERIODIC:  # the mean and four coefficients need more bins than that
            found.append(np.nan)
            continue
        values, covariance = harmonics(
            value[good],
            error[good],
            rows["low"].to_numpy(dtype=float)[good],
            rows["high"].to_numpy(dtype=float)[good],
        )
        found.append(chi2_probability(values, covariance, 0.0))
        first, second = np.hypot(values[0], values[1]), np.hypot(values[2], values[3])
        words.append(f"{charge} {first:.1e} and {second:.1e}")
    p = combined(found)
    sizes = f" ({', '.join(words)})" if words else "; no bin could be tested"
    return Check.at_least(
        f"closure_phi_period_{resonance}",
        _number(p),
        PROBABILITY,
        "p-value of the first and second harmonic of the mass in phi of the muon of either"
        f" charge{sizes}, tolerance {tolerance:g} in each bin; A, e, M are constants of eta alone",
        title=f"{LABELS[resonance]} harmonics in phi",
        advice="a scale that changes with phi needs a correction in eta and phi before this"
        " calibration (the key payloads): what is left is no constant of eta",
    )


def harmonics(value: Array, error: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the first and second harmonic of values in bins of phi, around their mean.

    Parameters
    ----------
    value, error : array, shape (n,)
        Of each bin, in one unit; n more than `PERIODIC`.
    low, high : array, shape (n,)
        Edges of the bins.

    Returns
    -------
    array, shape (4,)
        Coefficients of cos phi, sin phi, cos 2 phi, sin 2 phi.
    array, shape (4, 4)
        Their covariance.
    """
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    columns = [np.ones(len(value))]
    for n in (1, 2):
        damped = np.sinc(n * half / np.pi)  # the mean over a bin
        columns += [damped * np.cos(n * middle), damped * np.sin(n * middle)]
    rows = np.stack(columns, 1) / error[:, None]
    covariance = np.asarray(np.linalg.inv(rows.T @ rows), dtype=float)
    return (covariance @ (rows.T @ (value / error)))[1:], covariance[1:, 1:]


def check_mean(resonance: str, mean: float, error: float) -> Check:
    """Return whether the mean of the mass is 1.

    Parameters
    ----------
    resonance : str
        In the name of the check.
    mean, error : float
        Of ln(mass).

    Returns
    -------
    Check
        ``closure_mean_RESONANCE``: the pull.
    """
    pull = abs(mean) / float(np.hypot(error, OF_MEAN))
    return Check.at_most(
        f"closure_mean_{resonance}",
        _number(pull, np.inf),
        MOST_MEAN,
        f"pull of the mean mass over phi: 1 {mean:+.1e} ± {error:.1e}, with a tolerance of"
        f" {OF_MEAN:g}",
        title=f"{LABELS[resonance]} mean mass",
        advice=f"the corrected {LABELS[resonance]} mass is {'high' if mean > 0 else 'low'} by"
        f" {abs(mean):.1e}: look at radiation and background of its peak, then at the fits with the"
        " largest pulls"
        if np.isfinite(mean)
        else f"no {LABELS[resonance]} peak could be fitted in bins of phi: take more events",
    )


def _number(value: float, otherwise: float = 0.0) -> float:
    return float(value) if np.isfinite(value) else otherwise


def _worst_bin(table: pd.DataFrame) -> str:
    pull = table["pull"].to_numpy(dtype=float)
    tested = np.isfinite(pull).any()
    return str(table["bin"].iloc[int(np.nanargmax(np.abs(pull)))]) if tested else ""


def _worst(table: pd.DataFrame) -> str:
    pull = table["pull"].to_numpy(dtype=float)
    if not np.isfinite(pull).any():
        return "; no bin could be tested"
    at, n = int(np.nanargmax(np.abs(pull))), int(np.isfinite(pull).sum())
    return f"; the largest pull of {n}: {table['bin'].iloc[at]} {pull[at]:+.1f}"
