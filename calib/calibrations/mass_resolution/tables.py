"""The tables and the checks that come out of the reduction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from calib.arrays import AnyArray
from calib.calibrations.base import Edits
from calib.gates import Limits, own_status, probability
from calib.results import Check, Status

from .fallbacks import FitSet, Published
from .fits import CategoryFit, Fitter
from .settings import Settings


def fits(sample: str, published: Sequence[Published]) -> pd.DataFrame:
    """Return one row per category with everything that its fit says."""
    rows = []
    for p in published:
        r = p.fit.result
        row: dict[str, Any] = {
            "sample": sample,
            "category": p.fit.name,
            "n_events": p.fit.n_events,
            "sigma": p.fit.sigma,
            "sigma_err": p.fit.sigma_error,
            "mass": p.fit.mass,
            "mass_err": p.fit.mass_error,
        }
        for name in ("background", "slope"):
            row[name] = r[name] if r else float("nan")
            row[f"{name}_err"] = r.error(name) if r else float("nan")
        row |= {
            "nll": r.nll if r else float("nan"),
            "edm": r.edm if r else float("nan"),
            "chi2": r.chi2 if r else float("nan"),
            "ndf": r.ndf if r else 0,
            "chi2_probability": probability(r.chi2, r.ndf) if r else float("nan"),
            "status": p.own.value,
            "model": p.fit.model,
            "step": r.step if r else "",
            "reason": p.reason,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def factors(published: Sequence[Published], edits: Edits) -> pd.DataFrame:
    """Return factors.csv: the columns of the contract, then why each value is what it is."""
    return pd.DataFrame(
        [
            {
                "category": p.fit.name,
                "n_events": p.fit.n_events,
                "sigma_fit": p.fit.sigma,
                "sigma_fit_err": p.fit.sigma_error,
                "median_predicted": p.fit.median,
                "factor": p.factor,
                "factor_err": p.factor_error,
                "chi2": p.fit.result.chi2 if p.fit.result else float("nan"),
                "ndf": p.fit.result.ndf if p.fit.result else 0,
                "status": p.status.value,
                "own_status": p.own.value,
                "own_factor": p.fit.factor,
                "own_factor_err": p.fit.factor_error,
                "held_at": p.held_at,
                "model": p.fit.model,
                "edited": "; ".join(f"{k}={v}" for k, v in edits.get(p.fit.name, {}).items()),
            }
            for p in published
        ]
    )


def merged(parents: Iterable[CategoryFit], limits: Limits) -> pd.DataFrame:
    """Return the merged categories that others may fall back on."""
    return pd.DataFrame(
        [
            {
                "category": f.name,
                "n_events": f.n_events,
                "sigma_fit": f.sigma,
                "sigma_fit_err": f.sigma_error,
                "median_predicted": f.median,
                "factor": f.factor,
                "factor_err": f.factor_error,
                "mass": f.mass,
                "mass_err": f.mass_error,
                "chi2": f.result.chi2 if f.result else float("nan"),
                "ndf": f.result.ndf if f.result else 0,
                "status": own_status(f.candidate(), limits)[0].value,
            }
            for f in parents
        ]
    )


def models(
    published: Sequence[Published], model: str, others: Mapping[str, FitSet]
) -> pd.DataFrame:
    """Return the factors of each model side by side."""
    columns: dict[str, Any] = {"category": [p.fit.name for p in published]}
    columns[model] = [p.fit.factor for p in published]
    columns[f"{model}_err"] = [p.fit.factor_error for p in published]
    for name, fits in others.items():
        columns[name] = [f.factor for f in fits.categories]
        columns[f"{name}_err"] = [f.factor_error for f in fits.categories]
    return pd.DataFrame(columns)


def breit_wigner_bias(fitter: Fitter, reference: Fitter, main: FitSet) -> pd.DataFrame:
    """Return what the Breit-Wigner model finds on the template itself, whose width is known."""
    assert fitter.templates is not None
    rows = []
    for c, own in enumerate(main.categories):
        if own.result is None:
            continue
        found = fitter.templates.model([c], main.log_rings, fitter.low, fitter.high)
        if found is None:
            continue
        shape = found[0].signal(own.result["factor"], 1.0) * own.n_events
        fitted = reference.shape(own.name, np.maximum(shape, 0.0))
        rows.append(
            {
                "category": own.name,
                "sigma_template": own.sigma,
                "sigma_breit_wigner": fitted.sigma,
                "bias_percent": 100 * (fitted.sigma / own.sigma - 1),
                "chi2": fitted.result.chi2 if fitted.result else float("nan"),
                "ndf": fitted.result.ndf if fitted.result else 0,
            }
        )
    return pd.DataFrame(
        rows,
        columns=[
            "category",
            "sigma_template",
            "sigma_breit_wigner",
            "bias_percent",
            "chi2",
            "ndf",
        ],
    )


def checks(published: Sequence[Published], settings: Settings) -> list[Check]:
    """Return the reduction's part of the verdict."""
    n = np.array([p.fit.n_events for p in published])
    usable = np.array([p.status.usable for p in published])
    held = np.array([p.status is Status.HELD for p in published])
    own = [p for p in published if p.own is Status.OK]
    total = max(float(n.sum()), 1.0)
    found = [
        Check(
            "categories_usable",
            float(usable.mean()),
            1.0,
            bool(usable.all()),
            f"{int(usable.sum())} of {len(published)} categories have a value that may be used",
        ),
        Check(
            "events_in_held_categories",
            float(n[held].sum() / total),
            settings.gates.max_held,
            bool(n[held].sum() / total <= settings.gates.max_held),
            f"{int(held.sum())} categories failed a gate and are held at a parent's value",
        ),
    ]
    values = [p.factor for p in published if np.isfinite(p.factor)]
    low, high = settings.gates.factor_range
    worst = max(values, key=lambda v: abs(np.log(v)), default=float("nan"))
    found.append(
        Check(
            "extreme_factor",
            float(worst),
            high,
            bool(values and low <= worst <= high),
            f"the factor furthest from 1, within [{low:g}, {high:g}]",
        )
    )
    if own:
        results = [c.fit.result for c in own if c.fit.result]
        p = np.array([probability(r.chi2, r.ndf) for r in results])
        least = 1 - (1 - float(p.min())) ** len(p)
        found.append(
            Check(
                "worst_chi2_probability",
                least,
                1e-4,
                least > 1e-4,
                f"probability of the worst of {len(p)} fits, given their number",
            )
        )
    return found


def agreement(opinion: pd.DataFrame) -> Check:
    """Return whether the independent fits agree: all but one, or all but 2 %."""
    n, agree = len(opinion), int(opinion["minuit_agrees"].sum())
    least = min(0.98, 1 - 1 / max(n, 1))
    share = agree / n if n else 1.0
    return Check(
        "second_opinion", share, least, share >= least,
        f"share of {n} fits that iminuit repeated independently, and found the same",
    )  # fmt: skip


def covariance(published: Sequence[Published]) -> dict[str, AnyArray]:
    """Return ``names, values, covariance`` of the factors, NaN where one cannot be used.

    Categories with fits of their own share no events and are independent; those that fall back
    on one merged parent have its value and its whole error in common. What a parent shares with
    the own fits of its other members is left out.
    """
    error = np.array([p.factor_error for p in published])
    source = np.array([p.held_at or p.fit.name for p in published])
    common = source[:, None] == source[None, :]
    return {
        "names": np.array([p.fit.name for p in published]),
        "values": np.array([p.factor for p in published]),
        "covariance": np.where(common, np.outer(error, error), 0.0),
    }
