"""Closure: the result of one half, tested on the events of the other.

Bins, factors and templates of a half are those of the other half's result. In each row of each
kind (`closure_rows`) the width that the events prefer is compared with the median calibrated
prediction by the one distance of `curves`; the error of the factors enters with its
correlations. Both directions are kept apart: averaged, the differences of the two halves would
cancel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calib.distributions import chi2_sf, normal_sf
from calib.events.histograms import Sums
from calib.later import pandas as pd
from calib.quality.closure import coverage
from calib.results import Check, Closure, Curve, Pass, Reduction, Status
from calib.types import Array

from .settings import Settings
from .sums.closure_rows import NAME, Kinds, kinds_of, prefix_of
from .sums.collect import unit_of
from .widths.curves import Curves, curves
from .widths.fits import Observed
from .widths.peaks import prepare

__all__ = ["NAME", "evaluate", "walk_of"]

TEXTS = {
    "resolution": "calibrated resolution",
    "category": "categories of the factors",
    "leading_pt": "finer leading pt",
    "abs_eta": "finer |eta| of both muons",
    "phi": "phi of the leading muon",
    "period": "periods of runs",
}
ADVICE = {
    "resolution": "ptErr fluctuates beyond the width, or its scale depends on more than the"
    " categories: make leading_pt or abs_eta finer, or state the difference as a systematic"
    " variation",
    "category": "the two halves of the events disagree beyond the errors of the factors: look at"
    " the fits of this category",
    "leading_pt": "ptErr is wrong in a way that depends on pt within the categories: make"
    " leading_pt finer there, or apply the factors of muons (settings.apply: muon)",
    "abs_eta": "the resolution changes inside the |eta| rings: apply the factors of muons"
    " (settings.apply: muon), or make abs_eta finer",
    "phi": "ptErr is wrong in a way that depends on phi, which the factors average over: look for a"
    " part of the detector that was off, or state the difference as a systematic variation",
    "period": "the resolution changed with time: calibrate the periods apart (one run of each,"
    " published with `--since` and `--until`)",
}
TITLES = {
    "resolution": "Closure in predicted resolution",
    "category": "Closure by category",
    "leading_pt": "Closure in leading pt",
    "abs_eta": "Closure in |eta|",
    "phi": "Closure in phi",
    "period": "Closure by period",
}
MORE = "take more events, or lower settings.closure.min_events"


def walk_of(reduction: Reduction) -> Pass:
    """Return the pass over the events that the closure needs."""
    names = (
        "half_factor",
        "half_log_rings",
        "half_stretch",
        "half_line",
        "half_muons",
        "half_muons_covariance",
        "ring_of",
        "periods",
        "closure_model",
    )
    known = {name: reduction.state[name] for name in names if name in reduction.state}
    return Pass(NAME, known)


@dataclass(frozen=True)
class _Compared:
    """One kind of factors, in all rows of both halves: the table, z, and their correlation."""

    table: pd.DataFrame
    z: Array
    correlation: Array
    pictures: tuple[Curve, ...]


def evaluate(
    target: Sums, made: Sums | None, reduction: Reduction, settings: Settings, resonance: str
) -> Closure:
    """Return the table of pulls, and the checks of the verdict.

    Parameters
    ----------
    target : mapping of name to array
        Sums of the pass ``closure``, of the target.
    made : mapping of name to array, or None
        Sums of the sample that the templates are made from; None: the model has none.
    reduction : Reduction
        The result that is tested, with its halves in the state.
    settings : Settings
        Bins and limits.
    resonance : str
        ``z`` or ``h``.

    Returns
    -------
    Closure
        One row for each bin, kind and half.
    """
    walk = walk_of(reduction)
    periods = np.asarray(walk.values["periods"])
    tables: list[pd.DataFrame] = []
    checks: list[Check] = []
    pictures: list[Curve] = []
    for muons in (False, True):
        if muons and "half_muons" not in walk.values:
            continue
        kinds = kinds_of(settings, periods, muons)
        found = _compared(target, made, reduction, settings, resonance, kinds, muons)
        tables.append(found.table)
        pictures += found.pictures
        for kind in kinds.labels:
            is_judged = kind not in ("resolution", "leading_pt", "abs_eta") or (
                muons == (settings.apply == "muon")
            )
            if is_judged:
                checks += _checks(found, kind, settings)
    table = pd.concat(tables, ignore_index=True)
    return Closure(table, tuple(checks), tuple(pictures))


def _compared(
    target: Sums,
    made: Sums | None,
    reduction: Reduction,
    settings: Settings,
    resonance: str,
    kinds: Kinds,
    muons: bool,
) -> _Compared:
    """Return the rows of both halves, fitted and expected."""
    n, prefix = len(kinds), prefix_of(muons)
    if made is None or f"closure_{prefix}template" not in made:
        return _Compared(pd.DataFrame(), np.array([]), np.zeros((0, 0)), ())
    n_values = np.asarray(reduction.state["half_muons"]).shape[1] if muons else 0
    data, composition = _observed(target, kinds, muons, n_values)
    rows = data.rows(settings)
    raw = {k: made[f"closure_{prefix}{k}"] for k in ("template", "residual", "pairs")}
    unit = unit_of(resonance)
    grid = prepare(raw, [(0, 0)] * (2 * n), settings.mass_edges, unit)
    found = curves(rows, grid.shapes([[r] for r in range(2 * n)], np.zeros(1)))
    expected, expected_error = np.array(data.medians).T
    names = [(kind, name) for kind, labels in kinds.labels.items() for name in labels]
    edited = np.ones(2 * n)
    if not muons:
        # within a category the factor is one number: an edit needs no events
        first = kinds.first("category")
        state = reduction.state
        change = (
            np.asarray(state["half_factor_edited"])[::-1] / np.asarray(state["half_factor"])[::-1]
        )
        for part in (0, 1):
            edited[part * n + first : part * n + first + change.shape[1]] = change[part]
    expected = expected * edited
    common = _common_error(reduction, composition, muons)
    own = expected_error / expected
    total = common + np.diag(own**2 + settings.closure.tolerance**2)
    x0 = found.at_width(expected)
    slope = np.abs(found.relative_slope(np.nan_to_num(x0)))
    slope = np.where(slope > 0.2, slope, 1.0)
    spread = np.sqrt(np.diag(total)) / slope
    z = found.distance(x0, spread)
    status = _status(found, data, x0, slope, z, settings)
    tested = np.array([s is Status.OK for s in status])
    z = np.where(tested, z, np.nan)
    covariance = total + np.diag((slope * np.nan_to_num(found.error)) ** 2)
    size = np.sqrt(np.diag(covariance))
    fitted = found.width(np.nan_to_num(found.best))
    table = pd.DataFrame(
        {
            "bin": [name for _, name in names] * 2,
            "expected": expected,
            "fitted": np.where(tested, fitted, np.nan),
            "error": np.where(tested, expected * size, np.nan),
            "pull": z,
            "status": [s.value for s in status],
            "kind": [kind for kind, _ in names] * 2,
            "factors": "muon" if muons else "category",
            "half": np.repeat([0, 1], n),
            "n_events": data.entries,
            "chi2": found.chi2,
            "ndf": found.ndf,
        }
    )
    pictures = tuple(
        replace(found.drawn[r], name=f"{names[r % n][1]}, half {r // n}", group="closure")
        for r in range(2 * n)
        if tested[r] and names[r % n][0] == "resolution" and not muons
    )
    return _Compared(table, z, covariance / np.outer(size, size), pictures)


def _status(
    found: Curves, data: Observed, x0: Array, slope: Array, z: Array, settings: Settings
) -> list[Status]:
    """Return why each row was tested, or was not."""
    status = []
    for r in range(len(x0)):
        if data.effective[r] < settings.closure.min_events:
            status.append(Status.TOO_FEW_EVENTS)
        elif not np.isfinite(found.error[r]):
            status.append(Status.NO_TEMPLATE)
        elif slope[r] * found.error[r] > settings.closure.max_error:
            status.append(Status.TOO_FEW_EVENTS)
        elif not found.converged[r]:
            status.append(Status.FIT_FAILED)
        elif not np.isfinite(z[r]):
            status.append(Status.NOT_DETERMINED)
        else:
            status.append(Status.OK)
    return status


def _common_error(reduction: Reduction, rows: Array, muons: bool) -> Array:
    """Return the relative covariance that the other half's result brings to all rows.

    Parameters
    ----------
    reduction : Reduction
    rows : array, shape (2 rows, values)
        How the prediction of each row, of both halves, hangs on each value of the result: on the
        factors of the categories, or on the values of the muons' factors.
    muons : bool
    """
    name = "half_muons_covariance" if muons else "half_covariance"
    total = np.zeros((len(rows), len(rows)))
    n = len(rows) // 2
    for part in (0, 1):
        own = slice(part * n, (part + 1) * n)
        covariance = np.nan_to_num(np.asarray(reduction.state[name])[1 - part])
        total[own, own] = rows[own] @ covariance @ rows[own].T
    return total


def _observed(target: Sums, kinds: Kinds, muons: bool, n_values: int) -> tuple[Observed, Array]:
    """Return what was counted in the rows of both halves, and how they hang on the values."""
    prefix = prefix_of(muons)

    def total(what: str) -> Array:
        own = [np.split(np.asarray(target[f"{prefix}{k}{what}"]), 2) for k in kinds.labels]
        return np.concatenate([o[part] for part in (0, 1) for o in own]).astype(np.float64)

    counts = total("/sumw")
    if muons:
        rows = np.stack([total(f"/mean_share_{k}") for k in range(n_values)], axis=1)
        weight = counts.sum(axis=1)
    else:
        rows = np.maximum(total("_composition/sumw"), 0.0)
        weight = rows.sum(axis=1)
    rows = rows / np.where(weight > 0, weight, np.inf)[:, None]
    data = Observed(
        counts,
        total("/sumw2"),
        total("_expected/sumw"),
        total("_expected/sumw2"),
        total("/counts").sum(axis=1).astype(np.int64),
        np.full((len(counts), 2), 0.5),
        np.zeros(len(counts)),
    )
    return data, np.asarray(rows)


def _checks(found: _Compared, kind: str, settings: Settings) -> list[Check]:
    """Return the check of one kind of rows; of the resolution, how much of it was tested too."""
    name = "closure" if kind == "resolution" else f"closure_{kind}"
    least = settings.closure.probability
    if not len(found.table):
        text = "no template could be made for the closure"
        return [Check.at_least(name, 0.0, least, text, title=TITLES[kind], advice=MORE)]
    own = (found.table["kind"] == kind).to_numpy()
    z = np.where(own, found.z, np.nan)
    tested = np.isfinite(z)
    failed = own & found.table["status"].isin(
        [s.value for s in (Status.FIT_FAILED, Status.NOT_DETERMINED)]
    )
    checks = []
    if kind == "resolution" and tested.any():
        text = (
            f"share of the events in the {int(tested.sum())} bins of resolution, of"
            f" {int(own.sum())} in both halves, with at least {settings.closure.min_events}"
        )
        checks.append(coverage(found.table, own, settings.closure.coverage, text))
    if not tested.any():
        enough = int(failed.sum())
        text = f"no bin of {TEXTS[kind]} in a half has enough events to be tested"
        return (
            [*checks, Check.at_least(name, 0.0, least, text, title=TITLES[kind], advice=MORE)]
            if kind == "resolution" or enough
            else checks
        )
    probability, worst, shape = _probability(z, found)
    at = found.table.iloc[worst]
    text = (
        f"p-value of {int(tested.sum())} pulls in bins of {TEXTS[kind]}: largest"
        f" {z[worst]:+.2f} in {at['bin']}, half {at['half']} ({at['fitted']:.3f} GeV for"
        f" {at['expected']:.3f}); {shape}"
    )
    advice = f"{at['bin']}: {ADVICE[kind]}"
    if failed.any():
        probability = 0.0
        names = ", ".join(f"{b}" for b in found.table.loc[failed, "bin"].head(3))
        text += f"; {int(failed.sum())} with enough events could not be tested ({names})"
        advice = f"look at the closure fits of {names}, which failed"
    return [
        *checks,
        Check.at_least(name, probability, least, text, title=TITLES[kind], advice=advice),
    ]


def _probability(z: Array, found: _Compared) -> tuple[float, int, str]:
    """Return the probability of pulls, the row of the worst, and a word on their chi2.

    The least of the worst pull, given their number, and of the chi2 of each half with the
    correlations that the other half's factors bring; times their number.
    """
    tested = np.flatnonzero(np.isfinite(z))
    worst = int(tested[np.argmax(np.abs(z[tested]))])
    single = 2 * normal_sf(abs(z[worst]))
    with np.errstate(divide="ignore"):  # a pull of 0, where all is within the tolerance
        ps = [float(-np.expm1(len(tested) * np.log1p(-single)))]
    words = []
    half = found.table["half"].to_numpy()
    for part in (0, 1):
        at = tested[half[tested] == part]
        if not len(at):
            continue
        correlation = found.correlation[np.ix_(at, at)]
        chi2 = float(z[at] @ np.linalg.solve(correlation, z[at]))
        ps.append(float(chi2_sf(chi2, len(at))))
        words.append(f"{chi2:.0f}/{len(at)}")
    return min(1.0, len(ps) * min(ps)), worst, f"chi2 of the halves {', '.join(words)}"
