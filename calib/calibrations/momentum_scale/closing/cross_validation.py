"""Bins of eta tested on events that did not fix them, and the errors that belong to it.

A bin of eta was fixed by its own events. Each half of the events (by their hash) is therefore
tested with the constants of the other half: no further pass is needed, since the effect of other
constants on ln(mass) is linear, and its coefficients are summed beside the histograms. The errors
hold those of the constants, and what bin and constants share of the reference's noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.calibrations.momentum_scale.constants.peaks import Peaks
from calib.calibrations.momentum_scale.constants.reduction import Kind, natural_width2
from calib.calibrations.momentum_scale.settings import Settings
from calib.fitting.scale.normal_equations import design
from calib.later import pandas as pd
from calib.results import Status
from calib.types import Array, IntArray

from . import axes

UNKNOWN = 0.02
"""Share of a bin's muons that may be in eta bins without constants."""

ALIKE = 0.1
"""Share of the variance of a bin's fit that is not that of the categories' fits together."""

HALVES = ("0", "1")


@dataclass(frozen=True)
class ScaleHalves:
    """Constants of each half of the events, as differences to those of both.

    Parameters
    ----------
    moves : array, shape (2, 3 n_eta)
        A, e, M of each half, NaN where a half does not determine them.
    covariance : array, shape (2, 3 n_eta, 3 n_eta)
        From the events of the half: what the reference adds is common to both.
    kinds : two Kinds
    """

    moves: Array
    covariance: Array
    kinds: tuple[Kind, Kind]


def halves_of(first: Kind, second: Kind) -> ScaleHalves:
    """Return the constants of the halves about their weighted mean.

    Parameters
    ----------
    first, second : Kind
        Results of the halves, without the errors of the reference.

    Returns
    -------
    ScaleHalves
        A without unit, e in GeV, M in 1/GeV.
    """
    n = 3 * first.settings.n_eta
    values = np.stack([k.chi2.values[:n] for k in (first, second)])
    covariance = np.stack([k.chi2.covariance[:n, :n] for k in (first, second)])
    known = np.isfinite(values).all(0)
    at = np.flatnonzero(known)
    scale = np.sqrt(np.diagonal(covariance[0])[at])  # A, e and M have units of their own
    units = np.outer(scale, scale)
    weight = [np.linalg.pinv(c[np.ix_(at, at)] / units, hermitian=True) for c in covariance]
    both = np.linalg.pinv(weight[0] + weight[1], hermitian=True)
    mean = both @ (weight[0] @ (values[0, at] / scale) + weight[1] @ (values[1, at] / scale))
    moves = np.full_like(values, np.nan)
    moves[:, at] = values[:, at] - scale * mean
    return ScaleHalves(moves, np.nan_to_num(covariance), (first, second))


# along the axes ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class AxisFits:
    """ln(mu of the data / mu of the reference) along the axes, and errors of both.

    ``halves`` and ``halves_err`` have shape (2, rows); None where the sums have no halves.
    ``moves`` (2, rows, 3 n_eta) is -d ln(mass) / d(A, e, M) of the entries' mean.
    """

    before: Array
    before_err: Array
    after: Array
    after_err: Array
    reference_err: Array
    halves: Array | None
    halves_err: Array | None
    moves: Array | None
    events: Array


def weighted_mean(values: Array, errors: Array) -> tuple[float, float]:
    """Return the mean weighted with the errors, and its error; NaN without values.

    Parameters
    ----------
    values, errors : array, shape (n,)
        In one unit; what is not finite is left out.

    Returns
    -------
    float
        Mean.
    float
        Its error.
    """
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    if not good.any():
        return float("nan"), float("nan")
    weight = errors[good] ** -2.0
    return float((weight * values[good]).sum() / weight.sum()), float(weight.sum() ** -0.5)


# errors ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Linear:
    """Constants as weights of the categories: (A, e, M) = weights @ ln mu; c categories.

    ``data`` and ``reference`` (c,) are variances of ln mu, ``first`` where each resonance begins.
    """

    weights: Array
    data: Array
    reference: Array
    share: Array
    eta: IntArray
    first: dict[str, slice]


