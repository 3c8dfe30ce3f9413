"""The report's sections: a and b, the widths against p_tilde, what moved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from calib.payload.nodes import evaluate
from calib.results import Reduction, Section, Status
from calib.types import Array

from .entries import OBSERVABLES
from .reduction import KINDS

TEXT = (
    "The width of the Gaussian core in bins of p_tilde, and the line through its square: sigma^2 ="
    " a^2 + b^2 / p_tilde^2. Tails have a Gaussian of their own and do not pull the core. a is the"
    " resolution of the detector (with that of the vertex, where single muons are taken), b"
    " multiple scattering. Bins counted from 0, e in eta, f in phi, p in p_tilde."
)
UNITS = {"a": "um", "b": "um GeV"}


def sections(reduction: Reduction, earlier: Mapping[str, Any] | None) -> list[Section]:
    """Return a and b against eta, the widths against p_tilde, and what moved."""
    from calib.plots import trends

    table = reduction.tables["parameters"]
    series = {}
    for (kind, phi), own in table.groupby(["sample", "phi_low"], sort=False):
        several = table["phi_low"].nunique() > 1
        series[f"{kind}, phi from {phi:.2f}" if several else str(kind)] = wide(own)
    quantities = {
        f"{name}_{what}": (f"{what} of {name} [{unit}]", 1.0)
        for name in OBSERVABLES
        for what, unit in UNITS.items()
    }
    figures = {"parameters": trends.against_eta(series, quantities)}
    kind = str(table["sample"].iloc[0])
    for name in OBSERVABLES:
        rows = table[(table["observable"] == name) & (table["sample"] == kind)]
        curves = {str(r["bin"]): partial(_sigma, r["a"], r["b"]) for r in rows.to_dict("records")}
        figures[f"widths_{name}"] = trends.curves(
            _points(reduction.fits, name, kind),
            curves,
            x=f"$\\tilde{{p}}$ of {name} [GeV]",
            y=f"$\\sigma$ of {name} [um]",
        )
    found = [Section("Resolution of the impact parameters", TEXT, {"parameters": table}, figures)]
    return found if earlier is None else [*found, moved(table, earlier)]


def _sigma(a: float, b: float, p_tilde: Array) -> Array:
    return np.asarray(np.hypot(a, b / p_tilde))


def _points(fits: pd.DataFrame, name: str, kind: str) -> pd.DataFrame:
    """Return the widths that took part, as `calib.plots.trends.curves` draws them."""
    own = fits[(fits["status"] == Status.OK.value) & (fits["sample"] == kind)]
    own = own[own["category"].str.startswith(f"{name}_")]
    place = own["category"].str.removeprefix(f"{name}_").str.rsplit("_p", n=1).str[0]
    return pd.DataFrame(
        {"series": place, "x": own["u"] ** -0.5, "y": own["sigma"], "y_err": own["sigma_err"]}
    )


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return a and b of d0 and z0 beside each other, one row a bin of eta; NaN without a value."""
    own = table.copy()
    columns = ["a", "a_err", "b", "b_err"]
    own.loc[~own["status"].map(lambda s: Status(s).usable), columns] = np.nan
    found = own.pivot(index=["eta_low", "eta_high"], columns="observable", values=columns)
    found.columns = pd.Index([f"{name}_{what}" for what, name in found.columns])
    return found.reset_index()


def moved(table: pd.DataFrame, earlier: Mapping[str, Any]) -> Section:
    """Return a and b beside those of an earlier payload."""
    from calib.plots import figures as plots

    names = [
        f"{name}{KINDS[kind]} {place}"
        for name, kind, place in zip(
            table["observable"], table["sample"], table["bin"], strict=True
        )
    ]
    tables, figures = {}, {}
    for what, unit in UNITS.items():
        old, old_err = _earlier(table, earlier, what), _earlier(table, earlier, f"{what}_err")
        new, new_err = (table[c].to_numpy(dtype=float) for c in (what, f"{what}_err"))
        figures[f"moved_{what}"] = plots.comparison(
            names, old, old_err, new, new_err, label=what, unit=unit
        )
        tables[f"moved_{what}"] = pd.DataFrame(
            {
                "bin": names,
                "earlier": old,
                "earlier_err": old_err,
                "this": new,
                "this_err": new_err,
                "move_sigma": plots.moves(old, old_err, new, new_err),
            }
        )
    return Section("What moved", "Against the earlier payload, bin by bin.", tables, figures)


def _earlier(table: pd.DataFrame, earlier: Mapping[str, Any], parameter: str) -> Array:
    """Return a parameter of an earlier payload at the centre of each bin, NaN where it has none."""
    eta, phi = (
        0.5 * (table[f"{x}_low"] + table[f"{x}_high"]).to_numpy(dtype=float) for x in ("eta", "phi")
    )
    out = np.full(len(table), np.nan)
    keys = table["observable"] + table["sample"].map(KINDS)
    for key in keys.unique():
        at = (keys == key).to_numpy()
        found = evaluate(earlier, f"impact_parameter_{key}", parameter, eta[at], phi[at])
        if found is not None:
            out[at] = np.where(found > 0, found, np.nan)
    return out
