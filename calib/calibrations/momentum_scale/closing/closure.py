"""Closure: a second run on the corrected events, half against half, and along other axes.

The halves of the data are compared with each other through the same reference: what its noise does
to one it does to the other, and it is in neither of their errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calib.calibrations.momentum_scale.constants.peaks import Source
from calib.calibrations.momentum_scale.constants.reduction import Kind, reduce_kind
from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.grid import grid
from calib.calibrations.momentum_scale.sums.passes import CLOSURE, values_of
from calib.distributions import chi2_sf
from calib.events.histograms import Sums
from calib.fitting.scale.model import KINDS
from calib.later import pandas as pd
from calib.physics.constants import LABELS
from calib.results import Check, Closure, Pass, Reduction, Status
from calib.types import Array, BoolArray

from . import along, cross_validation
from .along import PROBABILITY, TOLERANCE

AGAIN = 0.5
"""Largest move of a second run on the corrected events, in units of its error."""


COLUMNS = (
    "bin",
    "expected",
    "fitted",
    "error",
    "pull",
    "status",
    "kind",
    "sample",
    "variable",
    "charge",
    "low",
    "high",
    "before",
    "before_err",
    "half",
)


def walk_of(reduction: Reduction) -> Pass:
    """Return the pass in which the final corrections are applied."""
    return Pass(CLOSURE, values_of(reduction.state))


def evaluate(
    sources: Sequence[Source],
    looks: Mapping[str, tuple[str, Sums, Sums]],
    settings: Settings,
    reduction: Reduction,
) -> Closure:
    """Return the closure.

    Parameters
    ----------
    sources : sequence of Source
        Categories of the corrected data.
    looks : mapping of resonance to (sample, sums of the data, sums of the reference)
        Histograms along the axes, held-out resonances among them.
    settings : Settings
        Edges, gates and limits.
    reduction : Reduction
        The result that is tested.

    Returns
    -------
    Closure
        Parameters of the halves, and bins of the axes.
    """
    walk = walk_of(reduction)

    def again(
        halves: tuple[int, ...], *, with_likelihood: bool = False, reference_errors: bool = True
    ) -> Kind:
        return reduce_kind(
            "data",
            sources,
            settings,
            walk,
            halves=halves,
            with_likelihood=with_likelihood,
            reference_errors=reference_errors,
        )

    whole = again((0, 1), with_likelihood=settings.method == "likelihood")
    first, second = (again((h,), reference_errors=False) for h in (0, 1))
    good = np.tile(np.asarray(reduction.state["status"]) == Status.OK.code, len(KINDS))
    frames = [_second_run(whole, good), _halves(first, second, good)]
    checks = [_check_again(frames[0]), _check_halves(first, second, good)]
    halves, events = cross_validation.halves_of(first, second), [p.n_events for p in whole.peaks]
    for resonance, (sample, data, reference) in looks.items():
        g = grid(settings, resonance)
        found = along.fits_of(g, data, reference, settings)
        table = along.table_of(g, sample, found, settings)
        tests = cross_validation.crossed(resonance, found, halves, settings, events)
        frames += [table, cross_validation.crossed_rows(table, tests)]
        mean, error = cross_validation.mean_of(resonance, table, found, whole, settings)
        checks += [
            along.check_eta(resonance, tests, frames[-1]),
            along.check_phi(resonance, table),
            along.check_period(resonance, table),
            along.check_mean(resonance, mean, error),
        ]
        frames.append(_mean_row(resonance, mean, error))
        if resonance in settings.held_out:
            row = _all_together(table, resonance, error)
            frames.append(row)
            checks.append(_check_held_out(row, resonance))
    table = pd.concat([f for f in frames if len(f)], ignore_index=True)
    table = table.reindex(columns=COLUMNS)
    table["half"] = table["half"].fillna("all")
    return Closure(table, tuple(checks))


def _second_run(kind: Kind, good: BoolArray) -> pd.DataFrame:
    found = kind.chosen
    return _parameter_rows("again", found.names, found.values, found.errors, good)


def _halves(first: Kind, second: Kind, good: BoolArray) -> pd.DataFrame:
    difference = second.chi2.values - first.chi2.values
    error = np.hypot(first.chi2.errors, second.chi2.errors)
    return _parameter_rows("half", first.chi2.names, difference, error, good)


def _parameter_rows(
    kind: str, names: Sequence[str], values: Array, errors: Array, good: BoolArray
) -> pd.DataFrame:
    known = np.isfinite(values) & np.isfinite(errors) & good
    return pd.DataFrame(
        {
            "bin": [f"{kind}_{n}" for n in names],
            "expected": 0.0,
            "fitted": values,
            "error": errors,
            "pull": np.where(known, values / errors, np.nan),
            "status": np.where(known, Status.OK.value, Status.NOT_DETERMINED.value),
            "kind": kind,
        }
    )


def _check_again(table: pd.DataFrame) -> Check:
    pulls = table["pull"].dropna().abs()
    worst = float(pulls.max()) if len(pulls) else np.nan  # nothing determined is nothing shown
    name = str(table.loc[table["pull"].abs().idxmax(), "bin"]) if len(pulls) else ""
    return Check.at_most(
        "closure_second_run",
        worst,
        AGAIN,
        f"largest parameter left on the corrected events, in units of its error: {name}",
        title="Nothing left after the correction",
        advice=f"{name} is found again on corrected events: let the iteration converge further"
        " (settings.convergence), or take coarser eta bins where it is weak"
        if name
        else "no parameter is determined: take more events, or coarser eta bins",
    )


def _check_halves(first: Kind, second: Kind, good: BoolArray) -> Check:
    at = np.flatnonzero(np.isfinite(first.chi2.values) & np.isfinite(second.chi2.values) & good)
    if not len(at):
        return Check.at_least(
            "closure_halves",
            np.nan,
            PROBABILITY,
            "no parameter is determined in both halves",
            title=HALVES,
            advice="take more events, or coarser eta bins (settings.eta)",
        )
    d = (second.chi2.values - first.chi2.values)[at]
    both = first.chi2.covariance[np.ix_(at, at)] + second.chi2.covariance[np.ix_(at, at)]
    chi2, ndf = distance2(d, both)
    p = float(chi2_sf(chi2, ndf))
    names = [first.chi2.names[i] for i in at]
    worst = names[int(np.argmax(np.abs(d) / np.sqrt(np.diagonal(both))))]
    return Check.at_least(
        "closure_halves",
        p,
        PROBABILITY,
        f"p-value of the difference between the halves, chi2/ndf {chi2:.0f}/{ndf}; the largest:"
        f" {worst}",
        title=HALVES,
        advice=f"{worst} differs between random halves of the events by more than its error: look"
        " for events that are in the sample twice, and for fits that failed in one half",
    )


HALVES = "Halves agree"


def distance2(difference: Array, covariance: Array) -> tuple[float, int]:
    """Return chi2 and its number of degrees of freedom.

    In units of the errors: the variances of e and c^2 are 15 orders of magnitude apart, and a
    pseudo-inverse of the covariance as it stands leaves out all c^2.

    Parameters
    ----------
    difference : array, shape (n,)
        In the units of the parameters.
    covariance : array, shape (n, n)
        Of these.

    Returns
    -------
    float
        chi2.
    int
        Directions that are known.
    """
    error = np.sqrt(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(error, error))
    kept = values > 1e-9 * values[-1]
    turned = vectors[:, kept].T @ (difference / error)
    return float((turned**2 / values[kept]).sum()), int(kept.sum())


# a held-out resonance -----------------------------------------------------------------------------
def _mean_row(resonance: str, mean: float, error: float) -> pd.DataFrame:
    """Return the mean over phi as a row of the table."""
    known = bool(np.isfinite(mean) and np.isfinite(error))
    return pd.DataFrame(
        [
            {
                "bin": f"{resonance}_mean",
                "expected": 1.0,
                "fitted": float(np.exp(mean)),
                "error": float(np.exp(mean) * error),
                "pull": mean / error if known else np.nan,
                "status": (Status.OK if known else Status.TOO_FEW_EVENTS).value,
                "kind": "mean",
                "half": "all",
            }
        ]
    )


def _all_together(table: pd.DataFrame, resonance: str, least: float) -> pd.DataFrame:
    """Return the mean of a held-out resonance over eta of the positive muon.

    Its error is at least that of the mean over phi, which has the errors of the constants.
    """
    own = table[(table["variable"] == "eta") & (table["charge"] == "plus") & (table["error"] > 0)]
    weight = 1 / own["error"].to_numpy() ** 2
    out = {"bin": f"{resonance}_held_out", "expected": 1.0, "kind": "held_out"}
    for value, error in (("fitted", "error"), ("before", "before_err")):
        w = 1 / own[error].to_numpy() ** 2
        out[value] = float((w * own[value]).sum() / w.sum()) if len(own) else np.nan
        out[error] = float(w.sum() ** -0.5) if len(own) else np.nan
    out["error"] = float(np.fmax(out["error"], least))  # type: ignore[call-overload]
    out["pull"] = (out["fitted"] - 1) / out["error"]  # type: ignore[operator]
    out["status"] = Status.OK.value if len(weight) else Status.TOO_FEW_EVENTS.value
    return pd.DataFrame([out])


def _check_held_out(row: pd.DataFrame, resonance: str) -> Check:
    value, error = float(row["fitted"].iloc[0]), float(row["error"].iloc[0])
    pull = abs(value - 1) / float(np.hypot(error, TOLERANCE))
    label = LABELS[resonance]
    return Check.at_most(
        f"closure_held_out_{resonance}",
        pull,
        3.0,
        f"pull of the mass scale of the held-out {label} after the correction: 1"
        f" {value - 1:+.1e} ± {error:.1e}",
        title=f"Held-out {label}",
        advice=f"the constants of the other resonances do not hold at the momenta of {label}: take"
        f" {label} out of settings.held_out, or state the difference as a systematic uncertainty",
    )
