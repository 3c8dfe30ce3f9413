"""What the momentum scale must pass, and the second opinion on its fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.collect import MARGIN
from calib.distributions import chi2_sf
from calib.fitting.cross_check import second_opinion
from calib.fitting.scale.model import KINDS
from calib.later import pandas as pd
from calib.physics.constants import LABELS
from calib.results import Check, Status
from calib.types import Array

from . import tables
from .peaks import Peaks
from .reduction import Kind

OPINIONS = 50
"""Categories that are fitted again by iminuit, and at most as many suspicious ones."""

AGREEMENT = 0.9
"""Least share of the second opinions that agree."""

MOST_BETWEEN = 3.0
"""Largest difference of the two extractions, in units of the error."""

STEEP = 0.2
"""Muons just below the least pt over those just above it, below which it is said."""


def of_kind(kind: Kind, settings: Settings) -> list[Check]:
    """Return the checks of the data, or of the simulation.

    Parameters
    ----------
    kind : Kind
        The result.
    settings : Settings
        With the gates.

    Returns
    -------
    list of Check
        Those of the simulation begin with ``simulation_``.
    """
    gates, found = settings.gates, kind.chosen
    prefix, of = ("", "") if kind.name == "data" else ("simulation_", ", simulation")
    total = sum(float(p.n_events.sum()) for p in kind.peaks)
    lost = sum(float(p.n_events[~p.ok].sum()) for p in kind.peaks)
    share = lost / total if total > 0 else 1.0
    status = kind.statuses()
    missing = int((status != Status.OK.value).sum())
    out = [
        Check.at_most(
            f"{prefix}categories_dropped",
            share,
            gates.max_dropped,
            "share of the events in categories that are not used",
            title=f"Events in dropped categories{of}",
            advice=_of_dropped(kind),
        ),
        Check.at_most(
            f"{prefix}eta_bins_not_determined",
            missing,
            0,
            _not_determined(kind, status),
            title=f"Eta bins not determined{of}",
            advice=_of_undetermined(kind),
        ),
        Check(
            f"{prefix}extraction_converged",
            found.edm,
            1e-3,
            found.converged,
            f"EDM of the {found.method} extraction",
            "<=",
            f"Extraction converged{of}",
            "take coarser eta bins or more events: the likelihood is flat along some combination of"
            " parameters; settings.method: chi2 is always solved exactly",
        ),
    ]
    if kind.chi2.ndf > 0:
        p = float(chi2_sf(kind.chi2.chi2, kind.chi2.ndf))
        out.append(
            Check.at_least(
                f"{prefix}extraction_chi2_probability",
                p,
                gates.extraction_probability,
                f"chi2/ndf {kind.chi2.chi2:.0f}/{kind.chi2.ndf} of all categories together",
                title=f"Goodness of fit of A, e, M{of}",
                advice="A, e and M do not describe how the mass scale changes with eta and pt: look"
                " at the categories with the largest pulls, and take finer eta bins (settings.eta)",
            )
        )
    if kind.likelihood is not None:
        out.append(_between(kind, prefix))
    return out


def _not_determined(kind: Kind, status: Array) -> str:
    edges = kind.settings.eta
    bad = [f"[{edges[i]:g}, {edges[i + 1]:g})" for i in np.flatnonzero(status != "ok")]
    found = kind.chosen
    text = f"eta bins whose parameters the data do not fix; condition number {found.condition:.1e}"
    if bad:
        text += ": " + ", ".join(bad[:6]) + (" ..." if len(bad) > 6 else "")
    weak = tables.weak_directions(kind)
    if weak:
        names = []
        for _, direction in weak[:3]:
            order = np.argsort(-np.abs(direction))[:3]
            names.append(" ".join(f"{direction[i]:+.2f} {found.names[i]}" for i in order))
        text += f"; {len(weak)} combinations that the data do not fix, first: " + "; ".join(names)
    return text


def _of_dropped(kind: Kind) -> str:
    """Return what brings back the events of dropped categories: it depends on why they are."""
    lost = Counter[str]()
    first: dict[str, str] = {}
    for p in kind.peaks:
        for i in np.flatnonzero(~p.ok):
            status = str(p.status[i])
            lost[status] += int(p.n_events[i])
            first.setdefault(status, p.names()[i])
    if not lost:
        return "no category has an event: check the samples and the selection"
    status = lost.most_common(1)[0][0]
    cure = (
        "take more events, or coarser edges of settings.eta and cos_delta_phi"
        if status == Status.TOO_FEW_EVENTS.value
        else "the model does not fit these peaks: look at their background and window"
    )
    return f"mostly {status.replace('_', ' ')} (first in {first[status]}): {cure}"


def _of_undetermined(kind: Kind) -> str:
    """Return what would determine the other eta bins: it depends on the resonances at hand."""
    have = {p.resonance for p in kind.peaks}
    more = [LABELS[r] for r in ("jpsi", "z") if r not in have]
    if more:
        return f"add {' and '.join(more)}: with one range of pt, A, e and M cannot be told apart"
    return "take more events, or coarser eta bins (settings.eta) where these are"


def _between(kind: Kind, prefix: str) -> Check:
    assert kind.likelihood is not None
    good = kind.good()
    worst = 0.0
    for k in KINDS[:3]:
        with np.errstate(invalid="ignore"):
            pull = (kind.likelihood.kind(k) - kind.chi2.kind(k)) / kind.chi2.kind_err(k)
        worst = max(worst, float(np.max(np.abs(pull[good]), initial=0.0)))
    return Check.at_most(
        f"{prefix}extractions_agree",
        worst,
        MOST_BETWEEN,
        "largest difference between likelihood and chi2 in A, e, M, in units of the error",
        title="Likelihood and chi2 agree" + ", simulation" * bool(prefix),
        advice="categories with few events bias the chi2: take coarser bins (gates.merge_below),"
        " and look at the categories with the largest pulls",
    )


def opinions(kind: Kind, seed: int) -> pd.DataFrame:
    """Return the fits of some categories against independent ones by iminuit.

    Parameters
    ----------
    kind : Kind
        The result.
    seed : int
        Of the sample of categories.

    Returns
    -------
    DataFrame
        ``sample, category, opinion, opinion_status, ..., opinion_agrees``.
    """
    frames = []
    for p in kind.peaks:
        found = second_opinion(
            p.data,
            p.counts,
            p.source.grid.mass_edges,
            p.templates,
            p.template_mass,
            n=OPINIONS // len(kind.peaks),
            seed=seed,
            most=OPINIONS // len(kind.peaks),
            background=p.background,
            variance=p.variance,
            template_variance=np.zeros_like(p.templates),
            usual_slope=p.usual_slope,
        )
        names = np.array(p.names(), dtype=object)
        found = found.rename(
            columns={
                "why": "opinion",
                "status_minuit": "opinion_status",
                "agrees": "opinion_agrees",
                "delta_mu": "opinion_delta_mu",
                "delta_sigma": "opinion_delta_sigma",
                "delta_nll": "opinion_delta_nll",
            }
        )
        found["category"] = names[found["category"].to_numpy(dtype=int)]
        found.insert(0, "sample", p.source.sample)
        frames.append(found.drop(columns=["status", "ratio_mu_err", "ratio_sigma_err"]))
    return pd.concat(frames, ignore_index=True)


def agreement(table: pd.DataFrame) -> Check:
    """Return whether the second opinions agree."""
    own = table[table["opinion"] == "sample"] if len(table) else table
    share = float(own["opinion_agrees"].mean()) if len(own) else 1.0
    bad = list(own["category"][~own["opinion_agrees"].astype(bool)]) if len(own) else []
    return Check.at_least(
        "second_opinion",
        share,
        AGREEMENT,
        f"share of {len(own)} categories, drawn at random, for which iminuit finds the same",
        title="Cross-check by iminuit",
        advice=f"look at the fit of {bad[0]}: two minima, or a parameter at its limit"
        if bad
        else "",
    )


def spectrum(sums: Sequence[tuple[str, Array]]) -> Check:
    """Return whether the spectra reach below the cut: smearing moves muons over it.

    Parameters
    ----------
    sums : sequence of (sample, counts in bins of `collect.MARGIN`)

    Returns
    -------
    Check
        ``spectrum_reaches_below_cut``: it warns, and is always passed.
    """
    bad, worst = [], np.inf
    for name, counts in sums:
        below = counts[(MARGIN[:-1] >= 0.93) & (MARGIN[1:] <= 1.0 + 1e-9)].sum()
        above = counts[(MARGIN[:-1] >= 1.0 - 1e-9) & (MARGIN[1:] <= 1.07 + 1e-9)].sum()
        ratio = below / above if above > 20 else 1.0
        worst = min(worst, ratio)
        if ratio < STEEP:
            bad.append(name)
    text = f"muons just below the least pt over those just above it; a warning below {STEEP:g}"
    if bad:
        text += (
            f"; warning: the spectrum of {', '.join(bad)} begins at our own cut, so what smears"
            " over it is missing in the reference; take a file with a looser cut, or raise"
            " leading_pt and subleading_pt by five resolutions"
        )
    title = "Spectrum reaches below the pt cut"
    return Check.at_least("spectrum_reaches_below_cut", worst, 0.0, text, title=title)


def convergence(significance: dict[str, float], settings: Settings, passes: int) -> Check:
    """Return whether the last pass moved nothing.

    Parameters
    ----------
    significance : dict of str to float
        Largest move of each kind of parameter, in errors.
    settings : Settings
        Limit, and most passes.
    passes : int
        Number of the pass.

    Returns
    -------
    Check
        ``converged``: the largest of them.
    """
    worst = max(significance.values())
    done = worst < settings.convergence
    kind = max(significance, key=lambda k: significance[k])
    text = f"largest shift in pass {passes}, in units of its error: of {kind}"
    if not done:
        text += f"; not_converged in {settings.max_passes} passes" * (passes >= settings.max_passes)
    return Check(
        "converged",
        worst,
        settings.convergence,
        done,
        text,
        "<=",
        "Iteration converged",
        f"{kind} still moves: with more events or coarser eta bins it is determined better; else"
        f" allow more passes (settings.max_passes, now {settings.max_passes})",
    )


def fitted(peaks: Peaks) -> int:
    """Return the number of categories that may be used."""
    return int(peaks.ok.sum())
