"""The tables and arrays that are written, from the kinds of a reduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from calib import results
from calib.distributions import chi2_sf
from calib.fitting.scale.model import KINDS, Extraction
from calib.later import pandas as pd
from calib.results import Reduction, Status
from calib.types import AnyArray, Array

from .peaks import Peaks
from .reduction import Kind

ROOTS = {"a2": "a", "c2": "c"}
"""Parameters of which the square is fitted."""


def parameters(
    kind: Kind, extraction: Extraction | None = None, syst: Mapping[str, Array] | None = None
) -> pd.DataFrame:
    """Return one row per eta bin: A, e, M, a, c with errors, and the status.

    a and c are square roots with the sign of a^2 and c^2; not determined values are NaN. With
    systematic shifts ``_err`` contains them, and ``_stat_err`` is without.

    Parameters
    ----------
    kind : Kind
        The result.
    extraction : Extraction, optional
        The moves; by default those that are published.
    syst : mapping of str to array, shape (5 n_eta,), optional
        Systematic shifts of all parameters.

    Returns
    -------
    DataFrame
        A, a without unit, e in GeV, M and c in 1/GeV.
    """
    found = extraction or kind.chosen
    total, edges = kind.total(found), np.asarray(kind.settings.eta)
    table = pd.DataFrame({"eta_low": edges[:-1], "eta_high": edges[1:]})
    known = {k: np.isfinite(found.kind(k)) for k in KINDS}
    shifts = (
        {}
        if syst is None
        else {
            name: dict(zip(KINDS, np.split(values, len(KINDS)), strict=True))
            for name, values in syst.items()
        }
    )
    stat = {k: found.kind_err(k) for k in KINDS}
    full = {k: np.sqrt(sum((s[k] ** 2 for s in shifts.values()), stat[k] ** 2)) for k in KINDS}
    for k in KINDS[:3]:
        table[k] = np.where(known[k], total[k], np.nan)
        table[f"{k}_err"] = full[k]
    for k, name in ROOTS.items():
        root, err = signed_root(total[k], full[k])
        table[name] = np.where(known[k], root, np.nan)
        table[f"{name}_err"] = np.where(known[k], err, np.nan)
    for k in KINDS[3:]:
        table[k] = np.where(known[k], total[k], np.nan)
        table[f"{k}_err"] = full[k]
    table["status"] = kind.statuses() if extraction is None else Status.OK.value
    for k in KINDS if shifts else ():
        table[f"{k}_stat_err"] = stat[k]
        for name, values in shifts.items():
            table[f"{k}_{name}"] = np.where(known[k], values[k], np.nan)
    return table


def signed_root(square: Array, error: Array) -> tuple[Array, Array]:
    """Return the root of a square with its sign, and its error (never above that at 0).

    Parameters
    ----------
    square, error : array, shape (n,)
        A square, which may be negative, and its error.

    Returns
    -------
    array, shape (n,)
        Root, with the sign of the square.
    array, shape (n,)
        Its error.
    """
    root = np.sign(square) * np.sqrt(np.abs(square))
    with np.errstate(invalid="ignore"):
        return root, error / (2 * np.maximum(np.abs(root), np.sqrt(error) / 2))


def fits(kinds: Sequence[Kind], opinions: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per sample and category that has entries.

    A category that was joined with others has the status ``merged``, the numbers of all of them
    together, and in ``group`` the name of the first one, whose row holds the fit.

    Parameters
    ----------
    kinds : sequence of Kind
        The data, then the simulation if it is calibrated as well.
    opinions : DataFrame, optional
        Of `checks.opinions`.

    Returns
    -------
    DataFrame
        mu and sigma relative to the generated mass.
    """
    frames = []
    for kind in kinds:
        ends = np.cumsum([len(p) for p in kind.peaks])[:-1]
        residuals = np.split(kind.chi2.residuals, ends)
        for peaks, residual in zip(kind.peaks, residuals, strict=True):
            frames.append(_fits(peaks, residual))
    table = pd.concat(frames, ignore_index=True)
    if opinions is not None and len(opinions):
        table = table.merge(opinions, on=["sample", "category"], how="left")
    return table


