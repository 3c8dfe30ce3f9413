"""The report's sections of the momentum scale, with its conventions in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib.calibrations.momentum_scale.payloads import reading
from calib.calibrations.momentum_scale.payloads.payload import NAME
from calib.fitting.scale.model import KINDS
from calib.later import pandas as pd
from calib.results import Closure, Reduction, Section, Status
from calib.types import Array

CONVENTION = (
    "Conventions: k = 1/pt; the corrected curvature is (1 + A - e k) k + q M, with q the charge."
    " A > 0 lowers every pt by the share A; e > 0 adds about e to every pt; M > 0 lowers the pt of"
    " positive muons and raises that of negative ones, the more the larger pt. The relative"
    " resolution is (sigma_k/k)^2 = a^2 + c^2 pt^2; a or c below zero stand for a negative square."
)
SHOWN = 200
"""Rows of the dropped categories that the page shows; dropped.csv has all."""


def sections(
    reduction: Reduction, closure: Closure | None, earlier: Mapping[str, Any] | None
) -> Sequence[Section]:
    """Return the sections; ``earlier`` is a payload to compare with."""
    found = [_parameters(reduction), _extraction(reduction), _residuals(reduction)]
    if closure is not None and len(_axis_rows(closure)):
        found.append(_along_axes(closure))
    if "iterations" in reduction.tables and len(reduction.tables["iterations"]):
        found.append(_iteration(reduction))
    if earlier is not None:
        found.append(_moved(reduction, earlier))
    found.append(_dropped(reduction))
    found += _appendix(reduction)
    return found


def edges_of(table: pd.DataFrame) -> Array:
    """Return the edges of the eta bins of a table of parameters, shape (n + 1,)."""
    return np.append(table["eta_low"].to_numpy(dtype=float), float(table["eta_high"].iloc[-1]))


def of_data(fits: pd.DataFrame) -> pd.DataFrame:
    """Return the fits of the data: of each resonance the first sample, the simulation follows."""
    first = fits.drop_duplicates("resonance")[["resonance", "sample"]]
    return fits.merge(first, on=["resonance", "sample"])


# parameters --------------------------------------------------------------------------------------
def _parameters(reduction: Reduction) -> Section:
    from . import figures

    method = str(reduction.state.get("method", "likelihood"))
    tables = {f"data, {method} (published)": reduction.tables["parameters"]}
    for other in ("likelihood", "chi2"):
        if other != method and f"parameters_{other}" in reduction.tables:
            tables[f"data, {other}"] = reduction.tables[f"parameters_{other}"]
    if "parameters_simulation" in reduction.tables:
        tables["simulation"] = reduction.tables["parameters_simulation"]
    table = reduction.tables["parameters"]
    text = (
        f"{_sizes(table)} The band and the filled points are what is published, from the"
        f" extraction by {method}; the bars are one standard deviation, correlated between the"
        " parameters of a bin and between bins."
    )
    bad = table[table["status"] != Status.OK.value]
    if len(bad):
        bins = ", ".join(f"[{r.eta_low:g}, {r.eta_high:g})" for r in bad.itertuples())
        text += f" Not determined, so that pt stays as it is there: eta {bins}."
    text += _systematic(reduction)
    apart = table.columns.str.contains("_stat_|_syst_") | table.columns.str.match("a2|c2")
    shown = table.loc[:, ~apart]
    return Section(
        "Scale and resolution of the muons",
        f"{text}\n\n{CONVENTION}",
        {"parameters": shown},
        {"parameters": figures.parameters(tables)},
    )


def _systematic(reduction: Reduction) -> str:
    """Return what the errors hold beside the statistics, and what the tail below the peak says."""
    shift = reduction.state.get("syst_fsr")
    if shift is None:
        return ""
    table, n = reduction.tables["decorrelated"], len(reduction.state["eta_edges"]) - 1
    moved = np.asarray(shift)[:n] - table["k_mean"].to_numpy() * np.asarray(shift)[n : 2 * n]
    text = (
        " The errors hold, beside those of the statistics, final-state radiation x 1.1 against the"
        f" reference, which moves k by {np.nanmean(moved):+.1e} in the mean over the eta bins"
        " (syst_fsr in covariance.npz and in the payload; parameters.csv has the statistical"
        " errors in columns of their own)."
    )
    for check in reduction.checks:
        if check.name.startswith("tail_below_peak"):
            text += f" {check.text[:1].upper()}{check.text[1:]}."
    return text


def _sizes(table: pd.DataFrame) -> str:
    def span(name: str, unit: float, digits: int, word: str) -> str:
        values = unit * table[name].to_numpy(dtype=float)
        if not np.isfinite(values).any():
            return f"{name} is not determined"
        err = np.nanmedian(unit * table[f"{name}_err"].to_numpy(dtype=float))
        low, high = np.nanmin(values), np.nanmax(values)
        return f"{name} runs from {low:.{digits}f} to {high:.{digits}f} {word} (error {err:.2g})"

    return (
        f"{span('A', 1e3, 2, 'per mille')}, {span('e', 1e3, 1, 'MeV')},"
        f" {span('M', 1e5, 2, 'x 1e-5/GeV')}; errors are the median of the eta bins."
    )


# extraction --------------------------------------------------------------------------------------
def _extraction(reduction: Reduction) -> Section:
    from . import figures

    tables, drawn = {"extraction": reduction.tables["extraction"]}, {}
    text = "How well A, e, M, a and c of all eta bins together describe all categories."
    for row in reduction.tables["extraction"].itertuples():
        if row.method == "chi2" and row.ndf > 0:
            text += (
                f" {str(row.kind).capitalize()}: chi2/ndf of the least squares"
                f" {row.chi2:.0f}/{row.ndf:.0f} = {row.chi2 / row.ndf:.3f}"
                f" from {row.n_categories} categories."
            )
    pair = [reduction.tables.get(f"parameters_{m}") for m in ("likelihood", "chi2")]
    if pair[0] is not None and pair[1] is not None:
        rows = differences(pair[0], pair[1])
        drawn["likelihood_minus_chi2"] = figures.strips(
            rows, edges_of(pair[1]), "(likelihood $-$ chi2) / error"
        )
        worst = float(np.max(np.abs(np.nan_to_num(np.array(list(rows.values())))), initial=0.0))
        text += (
            " The likelihood and the least squares share their events, so that they should agree"
            f" to a part of an error; the largest difference is {worst:.2f} standard deviations."
        )
    lost = reduction.tables.get("undetermined")
    if lost is not None and len(lost):
        tables["undetermined"] = lost
        n = len(lost[["kind", "direction"]].drop_duplicates())
        text += (
            f" {n} combinations of parameters leave no trace in the data and were left out; the"
            " table has the weights of the parameters in each."
        )
    else:
        text += " Every combination of parameters is fixed by the data."
    return Section("Quality of the extraction", text, tables, drawn)


def differences(likelihood: pd.DataFrame, chi2: pd.DataFrame) -> dict[str, Array]:
    """Return likelihood minus chi2 of each parameter in units of the error, each (n,)."""
    out = {}
    for name in ("A", "e", "M", "a2", "c2") if "a2" in chi2 else ("A", "e", "M", "a", "c"):
        a, b, err = (
            t[c].to_numpy(dtype=float)
            for t, c in ((likelihood, name), (chi2, name), (chi2, f"{name}_err"))
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            out[name] = np.asarray((a - b) / err)
    return out


# categories --------------------------------------------------------------------------------------
def _residuals(reduction: Reduction) -> Section:
    from . import figures

    own = of_data(reduction.fits)
    own = own[own["status"] == Status.OK.value]
    residual = own["residual"].to_numpy(dtype=float)
    known = residual[np.isfinite(residual)]
    text = (
        "Every category of the data that took part against what the parameters say for it. Means"
        " that leave zero along an axis would be something that A, e and M cannot describe. The"
        " maps show what the last pass still found (mu of the data over that of the reference),"
        " the fitted width, and how well the fits describe their histograms: means over the"
        " other two axes."
    )
    if len(known):
        text = (
            f"Residuals of {len(known)} categories: mean {known.mean():+.3f}, width"
            f" {known.std():.3f}, largest {np.abs(known).max():.1f} standard deviations. " + text
        )
    edges = np.asarray(reduction.state["eta_edges"], dtype=float)
    drawn = {
        "residuals": figures.residuals(own, edges),
        "maps": figures.maps(own, edges),
        "quality_of_fits": figures.quality(own),
    }
    return Section("Categories against the model", text, {}, drawn)


def _dropped(reduction: Reduction) -> Section:
    table = reduction.tables["dropped"]
    if not len(table):
        return Section("Categories left out", "No category with events was left out.")
    summary = (
        table.groupby(["sample", "reason"], sort=False)["n_events"]
        .agg(["size", "sum"])
        .reset_index()
        .rename(columns={"size": "categories", "sum": "events"})
    )
    total = float(reduction.fits.drop_duplicates(_group(reduction.fits))["n_events"].sum())
    share = 100 * float(table["n_events"].sum()) / total if total > 0 else float("nan")
    text = (
        f"{len(table)} categories with events took no part, {share:.2f} % of the events. The"
        " appendix has the largest of them by name, dropped.csv all of them."
    )
    return Section("Categories left out", text, {"dropped_by_reason": summary})


def _group(fits: pd.DataFrame) -> list[str]:
    """Return the columns that tell apart what was fitted: joined categories share one fit."""
    return ["sample", "group" if "group" in fits else "category"]


# closure -----------------------------------------------------------------------------------------
def _axis_rows(closure: Closure) -> pd.DataFrame:
    table = closure.table
    if "kind" not in table:
        return table.iloc[:0]
    # all events of a bin of eta, rather than the halves with the constants of the other half
    fixed = table[table["kind"] == "axis_fit"]
    own = table[table["kind"] == "axis"]
    if "half" in table:
        own = own[~own["half"].isin(("0", "1"))]
    return pd.concat([fixed, own]) if len(fixed) else own


def _along_axes(closure: Closure) -> Section:
    from . import figures

    table = _axis_rows(closure)
    drawn, sentences = {}, []
    for sample, own in table.groupby("sample", sort=False):
        name = str(own["bin"].iloc[0]).split("_")[0]
        drawn[f"scale_along_axes_{name}"] = figures.along_axes(own)
        spread = [_rms(own[c], own[e]) for c, e in (("before", "before_err"), ("fitted", "error"))]
        sentences.append(f"{sample}: {spread[0]:.1e} before, {spread[1]:.1e} after")
    text = (
        "The mass scale, mu of the data over mu of the reference, in bins of eta, phi and pt of"
        " one muon at a time, before and after the correction. These axes are not those of the"
        " categories: phi and pt know nothing of the fit. A bin of eta was fixed by the events"
        " that are drawn; what is judged is each half of them with the constants of the other half"
        " (the rows of closure.csv with half 0 and 1). phi is judged around its mean. The grey"
        " band is 1e-4, the target of the field. A bin of the measured pt moves the mass by the"
        " slope of the spectrum, which the reference has only as well as its events: look at pt,"
        " do not judge by it."
        "\n\nMean distance from 1, weighted with the errors: " + "; ".join(sentences) + "."
    )
    held = closure.table[closure.table["kind"] == "held_out"]
    for row in held.itertuples():
        text += (
            f" Held out, {str(row.bin).removesuffix('_held_out')}: 1 {row.fitted - 1:+.1e}"
            f" +- {row.error:.1e} after, 1 {row.before - 1:+.1e} before the correction."
        )
    return Section("Mass scale before and after", text, {}, drawn)


def _rms(value: pd.Series, error: pd.Series) -> float:
    x, err = value.to_numpy(dtype=float) - 1, error.to_numpy(dtype=float)
    known = np.isfinite(x) & np.isfinite(err) & (err > 0)
    if not known.any():
        return float("nan")
    weight = err[known] ** -2.0
    return float(np.sqrt((weight * x[known] ** 2).sum() / weight.sum()))


# iteration, earlier ------------------------------------------------------------------------------
def _iteration(reduction: Reduction) -> Section:
    from . import figures

    table = reduction.tables["iterations"]
    check = next((c for c in reduction.checks if c.name == "converged"), None)
    last = int(table["pass"].max())
    worst = float(table[table["pass"] == last]["max_move"].max())
    done = bool(reduction.state.get("converged", False))
    text = (
        "Each pass applies what was found so far to the muons, fills and fits again. Largest move"
        f" of pass {last}: {worst:.2g} standard deviations; "
        + ("the iteration has converged." if done else "the iteration has not converged.")
    )
    figure = figures.iteration(table, None if check is None else check.threshold)
    return Section("Iteration", text, {"iterations": table}, {"iteration": figure})


def _moved(reduction: Reduction, earlier: Mapping[str, Any]) -> Section:
    from . import figures

    new = reduction.tables["parameters"]
    names = reading.by_name(earlier)
    if f"{NAME}_parameters" not in names:
        return Section("What moved", "The earlier payload has no parameters of this kind.")
    old = at_bins(earlier, new)
    figure = figures.moved(old, new, ("earlier", "this"))
    table = pd.DataFrame({"eta_low": new["eta_low"], "eta_high": new["eta_high"]})
    text = ""
    for name in KINDS[:3]:
        values = [t[c].to_numpy(dtype=float) for t in (old, new) for c in (name, f"{name}_err")]
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = (values[2] - values[0]) / np.hypot(values[1], values[3])
        table[f"earlier_{name}"], table[f"this_{name}"] = values[0], values[2]
        table[f"move_sigma_{name}"] = pull
        known = np.isfinite(pull)
        if known.any():
            at = int(np.nanargmax(np.abs(pull)))
            text += (
                f" {name}: {int((np.abs(pull[known]) > 3).sum())} of {known.sum()} eta bins by more"
                f" than 3 standard deviations, the furthest by {pull[at]:+.1f} at eta"
                f" [{new['eta_low'][at]:g}, {new['eta_high'][at]:g})."
            )
    text = f"A, e, M against an earlier payload, errors taken as independent.{text}"
    return Section("What moved", text, {"moved": table}, {"moved": figure})


def at_bins(document: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """Return A, e, M of a payload at the centres of a table's eta bins; NaN without a value."""
    found = reading.parameters(document)
    middle = 0.5 * (table["eta_low"] + table["eta_high"]).to_numpy(dtype=float)
    at = reading.bins_of(found["edges"], middle)
    good = np.append(reading.status(document) <= Status.HELD.code, False)[at]
    out = pd.DataFrame({"eta_low": table["eta_low"], "eta_high": table["eta_high"]})
    for name in KINDS[:3]:
        for column in (name, f"{name}_err"):
            out[column] = np.where(good, np.append(found[column], np.nan)[at], np.nan)
    return out