def linear(kind: Kind, events: Sequence[Array]) -> Linear:
    """Return what the noise of each category does to the constants.

    Errors of the categories are those of their resonance and width: those of single fits
    fluctuate with their values.

    Parameters
    ----------
    kind : Kind
        The result, of all events or of a half.
    events : sequence of arrays
        Of each resonance: events of the categories that make up a bin of an axis.

    Returns
    -------
    Linear
        Weights of the categories.
    """
    n, columns = kind.settings.n_eta, []
    first: dict[str, slice] = {}
    begin = 0
    for p, size in zip(kind.peaks, events, strict=True):
        data, reference = _usual(p)
        rows = np.zeros((len(p), 3 * n))
        made = design(p.means, np.zeros(3 * n), n, False)
        np.put_along_axis(rows, made.columns[:, :3], 0.5 * made.rows[:, 0, :3], 1)
        second = np.zeros_like(rows)  # both muons may be in the same bin
        np.put_along_axis(second, made.columns[:, 3:], 0.5 * made.rows[:, 0, 3:], 1)
        width2 = np.maximum(np.nan_to_num(p.reference_v), 1e-8) + natural_width2(p.resonance)
        eta = np.stack([p.means.eta_plus, p.means.eta_minus], 1)
        columns.append((rows + second, data, reference, size / width2, eta, p.ok))
        first[p.resonance] = slice(begin, begin + len(p))
        begin += len(p)
    rows, data, reference, share, eta, ok = (np.concatenate(x) for x in zip(*columns, strict=True))
    use = ok & np.isfinite(data) & (data > 0) & np.isfinite(rows).all(1)
    weighted = np.where(use[:, None], rows / np.where(use, data, 1.0)[:, None], 0.0)
    scale = np.sqrt(np.maximum((weighted * np.where(use[:, None], rows, 0.0)).sum(0), 1e-300))
    matrix = weighted.T @ np.where(use[:, None], rows, 0.0) / np.outer(scale, scale)
    solved = np.linalg.pinv(matrix, rcond=1e-7, hermitian=True) @ (weighted / scale).T
    return Linear(
        solved / scale[:, None], np.nan_to_num(data), np.nan_to_num(reference), share, eta, first
    )


def _usual(p: Peaks) -> tuple[Array, Array]:
    """Return the variance of ln mu of data and reference, from width and events."""
    width2 = np.maximum(np.nan_to_num(p.reference_v), 1e-8) + natural_width2(p.resonance)
    per_event = width2 / np.maximum(p.n_events, 1.0)
    ok = p.ok
    out = []
    with np.errstate(invalid="ignore"):
        of_data = (p.data.mu_err / p.data.mu) ** 2
    for variance in (of_data, p.reference_covariance[:, 0, 0]):
        ratio = np.nanmedian((variance / per_event)[ok]) if ok.any() else np.nan
        out.append(ratio * per_event)
    return out[0], out[1]


