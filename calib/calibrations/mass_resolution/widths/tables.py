"""The tables and the checks that come out of the reduction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from calib.calibrations.base import Edits
from calib.calibrations.mass_resolution.settings import Settings
from calib.later import pandas as pd
from calib.quality.category_gates import probability
from calib.results import Check, Status
from calib.types import AnyArray, BoolArray, IntArray

from .population import FALLBACK, FitSet


def fits(sample: str, found: FitSet, entries: IntArray, pole: float) -> pd.DataFrame:
    """Return one row per category with everything that its fit says.

    Parameters
    ----------
    sample : str
        Name of the target.
    found : FitSet
        Factors and curves of n categories.
    entries : int array, shape (n,)
        Number of events.
    pole : float
        Mass of the resonance, in GeV.

    Returns
    -------
    DataFrame
        Masses and widths in GeV.
    """
    curves = found.curves
    table = pd.DataFrame(
        {
            "sample": sample,
            "category": found.members.names,
            "n_events": entries,
            "sigma": found.own_factor * found.members.median,
            "sigma_err": found.own_factor_error * found.members.median,
            "mass": curves.nuisances[0] * pole,
            "mass_err": curves.nuisance_errors[0] * pole,
        }
    )
    for k, name in ((1, "background"), (2, "slope")):
        table[name], table[f"{name}_err"] = curves.nuisances[k], curves.nuisance_errors[k]
    table["nll"], table["chi2"], table["ndf"] = curves.level, curves.chi2, curves.ndf
    table["chi2_probability"] = [
        probability(c, int(n)) for c, n in zip(curves.chi2, curves.ndf, strict=True)
    ]
    table["status"] = [s.value for s in found.own]
    table["model"], table["reason"] = found.model, found.reasons
    missing = ~np.isfinite(curves.best)
    numbers = table.columns.drop(
        ["sample", "category", "n_events", "ndf", "status", "model", "reason"]
    )
    table.loc[missing, numbers] = np.nan
    table.loc[missing, "ndf"] = 0
    return table


def factors(found: FitSet, entries: IntArray, edits: Edits) -> pd.DataFrame:
    """Return factors.csv: the columns of the contract, then why each value is what it is.

    ``factor_err`` contains what is ``factor_err_stat`` and the systematic variations.

    Parameters
    ----------
    found : FitSet
        Of n categories.
    entries : int array, shape (n,)
        Number of events.
    edits : mapping
        Settings of single categories.

    Returns
    -------
    DataFrame
        Widths in GeV, factors without unit.
    """
    members, curves = found.members, found.curves
    known = np.isfinite(curves.best)
    table = pd.DataFrame(
        {
            "category": members.names,
            "n_events": entries,
            "sigma_fit": found.own_factor * members.median,
            "sigma_fit_err": found.own_factor_error * members.median,
            "median_predicted": members.median,
            "factor": found.factor,
            "factor_err": found.factor_error,
            "chi2": np.where(known, curves.chi2, np.nan),
            "ndf": np.where(known, curves.ndf, 0),
            "status": [s.value for s in found.status],
            "own_status": [s.value for s in found.own],
            "own_factor": found.own_factor,
            "own_factor_err": found.own_factor_error,
            "factor_err_stat": found.factor * np.sqrt(np.diag(found.statistical)),
            "held_at": [
                FALLBACK if s in (Status.MERGED, Status.HELD) else "" for s in found.status
            ],
            "model": found.model,
            "edited": [
                "; ".join(f"{k}={v}" for k, v in edits.get(name, {}).items())
                for name in members.names
            ],
        }
    )
    for name, shift in found.systematics.items():
        table[f"syst_{name}"] = found.factor * shift
    return table


def rings(found: FitSet, settings: Settings) -> pd.DataFrame:
    """Return what the categories have in common: a factor per ring, a slope, a spread.

    Parameters
    ----------
    found : FitSet
        What the categories have in common.
    settings : Settings
        Edges and labels of the rings.

    Returns
    -------
    DataFrame
        ``name, abs_eta_low, abs_eta_high, value, error, text``.
    """
    k, common = len(found.common.log_rings), found.common.found
    logs = found.common.log_rings + common.theta[:k]
    error = np.sqrt(np.diag(common.covariance))
    edges = settings.abs_eta
    rows = [
        {
            "name": f"ring_{label}",
            "abs_eta_low": low,
            "abs_eta_high": high,
            "value": float(np.exp(logs[r])),
            "error": float(np.exp(logs[r]) * error[r]),
            "text": "factor of the muons of the ring",
        }
        for r, (label, low, high) in enumerate(
            zip(settings.ring_labels, edges[:-1], edges[1:], strict=True)
        )
    ]
    rows += [
        {
            "name": "slope",
            "value": float(common.theta[k]),
            "error": float(error[k]),
            "text": "change of ln(factor) with ln(leading pt)",
        },
        {
            "name": "spread",
            "value": common.spread,
            "error": np.nan,
            "text": "standard deviation of ln(factor) among categories beyond that",
        },
    ]
    return pd.DataFrame(rows)


def models(main: FitSet, others: Mapping[str, FitSet]) -> pd.DataFrame:
    """Return the factors that each model gives by its own fits, side by side.

    Parameters
    ----------
    main : FitSet
        Of the model that is published.
    others : mapping of str to FitSet
        Of the others.

    Returns
    -------
    DataFrame
        ``category``, and for each model a column and its ``_err``.
    """
    columns: dict[str, AnyArray | tuple[str, ...]] = {"category": main.members.names}
    for found in (main, *others.values()):
        columns[found.model] = found.own_factor
        columns[f"{found.model}_err"] = found.own_factor_error
    return pd.DataFrame(columns)


LINE_TEXTS = {
    "fsr": "radiation of the muons times 1.1",
    "photon": "Z exchange alone, no photon",
    "mass_power": "times (m / m_Z)^1.5",
}
MOST_LINE = 3.0
"""Standard deviations from what was known of the line shape, or of the radiation of a simulation,
that a verdict lets pass."""


def line_shape(found: FitSet) -> pd.DataFrame:
    """Return how much of each variation of the line shape the data have, and what that does.

    ``effect_percent`` is the mean change of the factors by which they were corrected for it,
    ``tails`` what the tails say alone, ``pull`` how far that is from what was known before.
    """
    line, members, curves = found.common.line, found.members, found.curves
    slope = curves.relative_slope(np.nan_to_num(curves.best))
    known = np.isfinite(slope) & np.isfinite(curves.best)
    rows = []
    for v, name in enumerate(line.names):
        shift = -line.values[v] * (slope * curves.shifts[name])[known]
        weight = members.effective[known]
        rows.append(
            {
                "variation": name,
                "value": line.values[v],
                "error": line.errors[v],
                "tails": line.tails[v],
                "tails_err": float(np.sqrt(line.tails_covariance[v, v])),
                "pull": line.pulls[v],
                "effect_percent": 100 * float(np.average(shift, weights=weight))
                if len(shift)
                else 0.0,
                "text": LINE_TEXTS.get(name, name),
            }
        )
    columns = [
        "variation",
        "value",
        "error",
        "tails",
        "tails_err",
        "pull",
        "effect_percent",
        "text",
    ]
    return pd.DataFrame(rows, columns=columns)


def line_checks(found: FitSet) -> list[Check]:
    """Return whether the data have a line shape like that of the templates."""
    line = found.common.line
    if not line.names:
        return []
    table = line_shape(found)
    worst = table.loc[table["pull"].abs().idxmax()]
    text = (
        "pull of the line shape of the data from the expected one, mostly in"
        f" {worst['variation']} ({worst['text']}): {worst['tails']:+.2f} ±"
        f" {worst['tails_err']:.2f} of it, which changed the factors by"
        f" {worst['effect_percent']:+.1f} %"
    )
    advice = (
        "the tails below the peak do not fit, the factors could be off by"
        f" {abs(worst['effect_percent']):.1f} %: look at radiation and background of the templates"
    )
    value = abs(float(worst["pull"]))
    title = "Line shape of the data"
    return [Check.at_most("line_shape", value, MOST_LINE, text, title=title, advice=advice)]


RADIATION = 0.05
"""Relative, to which the radiation of muons is known: what radiators differ by."""


def radiation_check(strength: float, error: float) -> Check:
    """Return whether a simulation radiates as muons do.

    Parameters
    ----------
    strength, error : float
        Radiation over the known one, and its statistical error.

    Returns
    -------
    Check
        ``simulated_radiation``: standard deviations from 1.
    """
    value = abs(strength - 1) / float(np.hypot(error, RADIATION))
    text = (
        f"pull of the radiation of simulated muons: {strength:.3f} ± {error:.3f} times the known"
        f" one, which is known to {100 * RADIATION:.0f} %"
    )
    return Check.at_most(
        "simulated_radiation",
        value,
        MOST_LINE,
        text,
        title="Radiation in the simulation",
        advice=f"the factors could be off by {20 * abs(strength - 1):.0f} %: take a simulation with"
        " final-state radiation, or settings.line_shape: embedded",
    )


def checks(found: FitSet, entries: IntArray, settings: Settings) -> list[Check]:
    """Return the reduction's part of the verdict.

    Parameters
    ----------
    found : FitSet
        Of n categories.
    entries : int array, shape (n,)
        Number of events.
    settings : Settings
        Limits.

    Returns
    -------
    list of Check
        With numbers and limits.
    """
    usable = np.array([s.usable for s in found.status])
    held = np.array([s is Status.HELD for s in found.status])
    share = float(entries[held].sum() / max(float(entries.sum()), 1.0))
    checks = [
        Check.at_least(
            "categories_usable",
            float(usable.mean()),
            1.0,
            f"{int(usable.sum())} of {len(usable)} categories have a usable factor",
            title="Categories with a factor",
            advice=f"{_why(found, ~usable)}: take more events, or coarser leading_pt",
        ),
        Check.at_most(
            "events_in_held_categories",
            share,
            settings.gates.max_held,
            f"{int(held.sum())} categories failed a gate and take the factor of their rings",
            title="Events in categories that failed a gate",
            advice=f"{_why(found, held)}: look at the fit, refit it with `calib reduce --category`,"
            " or make leading_pt coarser",
        ),
    ]
    values = found.factor[np.isfinite(found.factor)]
    low, high = settings.gates.factor_range
    outside = np.maximum(values / high, low / values)
    worst = float(values[np.argmax(outside)]) if len(values) else np.nan
    is_low = bool(len(values)) and low / worst > worst / high
    name = (
        found.members.names[int(np.nanargmin(np.abs(found.factor - worst)))] if len(values) else ""
    )
    limit = Check.at_least if is_low else Check.at_most
    checks.append(
        limit(
            "extreme_factor",
            worst,
            low if is_low else high,
            f"the factor nearest to, or beyond, a limit of [{low:g}, {high:g}]: {name}",
            title="Most extreme factor",
            advice=f"look at {name}: ptErr in other units, another campaign, or a fit in the wrong"
            " minimum; a range that is right is set by gates.factor_range"
            if name
            else "no category has a factor: take more events, or coarser leading_pt",
        )
    )
    own = [c for c, s in enumerate(found.own) if s is Status.OK]
    if own:
        p = [probability(found.curves.chi2[c], int(found.curves.ndf[c])) for c in own]
        worst_fit = found.members.names[own[int(np.argmin(p))]]
        checks.append(
            Check.at_least(
                "worst_chi2_probability",
                1 - (1 - min(p)) ** len(p),
                1e-4,
                f"global p-value of {len(p)} fits; the worst: {worst_fit}",
                title="Goodness of fit",
                advice=f"look at the pulls of {worst_fit}: background (fit.background), tails"
                " of the line shape (settings.line_shape), or a narrower fit.range",
            )
        )
    return checks + line_checks(found)


def _why(found: FitSet, chosen: BoolArray) -> str:
    """Return the commonest reason of some categories, and the first that has it."""
    at = np.flatnonzero(chosen)
    if not len(at):
        return ""
    reason = Counter(found.own[i] for i in at).most_common(1)[0][0]
    first = next(i for i in at if found.own[i] is reason)
    return f"mostly {reason.value.replace('_', ' ')}, first in {found.members.names[first]}"


def agreement(opinion: pd.DataFrame) -> Check:
    """Return whether the independent fits agree: all but one, or all but 2 %."""
    n, agree = len(opinion), int(opinion["minuit_agrees"].sum())
    least = min(0.98, 1 - 1 / max(n, 1))
    share = agree / n if n else 1.0
    other = opinion[~opinion["minuit_agrees"].astype(bool)] if n else opinion
    return Check.at_least(
        "second_opinion",
        share,
        least,
        f"share of {n} fits for which iminuit finds the same",
        title="Cross-check by iminuit",
        advice=f"look at the fit of {_name_of(other)}: two minima, or a parameter at its limit",
    )


def _name_of(rows: pd.DataFrame) -> str:
    return str(rows["category"].iloc[0]) if len(rows) and "category" in rows else "these categories"


def covariance(found: FitSet) -> dict[str, AnyArray]:
    """Return ``names, values, covariance`` of the factors, NaN where one cannot be used.

    What categories have in common correlates them: the rings' factors, the slope, and the
    systematic variations, which are kept apart as ``syst_NAME`` (change of each factor for one
    standard deviation); ``statistical`` is the covariance without them.
    """
    size = np.outer(found.factor, found.factor)
    return {
        "names": np.array(found.members.names),
        "values": found.factor,
        "covariance": size * found.covariance,
        "statistical": size * found.statistical,
        **{f"syst_{name}": found.factor * shift for name, shift in found.systematics.items()},
    }
