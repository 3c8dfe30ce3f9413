"""Figures of the momentum scale: parameters against eta, residuals, maps, the scale along axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from calib.distributions import chi2_sf, normal_pdf
from calib.later import pandas as pd
from calib.plots.figures import BLUE, GREY, RED, empty_figure, in_style, moves
from calib.plots.trends import COLOURS, against_eta, finished, series
from calib.types import Array

PARAMETERS = {
    "A": (r"$A$ [10$^{-3}$]", 1e3),
    "e": (r"$e$ [MeV]", 1e3),
    "M": (r"$M$ [10$^{-5}$/GeV]", 1e5),
    "a": (r"$a$ [%]", 1e2),
    "c": (r"$c$ [10$^{-4}$/GeV]", 1e4),
}
"""How a parameter stands on an axis, and what it is multiplied with."""

SYMBOLS = {"A": "$A$", "e": "$e$", "M": "$M$", "a": "$a$", "c": "$c$", "a2": "$a^2$", "c2": "$c^2$"}
RESONANCES = {"jpsi": r"J/$\psi$", "upsilon": r"$\Upsilon$", "z": "Z"}
AXES = {
    "eta_plus": r"$\eta$ of the positive muon",
    "eta_minus": r"$\eta$ of the negative muon",
    "ratio": r"ln($p_T^+$ / $p_T^-$), bin centre",
    "angle": r"cos $\Delta\phi$, bin centre",
}
VARIABLES = {"eta": r"$\eta$", "phi": r"$\phi$", "pt": r"$p_T$ [GeV]"}


def resonance_title(name: str) -> str:
    """Return the symbol of a resonance."""
    return RESONANCES.get(name, name)


# parameters --------------------------------------------------------------------------------------
def parameters(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Return A, e, M, a, c against eta, one panel each; the first table as a band as well.

    Parameters
    ----------
    tables : mapping of a label to a DataFrame
        With ``eta_low, eta_high`` and each parameter with its ``_err``; NaN is not drawn.
    """
    return against_eta(tables, PARAMETERS, signed=("A", "e", "M"))


def strips(rows: Mapping[str, Array], edges: Array, label: str) -> Figure:
    """Return one strip of colour for each row of numbers against eta, in standard deviations."""
    values = np.array(list(rows.values()), dtype=float)
    reach = max(3.0, float(np.max(np.abs(np.nan_to_num(values)), initial=0.0)))
    with in_style():
        figure = empty_figure(9.0, 0.42 * len(rows) + 1.5)
        axes = figure.subplots()
        axes.set_facecolor("#e8e8ee")
        mesh = axes.pcolormesh(
            edges,
            np.arange(len(rows) + 1),
            np.ma.masked_invalid(values),
            cmap="RdBu_r",
            vmin=-reach,
            vmax=reach,
            edgecolors="white",
            linewidth=0.4,
        )
        axes.set_yticks(np.arange(len(rows)) + 0.5, [SYMBOLS.get(r, r) for r in rows])
        axes.tick_params(which="both", length=0)
        axes.invert_yaxis()
        axes.set_xlabel(r"$\eta$")
        figure.colorbar(mesh, ax=axes, label=label, pad=0.01)
        return finished(figure)