def row_weights(found: Linear, resonance: str, settings: Settings) -> Array:
    """Return the share of each category in each bin of eta.

    Bins of other axes take all categories alike: as one row, the last.

    Parameters
    ----------
    found : Linear
        Of c categories.
    resonance : str
        Whose bins these are.
    settings : Settings
        Edges of the eta bins.

    Returns
    -------
    array, shape (rows, c)
        The sum of a row is 1, or 0.
    """
    edges = axes.edges_of(settings, resonance)["eta"]
    n = len(edges) - 1
    every = -(-settings.n_eta // axes.MOST_ETA)
    out = np.zeros((2 * n + 1, len(found.share)))
    at = found.first.get(resonance)
    if at is None:  # held out: shares nothing
        return out
    size = np.maximum(found.share[at], 0.0)
    for charge in (0, 1):
        bins = found.eta[at, charge] // every
        for i in range(n):
            out[charge * n + i, at] = np.where(bins == i, size, 0.0)
    out[-1, at] = size
    total = out.sum(1, keepdims=True)
    return np.asarray(out / np.where(total > 0, total, 1.0))


@dataclass(frozen=True)
class Crossed:
    """Bins of eta of one half and charge with the constants of the other half."""

    half: int
    charge: str
    values: Array
    covariance: Array


def crossed(
    resonance: str,
    found: AxisFits,
    halves: ScaleHalves,
    settings: Settings,
    events: Sequence[Array],
) -> list[Crossed]:
    """Return ln(mass) of each half in bins of eta with the constants of the other half.

    Parameters
    ----------
    resonance : str
        Whose bins these are.
    found : AxisFits
        Along the axes, with halves.
    halves : ScaleHalves
        Constants of the halves.
    settings : Settings
        Edges of the eta bins.
    events : sequence of array
        Of each resonance: events of the categories.

    Returns
    -------
    list of Crossed
        Half by half, charge by charge; empty without halves.
    """
    if found.halves is None or found.halves_err is None or found.moves is None:
        return []
    rows, out = axes.rows(settings, resonance), []
    for h in (0, 1):
        other = 1 - h
        constants = linear(halves.kinds[other], events)
        weights = row_weights(constants, resonance, settings)
        n = (len(weights) - 1) // 2
        move, known = halves.moves[other], np.isfinite(halves.moves[other])
        for number, charge in enumerate(axes.CHARGES):
            at = np.array([r.variable == "eta" and r.charge == charge for r in rows])
            jacobian = np.nan_to_num(found.moves[h, at])
            values = found.halves[h, at] - jacobian @ np.nan_to_num(move)
            of_bins = np.abs(jacobian[:, : settings.n_eta])
            lost = (of_bins * ~known.reshape(3, -1).all(0)).sum(1)
            values[lost > UNKNOWN * np.maximum(of_bins.sum(1), 1e-300)] = np.nan
            own = weights[number * n : (number + 1) * n]
            covariance = np.diag(found.halves_err[h, at] ** 2)
            covariance += jacobian @ halves.covariance[other] @ jacobian.T
            covariance += _of_reference(jacobian, constants, own, found.reference_err[at])
            out.append(Crossed(h, charge, values, covariance))
    return out


def _of_reference(jacobian: Array, constants: Linear, own: Array, error: Array) -> Array:
    """Return what the noise of the reference does to bins that constants were applied to."""
    left = jacobian @ constants.weights - own
    alone = error**2 - (own**2 * constants.reference).sum(1)
    return np.asarray((left * constants.reference) @ left.T + np.diag(np.fmax(alone, 0.0)))


def crossed_rows(table: pd.DataFrame, tests: Sequence[Crossed]) -> pd.DataFrame:
    """Return the rows of the halves, like those of all events.

    Parameters
    ----------
    table : DataFrame
        Rows of all events.
    tests : sequence of Crossed
        Of both halves and charges.

    Returns
    -------
    DataFrame
        With the same columns.
    """
    frames = []
    for test in tests:
        own = table[(table["variable"] == "eta") & (table["charge"] == test.charge)].copy()
        error = np.sqrt(np.diagonal(test.covariance))
        known = np.isfinite(test.values) & np.isfinite(error)
        own["bin"] = own["bin"] + f"_half{test.half}"
        own["fitted"] = np.where(known, np.exp(test.values), np.nan)
        own["error"] = np.where(known, np.exp(test.values) * error, np.nan)
        own["pull"] = np.where(known, test.values / error, np.nan)
        own["status"] = np.where(known, Status.OK.value, Status.NOT_DETERMINED.value)
        own["kind"], own["half"] = "axis", HALVES[test.half]
        frames.append(own)
    return pd.concat(frames, ignore_index=True) if frames else table.iloc[:0]


def mean_of(
    resonance: str, table: pd.DataFrame, found: AxisFits, whole: Kind, settings: Settings
) -> tuple[float, float]:
    """Return the mean of ln(mass) over phi, every event once, and its error.

    Where the events fixed the constants, only that of their noise is in the error which the
    constants could not take up, and a share for the bins being fitted otherwise than the
    categories; where they were held out, their own and that of the constants.

    Parameters
    ----------
    resonance : str
        Whose mass it is.
    table : DataFrame
        Not looked at.
    found : AxisFits
        Along the axes.
    whole : Kind
        The result of all events.
    settings : Settings
        Edges of the eta bins.

    Returns
    -------
    float
        Mean of ln(mass).
    float
        Its error.
    """
    rows = axes.rows(settings, resonance)
    at = np.array([r.variable == "phi" and r.charge == "plus" for r in rows])
    error = np.hypot(found.after_err, found.reference_err)[at]
    mean, full = weighted_mean(found.after[at], error)
    constants = linear(whole, [p.n_events for p in whole.peaks])
    if found.moves is None:
        return mean, full
    moves, events = np.nan_to_num(found.moves[:, at]), np.nan_to_num(found.events[at])
    jacobian = (moves.mean(0) * events[:, None]).sum(0) / max(events.sum(), 1.0)
    if resonance not in constants.first:  # held out: other events made the constants
        known = np.nan_to_num(whole.chi2.covariance[: len(jacobian), : len(jacobian)])
        return mean, float(np.sqrt(full**2 + jacobian @ known @ jacobian))
    left = row_weights(constants, resonance, settings)[-1] - jacobian @ constants.weights
    variance = float((left**2 * (constants.data + constants.reference)).sum())
    return mean, float(np.sqrt(variance + ALIKE * full**2))