# appendix ----------------------------------------------------------------------------------------
def _appendix(reduction: Reduction) -> list[Section]:
    from . import figures

    covariance = np.asarray(reduction.state["covariance"], dtype=float)
    kinds = KINDS if len(covariance) == 5 * (len(reduction.state["eta_edges"]) - 1) else KINDS[:3]
    found = [
        Section(
            "Correlations",
            "Correlation of every parameter with every other: blocks of kinds, eta from low to"
            " high in each. A and e of a bin hang together where its muons have a narrow range of"
            " pt. Grey: not determined.",
            {},
            {"correlation": figures.correlation(covariance, kinds)},
            place="appendix",
        )
    ]
    others = {
        name: reduction.tables[name]
        for name in ("parameters_likelihood", "parameters_chi2", "parameters_simulation")
        if name in reduction.tables
    }
    text = "Parameters of the data by each extraction, and of the simulation as if it were data."
    found.append(Section("Parameters of each extraction", text, others, place="appendix"))
    dropped = reduction.tables["dropped"]
    if len(dropped):
        largest = dropped.sort_values("n_events", ascending=False, kind="stable")[:SHOWN]
        more = f"; the {SHOWN} largest of {len(dropped)}" if len(dropped) > SHOWN else ""
        found.append(
            Section(
                "Categories left out, by name",
                f"Categories with events that took no part{more}.",
                {"dropped_categories": largest},
                place="appendix",
            )
        )
    return found