def correlation(covariance: Array, kinds: Sequence[str]) -> Figure:
    """Return the correlation matrix, one block for each pair of kinds of parameters.

    Parameters
    ----------
    covariance : array, shape (p, p)
        All of the first kind in order of eta, then all of the next; NaN is not drawn.
    kinds : sequence of str
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(np.diagonal(covariance))
        values = covariance / error / error[:, None]
    n = len(covariance) // len(kinds)
    with in_style():
        figure = empty_figure(7.2, 6.2)
        axes = figure.subplots()
        axes.set_facecolor("#e8e8ee")
        image = axes.imshow(
            np.ma.masked_invalid(values), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
        )
        middle = (np.arange(len(kinds)) + 0.5) * n - 0.5
        names = [SYMBOLS.get(k, k) for k in kinds]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(middle, names)
        axes.tick_params(which="both", length=0)
        for i in range(1, len(kinds)):
            axes.axhline(i * n - 0.5, color="black", linewidth=0.7)
            axes.axvline(i * n - 0.5, color="black", linewidth=0.7)
        axes.set_xlabel(r"parameter; within a block, $\eta$ from low to high")
        figure.colorbar(image, ax=axes, label="correlation", pad=0.01)
        return finished(figure)


# categories --------------------------------------------------------------------------------------
def residuals(fits: pd.DataFrame, edges: Array) -> Figure:
    """Return the residuals of mu^2 against the four axes: all of them, and below their means.

    Parameters
    ----------
    fits : DataFrame
        Of the categories that took part.
    edges : array, shape (n + 1,)
        Of eta.
    """
    own = fits[np.isfinite(fits["residual"].to_numpy(dtype=float))]
    with in_style():
        figure = empty_figure(12.5, 5.4)
        panels = figure.subplots(2, 4, sharex="col", sharey="row")
        for (upper, lower), (name, title) in zip(panels.T, AXES.items(), strict=True):
            lower.set_xlabel(title)
            if not len(own):
                continue
            x, y = own[name].to_numpy(dtype=float), own["residual"].to_numpy(dtype=float)
            margin = 0.04 * max(float(np.ptp(x)), 1e-3)
            bins = (
                edges
                if name.startswith("eta")
                else np.linspace(x.min() - margin, x.max() + margin, 50)
            )
            upper.hist2d(
                x,
                np.clip(y, -4.99, 4.99),
                (bins, np.linspace(-5, 5, 51)),
                cmin=1,
                cmap="Greys",
                norm="log",
                rasterized=True,
            )
            for i, (resonance, part) in enumerate(own.groupby("resonance", sort=False)):
                _profile(lower, part, name, COLOURS[i % len(COLOURS)], resonance_title(resonance))
            for axes in (upper, lower):
                axes.axhline(0.0, color="black", linewidth=0.8)
        panels[0, 0].set_ylabel("(data $-$ model) / error")
        panels[1, 0].set_ylabel("its mean")
        if len(own):
            figure.legend(
                *panels[1, 0].get_legend_handles_labels(), ncols=3, loc="outside upper center"
            )
        return finished(figure)


def _profile(axes: Any, part: pd.DataFrame, name: str, colour: str, title: str) -> None:
    found = part.groupby(name)["residual"].agg(["mean", "std", "count"])
    found = found[found["count"] >= 3]
    error = found["std"] / np.sqrt(found["count"])
    axes.errorbar(
        found.index,
        found["mean"],
        error,
        fmt="o",
        color=colour,
        markersize=3,
        elinewidth=1.0,
        label=title,
    )


def maps(fits: pd.DataFrame, edges: Array) -> Figure:
    """Return maps over eta plus and eta minus: scale, width and chi2 probability, by resonance.

    Parameters
    ----------
    fits : DataFrame
        Usable categories; the other axes are averaged over, mu with the weights of its errors,
        the rest with the number of events.
    edges : array, shape (n + 1,)
        Of eta.
    """
    names = list(dict.fromkeys(fits["resonance"]))
    with in_style():
        figure = empty_figure(12.0, 3.5 * max(len(names), 1) + 0.2)
        panels = figure.subplots(max(len(names), 1), 3, squeeze=False, sharex=True, sharey=True)
        for row, name in zip(panels, names, strict=False):
            own = fits[fits["resonance"] == name]
            columns = (
                (1e4 * (own["mu_ratio"] - 1), r"scale $\mu$ $-$ 1 [10$^{-4}$]", 0.0),
                (100 * own["sigma"], r"width $\sigma_m/m$ [%]", None),
                (_probability(own), r"mean $\chi^2$ probability", 0.5),
            )
            for axes, (values, label, center) in zip(row, columns, strict=True):
                weight = own["mu_ratio_err"] ** -2.0 if axes is row[0] else own["n_events"]
                found = _mean(own, np.asarray(values, dtype=float), weight, edges)
                mesh = _mesh(axes, found, edges, center)
                figure.colorbar(mesh, ax=axes, label=label, pad=0.01)
            row[0].set_ylabel(rf"{resonance_title(name)}: $\eta$ of the $\mu^+$")
        for axes in panels[-1]:
            axes.set_xlabel(r"$\eta$ of the $\mu^-$")
        return finished(figure)


def _probability(fits: pd.DataFrame) -> Array:
    chi2, ndf = (fits[c].to_numpy(dtype=float) for c in ("chi2", "ndf"))
    return np.asarray(np.where(ndf > 0, chi2_sf(chi2, np.maximum(ndf, 1)), np.nan))


def _mean(fits: pd.DataFrame, values: Array, weights: pd.Series, edges: Array) -> Array:
    """Return the weighted mean over the other axes, shape (n, n)."""
    weight = np.nan_to_num(weights.to_numpy(dtype=float)) * np.isfinite(values)
    n = len(edges) - 1
    at = np.zeros(len(fits), dtype=np.int64)
    for name in ("eta_plus", "eta_minus"):
        eta = fits[name].to_numpy(dtype=float)
        at = at * n + np.clip(np.searchsorted(edges, eta, side="right") - 1, 0, n - 1)
    total, top = (
        np.bincount(at, w, minlength=n * n).reshape(n, n)
        for w in (weight, weight * np.nan_to_num(values))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, top / total, np.nan))


def _mesh(axes: Any, values: Array, edges: Array, center: float | None) -> Any:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    if center is not None:
        reach = max(abs(high - center), abs(low - center), 1e-12)
        low, high = center - reach, center + reach
    axes.set_facecolor("#e8e8ee")
    return axes.pcolormesh(
        edges,
        edges,
        np.ma.masked_invalid(values),
        rasterized=True,
        cmap="viridis" if center is None else "RdBu_r",
        vmin=low,
        vmax=high if high > low else low + 1e-12,
    )


def quality(fits: pd.DataFrame) -> Figure:
    """Return the histograms of the residuals and of the chi2 probabilities, by resonance."""
    with in_style():
        figure = empty_figure(11.0, 4.0)
        left, right = figure.subplots(1, 2)
        for i, (name, part) in enumerate(fits.groupby("resonance", sort=False)):
            pull = part["residual"].to_numpy(dtype=float)
            pull = pull[np.isfinite(pull)]
            p = _probability(part)
            p = p[np.isfinite(p)]
            colour, title = COLOURS[i % len(COLOURS)], resonance_title(str(name))
            spread = f"{pull.mean():+.2f} ± {pull.std():.2f}" if len(pull) else "none"
            for axes, values, bins, words in (
                (left, np.clip(pull, -4.999, 4.999), np.linspace(-5, 5, 41), spread),
                (right, p, np.linspace(0, 1, 21), f"{len(p)} fits"),
            ):
                if len(values):
                    axes.hist(
                        values,
                        bins,
                        histtype="step",
                        color=colour,
                        linewidth=1.5,
                        density=True,
                        label=f"{title}: {words}",
                    )
        x = np.linspace(-5, 5, 201)
        left.plot(x, normal_pdf(x), color=RED, linestyle="--", linewidth=1.0, label="unit Gaussian")
        left.set_xlabel("(data $-$ model) / error")
        left.set_ylabel("density of categories")
        right.axhline(1.0, color=RED, linestyle="--", linewidth=1.0, label="flat")
        right.set_xlabel(r"$\chi^2$ probability of a fit")
        right.set_ylabel("density of fits")
        right.set_xlim(0, 1)
        for axes in (left, right):
            axes.set_ylim(0, 1.45 * axes.get_ylim()[1])
            axes.legend(loc="upper right" if axes is right else "upper left", ncols=2)
        return finished(figure)


# closure -----------------------------------------------------------------------------------------
def along_axes(table: pd.DataFrame) -> Figure:
    """Return the mass scale of one resonance against eta, phi, pt; below, after, closer.

    Parameters
    ----------
    table : DataFrame
        Rows of `Closure.table` of the kind ``axis``.
    """
    with in_style():
        figure = empty_figure(12.0, 6.0)
        panels = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(1.0, 1.0))
        for column, (variable, title) in enumerate(VARIABLES.items()):
            upper, lower = panels[:, column]
            own = table[table["variable"] == variable]
            log = variable == "pt" and len(own) > 0 and float(own["low"].min()) > 0
            for charge, shift, fill in (("plus", -0.12, True), ("minus", 0.12, False)):
                part = own[own["charge"] == charge]
                _points(upper, part, "before", "before_err", 1e3, shift, GREY, fill, log)
                _points(upper, part, "fitted", "error", 1e3, shift, BLUE, fill, log)
                _points(lower, part, "fitted", "error", 1e5, shift, BLUE, fill, log)
            if log:
                lower.set_xscale("log")
                edges = np.unique(own[["low", "high"]].to_numpy(dtype=float))
                ticks = [
                    x for x in (4, 6, 10, 20, 30, 50, 100, 200, 300) if edges[0] <= x <= edges[-1]
                ]
                lower.set_xticks(ticks, [f"{x:g}" for x in ticks])
                lower.xaxis.set_minor_locator(NullLocator())
            lower.set_xlabel(title)
            lower.axhspan(-10, 10, color="#00000010", lw=0)
            for axes in (upper, lower):
                axes.axhline(0.0, color="black", linewidth=0.8)
        panels[0, 0].set_ylabel(r"$\mu$ data / reference $-$ 1 [10$^{-3}$]")
        panels[1, 0].set_ylabel(r"the same, after [10$^{-5}$]")
        _limit(panels[1, 0], 1e5 * (table["fitted"] - 1), 1e5 * table["error"], 12.0)
        handles = [
            Line2D(
                [],
                [],
                color=c,
                marker="o",
                linestyle="none",
                markersize=5,
                markerfacecolor=f,
                label=t,
            )
            for c, f, t in (
                (GREY, GREY, "before"),
                (BLUE, BLUE, "after"),
                ("black", "black", r"of the $\mu^+$"),
                ("black", "white", r"of the $\mu^-$"),
            )
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
        return finished(figure)


def _points(
    axes: Any,
    part: pd.DataFrame,
    value: str,
    error: str,
    unit: float,
    shift: float,
    colour: str,
    fill: bool,
    log: bool,
) -> None:
    low, high = (part[c].to_numpy(dtype=float) for c in ("low", "high"))
    place = 0.5 + shift
    x = low * (high / low) ** place if log else low + place * (high - low)
    y = unit * (part[value].to_numpy(dtype=float) - 1)
    err = unit * part[error].to_numpy(dtype=float)
    known = np.isfinite(y) & np.isfinite(err)
    axes.errorbar(
        x[known],
        y[known],
        err[known],
        fmt="o",
        color=colour,
        markersize=3.5,
        elinewidth=1.0,
        markerfacecolor=colour if fill else "white",
    )


def _limit(axes: Any, values: pd.Series, errors: pd.Series, least: float) -> None:
    """Show all points but those whose errors are far larger than the others'."""
    value, error = values.to_numpy(dtype=float), errors.to_numpy(dtype=float)
    known = np.isfinite(value) & np.isfinite(error)
    if not known.any():
        return
    good = known & (error <= 5 * np.median(error[known]))
    reach = max(least, 1.1 * float(np.max(np.abs(value[good]) + error[good])))
    axes.set_ylim(-reach, reach)