def _fits(peaks: Peaks, residual: Array) -> pd.DataFrame:
    grid, data, reference = peaks.source.grid, peaks.data, peaks.reference
    names = np.array(grid.names(), dtype=object)
    g = peaks.group
    own = np.arange(len(grid)) == peaks.first[g]
    nothing = np.full(len(peaks), np.nan)
    variance = np.diagonal(peaks.covariance, axis1=1, axis2=2)
    err = np.sqrt(np.where(variance >= 0, variance, np.nan))  # below 0: the fit is marked
    ratio = np.exp(peaks.log_mu)
    columns: dict[str, AnyArray] = {
        "n_events": peaks.n_events,
        "mu": data.mu,
        "mu_err": data.mu_err,
        "sigma": data.sigma,
        "sigma_err": data.sigma_err,
        "background": data.background,
        "background_err": data.background_err,
        "slope": data.slope,
        "slope_err": data.slope_err,
        "mu_reference": reference.mu if reference else nothing,
        "mu_reference_err": reference.mu_err if reference else nothing,
        "sigma_reference": reference.sigma if reference else nothing,
        "mu_ratio": ratio,
        "mu_ratio_err": ratio * err[:, 0],
        "v_difference": peaks.v,
        "v_difference_err": err[:, 1],
        "k_plus": peaks.means.k_plus,
        "k_minus": peaks.means.k_minus,
        "pt_plus": peaks.means.inverse_k_plus,
        "pt_minus": peaks.means.inverse_k_minus,
        "residual": residual,
        "nll": data.nll,
        "chi2": data.chi2,
        "ndf": data.ndf,
        "edm": data.edm,
        "iterations": data.iterations,
        "step": data.step,
    }
    table = pd.DataFrame({name: values[g] for name, values in columns.items()})
    status = np.where(own, peaks.status[g], Status.MERGED.value)
    table.insert(0, "sample", peaks.source.sample)
    table.insert(1, "category", names)
    table.insert(2, "resonance", grid.resonance)
    table.insert(3, "group", names[peaks.first[g]])
    for axis, name in enumerate(("eta_plus", "eta_minus", "ratio", "angle")):
        table[name] = grid.centres(axis)
    table["status"] = status
    return table[table["n_events"] > 0]


def dropped(kinds: Sequence[Kind]) -> pd.DataFrame:
    """Return the categories with entries that took no part, with the reason."""
    rows = []
    for kind in kinds:
        for p in kind.peaks:
            names = p.names()
            for i in np.flatnonzero(~p.ok & (p.n_events > 0)):
                rows.append((p.source.sample, names[i], p.n_events[i], p.status[i]))
    return pd.DataFrame(rows, columns=["sample", "category", "n_events", "reason"])


def extraction(kinds: Sequence[Kind]) -> pd.DataFrame:
    """Return the quality of each extraction, one row a kind and method."""
    rows = []
    for kind in kinds:
        for found in (kind.chi2, kind.likelihood):
            if found is None:
                continue
            p = float(chi2_sf(found.chi2, found.ndf)) if found.ndf > 0 else np.nan
            rows.append(
                {
                    "kind": kind.name,
                    "method": found.method,
                    "chi2": found.chi2,
                    "ndf": found.ndf,
                    "probability": p,
                    "edm": found.edm,
                    "iterations": found.iterations,
                    "converged": found.converged,
                    "condition": found.condition,
                    "n_categories": int(sum(x.ok.sum() for x in kind.peaks)),
                    "n_undetermined": len(found.undetermined),
                }
            )
    return pd.DataFrame(rows)


def undetermined(kinds: Sequence[Kind]) -> pd.DataFrame:
    """Return what the data cannot constrain: the parameters of each direction.

    ``error`` is the error along the direction in units of the gates' largest errors, infinite
    where the extraction has left it out.
    """
    rows = []
    for kind in kinds:
        for number, (error, direction) in enumerate(weak_directions(kind)):
            size = np.abs(direction) / max(np.abs(direction).max(), 1e-300)
            for i in np.flatnonzero(size > 0.1):
                rows.append((kind.name, number, error, kind.chosen.names[i], float(direction[i])))
    return pd.DataFrame(rows, columns=["kind", "direction", "error", "parameter", "weight"])


