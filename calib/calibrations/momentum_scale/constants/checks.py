"""What the momentum scale must pass, and the second opinion on its fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.collect import MARGIN
from calib.distributions import chi2_sf
from calib.fitting.cross_check import second_opinion
from calib.fitting.scale.model import KINDS
from calib.later import pandas as pd
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


def of_kind(kind: Kind, settings: Settings) -> list[Check]:
    """Return the checks of the data, or of the simulation."""
    gates, found, prefix = settings.gates, kind.chosen, "" if kind.name == "data" else "simulation_"
    total = sum(float(p.n_events.sum()) for p in kind.peaks)
    lost = sum(float(p.n_events[~p.ok].sum()) for p in kind.peaks)
    share = lost / total if total > 0 else 1.0
    status = kind.statuses()
    missing = int((status != Status.OK.value).sum())
    out = [
        Check(
            f"{prefix}categories_dropped",
            share,
            gates.max_dropped,
            share <= gates.max_dropped,
            "share of the events in categories that took no part",
        ),
        Check(
            f"{prefix}eta_bins_not_determined",
            float(missing),
            0.0,
            missing == 0,
            _not_determined(kind, status),
        ),
        Check(
            f"{prefix}extraction_converged",
            found.edm,
            1e-3,
            found.converged,
            f"EDM of the extraction by {found.method}",
        ),
    ]
    if kind.chi2.ndf > 0:
        p = float(chi2_sf(kind.chi2.chi2, kind.chi2.ndf))
        out.append(
            Check(
                f"{prefix}extraction_chi2_probability",
                p,
                gates.extraction_probability,
                p >= gates.extraction_probability,
                f"chi2/ndf {kind.chi2.chi2:.0f}/{kind.chi2.ndf} of all categories together",
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


def _between(kind: Kind, prefix: str) -> Check:
    assert kind.likelihood is not None
    good = kind.good()
    worst = 0.0
    for k in KINDS[:3]:
        with np.errstate(invalid="ignore"):
            pull = (kind.likelihood.kind(k) - kind.chi2.kind(k)) / kind.chi2.kind_err(k)
        worst = max(worst, float(np.max(np.abs(pull[good]), initial=0.0)))
    return Check(
        f"{prefix}extractions_agree",
        worst,
        MOST_BETWEEN,
        worst <= MOST_BETWEEN,
        "largest difference of likelihood and chi2 in A, e, M, in units of the error",
    )


def opinions(kind: Kind, seed: int) -> pd.DataFrame:
    """Return the fits of some categories against independent ones by iminuit."""
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
    return Check(
        "second_opinion",
        share,
        AGREEMENT,
        share >= AGREEMENT,
        f"share of {len(own)} categories drawn at random in which iminuit finds the same",
    )


def spectrum(sums: Sequence[tuple[str, Array]]) -> Check:
    """Return whether the spectra reach below the cut: smearing moves muons over it.

    Parameters
    ----------
    sums : sequence of (sample, counts in bins of `collect.MARGIN`)
    """
    bad, worst = [], np.inf
    for name, counts in sums:
        below = counts[(MARGIN[:-1] >= 0.93) & (MARGIN[1:] <= 1.0 + 1e-9)].sum()
        above = counts[(MARGIN[:-1] >= 1.0 - 1e-9) & (MARGIN[1:] <= 1.07 + 1e-9)].sum()
        ratio = below / above if above > 20 else 1.0
        worst = min(worst, ratio)
        if ratio < 0.2:
            bad.append(name)
    text = "muons just below the least pt over those just above it"
    if bad:
        text += (
            f"; warning: the spectrum of {', '.join(bad)} begins at our own cut, so what smears"
            " over it is missing in the reference; take a file with a looser cut, or raise"
            " leading_pt and subleading_pt by five resolutions"
        )
    return Check("spectrum_reaches_below_cut", float(worst), 0.2, True, text)


def convergence(significance: dict[str, float], settings: Settings, passes: int) -> Check:
    """Return whether the last pass moved nothing."""
    worst = max(significance.values())
    done = worst < settings.convergence
    text = f"largest move of pass {passes} in units of its error"
    if not done:
        text += f"; not_converged in {settings.max_passes} passes" * (passes >= settings.max_passes)
    return Check("converged", worst, settings.convergence, done, text)


def fitted(peaks: Peaks) -> int:
    """Return the number of categories that may be used."""
    return int(peaks.ok.sum())