# iteration ---------------------------------------------------------------------------------------
def iteration(table: pd.DataFrame, threshold: float | None) -> Figure:
    """Return the largest move of each kind of parameter against the pass, in errors."""
    names = [c.removeprefix("move_") for c in table.columns if c.startswith("move_")]
    colours = (*COLOURS, GREY)
    with in_style():
        figure = empty_figure(7.2, 4.2)
        axes = figure.subplots()
        for kind, line in (("data", "-"), ("simulation", ":")):
            own = table[table["kind"] == kind].sort_values("pass")
            for name, colour in zip(names, colours, strict=False):
                move = own[f"move_{name}"].to_numpy(dtype=float)
                label = SYMBOLS.get(name, name) if kind == "data" else None
                axes.plot(
                    own["pass"],
                    np.where(move > 0, move, np.nan),
                    line,
                    marker="o",
                    markersize=4,
                    color=colour,
                    label=label,
                )
        if threshold is not None:
            axes.axhline(threshold, color="black", linestyle="--", linewidth=1.0)
            axes.annotate(
                "stop below",
                (0.01, threshold),
                xytext=(0, 3),
                fontsize=9,
                textcoords="offset points",
                xycoords=("axes fraction", "data"),
            )
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("pass over the events")
        axes.set_ylabel("largest move / its error")
        handles, _ = axes.get_legend_handles_labels()
        if (table["kind"] == "simulation").any():
            handles += [
                Line2D([], [], color="black", linestyle=line, label=kind)
                for kind, line in (("data", "-"), ("simulation", ":"))
            ]
        axes.legend(handles=handles, loc="upper right", ncols=2)
        return finished(figure)