def weak_directions(kind: Kind) -> list[tuple[float, Array]]:
    """Return error and direction of the combinations of A, e, M that are known too badly.

    Units are the largest errors that the gates allow; the worst come first.
    """
    found, n = kind.chosen, kind.settings.n_eta
    out = [(np.inf, direction) for direction in found.undetermined]
    gates = kind.settings.gates
    scale = np.repeat([gates.A_err, gates.e_err, gates.M_err], n)
    known = np.flatnonzero(np.isfinite(found.errors[: 3 * n]))
    if not len(known):
        return out
    reduced = found.covariance[np.ix_(known, known)] / np.outer(scale[known], scale[known])
    values, vectors = np.linalg.eigh(reduced)
    for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
        if value < 1:
            break
        direction = np.zeros(len(found.names))
        direction[known] = vector
        out.append((float(np.sqrt(value)), direction))
    return out


def decorrelated(kind: Kind) -> pd.DataFrame:
    """Return the scale of each eta bin at the mean k of its muons, where A and e do not mix.

    A' = A - e k_mean: a diagnostic, since A and e alone have correlations of 0.9 and more.
    """
    n, found, total = kind.settings.n_eta, kind.chosen, kind.total()
    weight, k = np.zeros(n), np.zeros(n)
    for p in kind.peaks:
        for at, values in (
            (p.means.eta_plus, p.means.k_plus),
            (p.means.eta_minus, p.means.k_minus),
        ):
            np.add.at(weight, at[p.ok], p.n_events[p.ok])
            np.add.at(k, at[p.ok], (p.n_events * values)[p.ok])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(weight > 0, k / weight, np.nan)
    i = np.arange(n)
    c = found.covariance
    variance = c[i, i] - 2 * mean * c[i, n + i] + mean**2 * c[n + i, n + i]
    with np.errstate(invalid="ignore"):
        correlation = c[i, n + i] / (found.kind_err("A") * found.kind_err("e"))
        error = np.sqrt(variance)
    edges = np.asarray(kind.settings.eta)
    return pd.DataFrame(
        {
            "eta_low": edges[:-1],
            "eta_high": edges[1:],
            "k_mean": mean,
            "A_at_k_mean": np.where(np.isfinite(error), total["A"] - mean * total["e"], np.nan),
            "A_at_k_mean_err": error,
            "correlation_A_e": correlation,
        }
    )


def iterations(history: Array) -> pd.DataFrame:
    """Return the largest moves of each pass in units of the errors.

    Parameters
    ----------
    history : array, shape (rows, 2 + 5)
        Pass, 0 for data or 1 for simulation, and the largest move of A, e, M, a2, c2.

    Returns
    -------
    DataFrame
        ``pass, kind, move_A`` ...
    """
    table = pd.DataFrame(history, columns=["pass", "kind", *(f"move_{k}" for k in KINDS)])
    table["pass"] = table["pass"].astype(int)
    table["kind"] = np.where(table["kind"] == 0, "data", "simulation")
    table["max_move"] = table[[f"move_{k}" for k in KINDS]].max(axis=1)
    return table


def with_shifts(reduction: Reduction, shifts: Mapping[str, AnyArray]) -> Reduction:
    """Return a result with systematic shifts in covariance, state and table of its parameters.

    Parameters
    ----------
    reduction : Reduction
        The result.
    shifts : mapping of name to array, shape (n,)
        Change of each parameter, in the order of ``covariance``.

    Returns
    -------
    Reduction
        As `calib.calibrations.base.Calibration.with_systematics` says.
    """
    found = results.with_shifts(reduction, shifts)
    table = found.tables["parameters"].copy()
    kinds = np.array([str(n).split("_")[0] for n in found.arrays["covariance"]["names"]])
    for k in KINDS:
        own = {name: np.asarray(shift)[kinds == k] for name, shift in shifts.items()}
        before = table[f"{k}_err"].to_numpy(dtype=float)
        after = np.sqrt(sum((s**2 for s in own.values()), before**2))
        with np.errstate(invalid="ignore", divide="ignore"):
            wider = np.where(before > 0, after / before, 1.0)
        table[f"{k}_err"] = after
        if k in ROOTS:  # the error of the root grows as that of the square
            table[f"{ROOTS[k]}_err"] *= wider
        if f"{k}_stat_err" not in table:
            table[f"{k}_stat_err"] = before
        for name, s in own.items():
            table[f"{k}_syst_{name}"] = s
    named = {f"syst_{name}": np.asarray(shift) for name, shift in shifts.items()}
    return replace(
        found, tables={**found.tables, "parameters": table}, state={**found.state, **named}
    )
