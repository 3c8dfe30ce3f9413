"""Figures of what lies inside the rings: factors of muons, closure in fine |eta|, line shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.widths.muons import MuonFactors
from calib.later import pandas as pd
from calib.plots.figures import BLUE, GREY, ORANGE, drawn, empty_figure, in_style
from calib.types import Array, BoolArray

ETA = r"$|\eta|$"


def muon_figure(found: MuonFactors, rings: pd.DataFrame, settings: Settings) -> Figure:
    """Return the factor on ptErr against |eta| at 45 GeV, and against pt for each ring.

    Parameters
    ----------
    found : MuonFactors
    rings : DataFrame
        As ``tables["rings"]``: what the factors of categories mean for the muons of a ring.
    settings : Settings
    """
    with in_style():
        figure = empty_figure(11.0, 4.2)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        edges = found.eta_edges
        middle = 0.5 * (edges[1:] + edges[:-1])
        at = np.full(len(found), 45.0)
        value, error = found.at(at, middle), found.error(at, middle)
        for name, low, high, v, e in _of_rings(rings):
            label = "factors of categories, per ring" if name == "first" else None
            left.fill_between([low, high], v - e, v + e, color=GREY, alpha=0.25, lw=0)
            left.plot([low, high], [v, v], color=GREY, linewidth=1.4, label=label)
        left.stairs(value + error, edges, baseline=value - error, fill=True, color=BLUE, alpha=0.25)
        left.stairs(
            value, edges, baseline=None, color=BLUE, linewidth=1.8, label="factors of muons, 45 GeV"
        )
        left.set_xlim(edges[0], edges[-1])
        low, high = left.get_ylim()
        left.set_ylim(low, high + 0.25 * (high - low))  # room for the legend
        left.set_xlabel(ETA)
        left.set_ylabel(r"factor on $p_T$ error")
        left.legend(loc="upper right", ncols=2)
        _against_pt(right, found, settings)
        return drawn(figure)


def _of_rings(rings: pd.DataFrame) -> list[tuple[str, float, float, float, float]]:
    own = rings[rings["name"].str.startswith("ring_")]
    columns = own[["abs_eta_low", "abs_eta_high", "value", "error"]].to_numpy(dtype=float)
    return [("first" if i == 0 else "", *map(float, row)) for i, row in enumerate(columns)]  # type: ignore[misc]


def _against_pt(axes: Any, found: MuonFactors, settings: Settings) -> None:
    pt = np.geomspace(settings.muons.pt[0], settings.muons.pt[-1], 60)
    n = len(found)
    for r, (label, colour) in enumerate(
        zip(settings.ring_labels, (BLUE, ORANGE, GREY, "black") * 7, strict=False)
    ):
        if r not in found.ring_of:
            continue
        power, error = found.values[n + r], float(np.sqrt(found.covariance[n + r, n + r]))
        log = np.log(pt / 45.0)
        ratio = np.exp(power * log)
        axes.fill_between(
            pt,
            ratio * np.exp(-error * np.abs(log)),
            ratio * np.exp(error * np.abs(log)),
            color=colour,
            alpha=0.2,
            lw=0,
        )
        axes.plot(pt, ratio, color=colour, label=f"{label}: {power:+.2f} ± {error:.2f}")
    axes.set_xscale("log")
    axes.set_xlim(pt[0], pt[-1])
    ticks = [20, 30, 45, 60, 100, 200]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(r"$p_T$ [GeV]")
    axes.set_ylabel("factor over that at 45 GeV")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))
    axes.legend(title="power of $p_T$, by ring", loc="upper left")


def line_figure(table: pd.DataFrame) -> Figure:
    """Return how much of each variation of the line shape the data have, beside what was known."""
    with in_style():
        figure = empty_figure(7.0, 0.55 * len(table) + 1.4)
        axes = figure.subplots()
        y = np.arange(len(table))[::-1]
        axes.axvspan(-1, 1, color=GREY, alpha=0.15, lw=0, label="known before")
        axes.axvline(0.0, color="black", linewidth=0.8)
        value, error = (table[k].to_numpy(dtype=float) for k in ("value", "error"))
        axes.errorbar(
            value, y, xerr=error, fmt="o", color=BLUE, markersize=5, elinewidth=1.4, label="data"
        )
        reach = float(np.max(np.abs(value) + error, initial=1.2))
        axes.set_xlim(-1.1 * reach, 1.9 * reach)
        for at, effect in zip(y, table["effect_percent"], strict=True):
            axes.text(1.15 * reach, at, f"{effect:+.2f} % on the factors", va="center", fontsize=10)
        axes.set_yticks(y, [str(v).replace("_", " ") for v in table["variation"]])
        axes.set_ylim(-0.7, len(table) - 0.3)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("share of the variation")
        figure.legend(loc="outside upper center", ncols=2)
        return drawn(figure)


def closure_map(table: pd.DataFrame, settings: Settings) -> Figure:
    """Return fitted over expected in fine |eta| of both muons, a panel for each kind of factors.

    Parameters
    ----------
    table : DataFrame
        As `Closure.table`, with ``kind`` and ``factors``.
    settings : Settings
    """
    edges = np.asarray(settings.closure.abs_eta)
    own = table[table["kind"] == "abs_eta"]
    kinds = list(dict.fromkeys(own["factors"]))
    maps = [_mean_of_halves(own[own["factors"] == kind], len(edges) - 1) for kind in kinds]
    with in_style():
        figure = empty_figure(5.2 * max(len(kinds), 1) + 1.0, 5.0)
        panels = figure.subplots(1, max(len(kinds), 1), squeeze=False, sharey=True)[0]
        finite = np.abs(np.concatenate([[2.0], *(m[np.isfinite(m)] for m, _ in maps)]))
        colours = ScalarMappable(CenteredNorm(0.0, float(finite.max())), "RdBu_r")
        for axes, kind, (off, pulls) in zip(panels, kinds, maps, strict=False):
            axes.pcolormesh(edges, edges, off, cmap=colours.cmap, norm=colours.norm)
            _written(axes, edges, off, np.abs(pulls) > 3)
            chi2, n = float(np.nansum(pulls**2)), int(np.isfinite(pulls).sum())
            title = rf"factors of {_PLURAL.get(kind, kind)}: $\Sigma$ pull$^2$ {chi2:.0f} / {n}"
            axes.set_title(title)
            axes.set_xlabel(f"larger {ETA}")
            axes.minorticks_off()
        panels[0].set_ylabel(f"smaller {ETA}")
        bar = figure.colorbar(colours, ax=panels, pad=0.01, shrink=0.92, aspect=22)
        bar.set_label("fitted / expected - 1 [%]")
        return drawn(figure)


_PLURAL = {"category": "categories", "muon": "muons"}


def _mean_of_halves(rows: pd.DataFrame, n: int) -> tuple[Array, Array]:
    """Return 100 (fitted/expected - 1) and its pull by smaller (rows) and larger |eta|, (n, n).

    NaN where no half could be tested.
    """
    i, j = np.triu_indices(n)
    expected = rows["expected"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = (rows["fitted"].to_numpy(dtype=float) / expected - 1).reshape(-1, len(i))
        weight = (rows["error"].to_numpy(dtype=float) / expected).reshape(-1, len(i)) ** -2.0
        known = np.isfinite(off) & np.isfinite(weight)
        total = np.where(known, weight, 0.0).sum(0)
        mean = np.where(known, weight * off, 0.0).sum(0) / total
        pull = mean * np.sqrt(total)
    found = np.full((2, n, n), np.nan)
    found[:, i, j] = 100 * mean, pull
    return found[0], found[1]


def _written(axes: Any, edges: Array, off: Array, far: BoolArray) -> None:
    """Write each number into its cell; those beyond three standard deviations in bold."""
    middle = 0.5 * (edges[1:] + edges[:-1])
    reach = float(np.nanmax(np.abs(off), initial=2.0))
    for i, j in np.argwhere(np.isfinite(off)):
        axes.text(
            middle[j],
            middle[i],
            f"{off[i, j]:+.1f}",
            ha="center",
            va="center",
            fontsize=9,
            weight="bold" if far[i, j] else "normal",
            color="white" if abs(off[i, j]) > 0.7 * reach else "black",
        )