def moved(old: pd.DataFrame, new: pd.DataFrame, legend: tuple[str, str]) -> Figure:
    """Return A, e, M of two sets against eta, and the move in standard deviations below each.

    Both tables have ``eta_low, eta_high`` and the parameters with ``_err``, row by row the same
    eta bins.
    """
    with in_style():
        figure = empty_figure(12.5, 5.2)
        panels = figure.subplots(2, 3, sharex=True, height_ratios=(2, 1))
        middle = 0.5 * (new["eta_low"] + new["eta_high"]).to_numpy(dtype=float)
        width = (new["eta_high"] - new["eta_low"]).to_numpy(dtype=float)
        for (upper, lower), name in zip(panels.T, ("A", "e", "M"), strict=True):
            label, unit = PARAMETERS[name]
            for i, (table, title) in enumerate(((new, legend[1]), (old, legend[0]))):
                series(upper, table, name, unit, i, title)
            pull = moves(
                *(t[c].to_numpy(dtype=float) for t in (old, new) for c in (name, f"{name}_err"))
            )
            shown = np.isfinite(pull)
            far = np.abs(pull[shown]) > 3
            lower.bar(
                middle[shown], pull[shown], 0.8 * width[shown], color=np.where(far, RED, BLUE)
            )
            lower.axhspan(-2, 2, color="#00000010", lw=0)
            lower.axhline(0.0, color="black", linewidth=0.8)
            reach = max(3.0, float(np.max(np.abs(pull[shown]), initial=0.0)))
            lower.set_ylim(-1.1 * reach, 1.1 * reach)
            upper.set_ylabel(label)
            lower.set_xlabel(r"$\eta$")
        panels[1, 0].set_ylabel("move / error")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        return finished(figure)
