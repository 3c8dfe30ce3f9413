"""Closure: a second run on the corrected events, half against half, and along other axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm

from calib.arrays import Array, BoolArray
from calib.fit_all import fit_categories
from calib.histograms import Sums
from calib.kernel.result import CategoryFits
from calib.results import Check, Closure, Pass, Reduction, Status
from calib.scale.model import KINDS

from . import axes
from .grid import Grid, grid
from .passes import CLOSURE, values_of
from .peaks import Source, sums_of, template_mass
from .reduction import Kind, reduce_kind
from .settings import Settings

AGAIN = 0.5
"""Largest move of a second run on the corrected events, in units of its error."""

PROBABILITY = 1e-3
TOLERANCE = 5e-5
"""Of the mass scale along an axis: half of the field's target."""

COLUMNS = (
    "bin", "expected", "fitted", "error", "pull", "status", "kind", "sample", "variable",
    "charge", "low", "high", "before", "before_err",
)  # fmt: skip


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
    reduction : Reduction
    """
    walk = walk_of(reduction)

    def again(halves: tuple[int, ...], with_likelihood: bool = False) -> Kind:
        return reduce_kind(
            "data", sources, settings, walk, halves=halves, with_likelihood=with_likelihood
        )

    whole = again((0, 1), settings.method == "likelihood")
    first, second = again((0,)), again((1,))
    good = np.tile(np.asarray(reduction.state["status"]) == Status.OK.code, len(KINDS))
    frames = [_second_run(whole, good), _halves(first, second, good)]
    checks = [_check_again(frames[0]), _check_halves(first, second, good)]
    for resonance, (sample, data, reference) in looks.items():
        table = _along_axes(grid(settings, resonance), sample, data, reference, settings)
        frames.append(table)
        checks.append(_check_axes(table, resonance))
        if resonance in settings.held_out:
            row = _all_together(table, resonance)
            frames.append(row)
            checks.append(_check_held_out(row, resonance))
    table = pd.concat([f for f in frames if len(f)], ignore_index=True)
    return Closure(table.reindex(columns=COLUMNS), tuple(checks))


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
    return pd.DataFrame({
        "bin": [f"{kind}_{n}" for n in names], "expected": 0.0, "fitted": values,
        "error": errors, "pull": np.where(known, values / errors, np.nan),
        "status": np.where(known, Status.OK.value, Status.NOT_DETERMINED.value), "kind": kind,
    })  # fmt: skip


def _check_again(table: pd.DataFrame) -> Check:
    pulls = table["pull"].dropna().abs()
    worst = float(pulls.max()) if len(pulls) else np.nan  # nothing determined is nothing shown
    return Check(
        "closure_second_run", worst, AGAIN, bool(worst <= AGAIN),
        "largest parameter found on the corrected events, in units of its error",
    )  # fmt: skip


def _check_halves(first: Kind, second: Kind, good: BoolArray) -> Check:
    at = np.flatnonzero(np.isfinite(first.chi2.values) & np.isfinite(second.chi2.values) & good)
    if not len(at):
        return Check("closure_halves", np.nan, PROBABILITY, False, "no parameter is determined")
    d = (second.chi2.values - first.chi2.values)[at]
    both = first.chi2.covariance[np.ix_(at, at)] + second.chi2.covariance[np.ix_(at, at)]
    chi2 = float(d @ np.linalg.pinv(both, rcond=1e-10, hermitian=True) @ d)
    p = float(chi2_distribution.sf(chi2, len(at)))
    return Check(
        "closure_halves", p, PROBABILITY, p >= PROBABILITY,
        f"probability of the difference between the halves, chi2/ndf {chi2:.0f}/{len(at)}",
    )  # fmt: skip


# along the axes ----------------------------------------------------------------------------------
def _along_axes(
    g: Grid, sample: str, data: Sums, reference: Sums, settings: Settings
) -> pd.DataFrame:
    own, prefix = settings.of(g.resonance), "axes/reference"
    template, _ = sums_of(reference, f"{prefix}/template")
    made, made_variance = sums_of(reference, f"{prefix}/mass")
    mass = template_mass(reference, "reference", g.gen_edges)

    def fit(counts: Array, variance: Array | None, background: str) -> CategoryFits:
        return fit_categories(
            counts, g.mass_edges, template, mass, variance=variance,
            background=background, template_errors=False,  # type: ignore[arg-type]
            min_events=settings.gates.min_events,
        )  # fmt: skip

    standard = fit(made, made_variance, "none")
    columns: dict[str, Array] = {}
    for name in ("before", "after"):
        found = fit(*sums_of(data, f"axes/{name}"), own.background)
        ratio = found.mu / standard.mu
        error = ratio * np.hypot(found.mu_err / found.mu, standard.mu_err / standard.mu)
        sound = found.ok | ((found.status == "at_limit") & ~found.at_limit[:, :2].any(1))
        good = sound & standard.ok
        columns[name] = np.where(good, ratio, np.nan)
        columns[f"{name}_err"] = np.where(good, error, np.nan)
    rows = axes.rows(settings, g.resonance)
    known = np.isfinite(columns["after"])
    table = pd.DataFrame({
        "bin": [f"{g.resonance}_{r.variable}_{r.charge}_{r.low:.3g}" for r in rows],
        "expected": 1.0, "fitted": columns["after"], "error": columns["after_err"],
        "pull": (columns["after"] - 1) / columns["after_err"],
        "status": np.where(known, Status.OK.value, Status.TOO_FEW_EVENTS.value),
        "kind": "axis", "sample": sample, "variable": [r.variable for r in rows],
        "charge": [r.charge for r in rows], "low": [r.low for r in rows],
        "high": [r.high for r in rows], "before": columns["before"],
        "before_err": columns["before_err"],
    })  # fmt: skip
    return table


def _check_axes(table: pd.DataFrame, resonance: str) -> Check:
    """Return whether the mass is flat in eta and phi.

    Bins of pt are shown and not judged: a bin of the reconstructed pt moves the mass by the slope
    of the spectrum, which the reference has only as well as its simulation.
    """
    own = table[table["variable"] != "pt"]
    error = np.hypot(own["error"], TOLERANCE)
    pull = np.abs((own["fitted"] - 1) / error).to_numpy()
    n = int(np.isfinite(pull).sum())
    worst = float(np.max(np.nan_to_num(pull), initial=0.0)) if n else np.nan
    p = float(-np.expm1(n * np.log1p(-2 * norm.sf(worst)))) if n else 0.0
    return Check(
        f"closure_axes_{resonance}", p, PROBABILITY, p >= PROBABILITY,
        f"probability of the worst of {n} bins of eta and phi ({worst:.1f} standard deviations,"
        f" with a tolerance of {TOLERANCE:g})",
    )  # fmt: skip


def _all_together(table: pd.DataFrame, resonance: str) -> pd.DataFrame:
    """Return the mean of a held-out resonance over eta of the positive muon."""
    own = table[(table["variable"] == "eta") & (table["charge"] == "plus") & table["pull"].notna()]
    weight = 1 / own["error"].to_numpy() ** 2
    out = {"bin": f"{resonance}_held_out", "expected": 1.0, "kind": "held_out"}
    for value, error in (("fitted", "error"), ("before", "before_err")):
        w = 1 / own[error].to_numpy() ** 2
        out[value] = float((w * own[value]).sum() / w.sum()) if len(own) else np.nan
        out[error] = float(w.sum() ** -0.5) if len(own) else np.nan
    out["pull"] = (out["fitted"] - 1) / out["error"]  # type: ignore[operator]
    out["status"] = Status.OK.value if len(weight) else Status.TOO_FEW_EVENTS.value
    return pd.DataFrame([out])


def _check_held_out(row: pd.DataFrame, resonance: str) -> Check:
    value, error = float(row["fitted"].iloc[0]), float(row["error"].iloc[0])
    pull = abs(value - 1) / float(np.hypot(error, TOLERANCE))
    return Check(
        f"closure_held_out_{resonance}", pull, 3.0, bool(pull <= 3.0),
        f"mass scale of the held-out resonance after the correction: 1 {value - 1:+.1e}"
        f" +- {error:.1e}",
    )  # fmt: skip
