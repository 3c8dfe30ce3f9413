"""What a reduction hands on: tables, checks, pictures, and the state of the later passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calib.calibrations.momentum_scale.report import curves
from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.passes import pass_number
from calib.fitting.scale.model import KINDS
from calib.physics.constants import RESONANCES
from calib.quality.error_budget import SHARE
from calib.results import Pass, Reduction, Status
from calib.types import AnyArray, Array

from . import checks, radiation, tables
from .reduction import Kind, dropped_key, group_key


def result(kinds: Sequence[Kind], walk: Pass, settings: Settings, seed: int) -> Reduction:
    """Return tables, checks, pictures and state of the data and of the simulation.

    Parameters
    ----------
    kinds : sequence of Kind
        The data, then the simulation if it is calibrated as well.
    walk : Pass
        That of the sums.
    settings : Settings
        Of the run.
    seed : int
        Of what is chosen at random: pictures, second opinions.

    Returns
    -------
    Reduction
        A without unit, e in GeV, M in 1/GeV, a without unit, c in 1/GeV.
    """
    data, passes = kinds[0], pass_number(walk)
    significance = {k: max(kind.significance()[k] for kind in kinds) for k in KINDS}
    rows = [[passes, i, *(kind.significance()[k] for k in KINDS)] for i, kind in enumerate(kinds)]
    history = np.concatenate(
        [np.asarray(walk.values.get("history", np.zeros((0, 2 + len(KINDS))))), np.array(rows)]
    )
    converged = checks.convergence(significance, settings, passes)
    last = converged.passed or passes >= settings.max_passes
    opinion = checks.opinions(data, seed) if last else None
    varied = radiation.responses(data) if last else None
    syst = {} if varied is None else {"syst_fsr": radiation.shift(data, varied)}
    margins = [(p.source.sample, np.asarray(p.source.data["margin"])) for p in data.peaks]
    found = {
        "parameters": tables.parameters(data, syst=syst),
        "parameters_chi2": tables.parameters(data, data.chi2),
        "extraction": tables.extraction(kinds),
        "iterations": tables.iterations(history),
        "dropped": tables.dropped(kinds),
        "undetermined": tables.undetermined(kinds),
        "decorrelated": tables.decorrelated(data),
    }
    if data.likelihood is not None:
        found["parameters_likelihood"] = tables.parameters(data, data.likelihood)
    state: dict[str, AnyArray] = {
        "eta_edges": np.asarray(settings.eta),
        "pt_range": _pt_range(data),
        "method": np.array(data.chosen.method),
        "converged": np.array(converged.passed),
        "passes": np.array(passes),
        "history": history,
        "resonances": np.array([p.resonance for p in data.peaks]),
        "made": np.array([p.source.made for p in data.peaks]),
        **_state(data, "", passes),
        **syst,
    }
    if len(kinds) > 1:
        found["parameters_simulation"] = tables.parameters(kinds[1])
        state |= _state(kinds[1], "simulation_", passes)
    all_checks = [converged]
    for kind in kinds:
        all_checks += checks.of_kind(kind, settings)
    all_checks.append(checks.spectrum(margins))
    if opinion is not None:
        all_checks.append(checks.agreement(opinion))
    if varied is not None:
        all_checks += [
            radiation.check(p, r)
            for p, r in zip(data.peaks, varied, strict=True)
            if p.resonance == "jpsi" and p.source.copies > 0
        ]
    return Reduction(
        tables.fits(kinds, opinion),
        found,
        {"covariance": _covariance(data, syst)},
        tuple(c for p in data.peaks for c in curves.curves(p, seed)) if last else (),
        tuple(all_checks),
        state,
    )


def _state(kind: Kind, prefix: str, passes: int) -> dict[str, AnyArray]:
    """Return totals, covariance, statuses and the corrections one after the other."""
    total, found = kind.total(), kind.chosen
    codes = [Status(s).code for s in kind.statuses()]
    out: dict[str, AnyArray] = {f"{prefix}{k}": total[k] for k in KINDS}
    out[f"{prefix}covariance"] = found.covariance
    out[f"{prefix}status"] = np.array(codes)
    out[f"{prefix}steps"] = kind.all_steps()
    # merged anew in each pass, categories at the edge of having enough events would flicker
    out[f"{prefix}k_mean"], out[f"{prefix}pt2_mean"] = _where(kind)
    for p in kind.peaks:
        out[group_key(kind.name, p.source)] = p.group
        if passes > 1:  # the first reference is too far from the data to judge a category
            out[dropped_key(kind.name, p.source)] = np.array([Status(s).code for s in p.status])
    return out


def _where(kind: Kind) -> tuple[Array, Array]:
    """Return the means of 1/pt and pt^2 of the muons of each eta bin, of the heaviest resonance.

    Its muons are those that analyses correct; 45 GeV where there are none.
    """
    p = max(kind.peaks, key=lambda p: RESONANCES[p.resonance].masses[0])
    n, m = kind.settings.n_eta, p.means
    eta = np.concatenate([m.eta_plus, m.eta_minus])
    weight = np.maximum(np.tile(p.n_events, 2), 0.0)
    entries = np.bincount(eta, weight, minlength=n)

    def mean(plus: Array, minus: Array, default: float) -> Array:
        values = np.nan_to_num(np.concatenate([plus, minus]))
        total = np.bincount(eta, weight * values, minlength=n)
        return np.where(entries > 0, total / np.maximum(entries, 1e-300), default)

    return mean(m.k_plus, m.k_minus, 1 / 45), mean(m.pt2_plus, m.pt2_minus, 45.0**2)


def _covariance(kind: Kind, syst: Mapping[str, Array]) -> dict[str, AnyArray]:
    """Return values with their covariance, statistical and systematic, and both apart.

    A systematic variation moves all parameters together: shift times shift.
    """
    total, found = kind.total(), kind.chosen
    covariance = found.covariance
    for shift in syst.values():
        covariance = covariance + np.outer(shift, shift)
    return {
        "names": np.array(found.names),
        "values": np.where(found.determined, np.concatenate([total[k] for k in KINDS]), np.nan),
        "covariance": covariance,
        "covariance_stat": found.covariance,
        SHARE: np.array(_simulation_share(kind)),
        **syst,
    }


def _simulation_share(kind: Kind) -> float:
    """Return the share of the variance of ln(mu) that is of simulated reference events.

    The mean over the categories, each by its information on the scale. A reference that is made
    from the events themselves has none: it grows with them.
    """
    shares, weights = [np.zeros(0)], [np.zeros(0)]
    for p in kind.peaks:
        total = p.covariance[p.ok, 0, 0]
        simulated = p.reference is not None and p.source.made == "simulation" and p.source.copies
        shares.append(p.reference_covariance[p.ok, 0, 0] / total if simulated else 0.0 * total)
        weights.append(1 / total)
    weight = np.concatenate(weights)
    return float(np.average(np.concatenate(shares), weights=weight)) if len(weight) else 0.0


def _pt_range(kind: Kind) -> Array:
    """Return the central 99 % of the categories' mean pt, in GeV."""
    pt = np.concatenate(
        [
            x
            for p in kind.peaks
            for x in (p.means.inverse_k_plus[p.ok], p.means.inverse_k_minus[p.ok])
        ]
    )
    if not len(pt):
        return np.array([4.0, 100.0])
    return np.asarray(np.quantile(pt, [0.005, 0.995]))
