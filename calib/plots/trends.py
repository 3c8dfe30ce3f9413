"""Figures of parameters that each bin of eta has, whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import ceil
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from calib.later import pandas as pd
from calib.plots.figures import BLUE, ORANGE, RED, drawn, empty_figure, in_style
from calib.results import Parameters
from calib.types import Array

GREEN = "#2f9e63"
COLOURS = (BLUE, ORANGE, GREEN, RED)


def finished(figure: Figure) -> Figure:
    """Draw with no minor ticks: there are many panels, and each tick costs a text layout."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "linear":
                axis.set_minor_locator(NullLocator())
    return drawn(figure)


def against_eta(
    tables: Mapping[str, pd.DataFrame],
    quantities: Mapping[str, tuple[str, float]],
    *,
    signed: Collection[str] = (),
    axis: str = "eta",
) -> Figure:
    """Return one panel for each quantity; the first table is drawn as a band as well.

    Parameters
    ----------
    tables : mapping of a label to a DataFrame
        With ``eta_low, eta_high`` and each quantity with its ``_err``; NaN is not drawn.
    quantities : mapping of a column to (label of the axis, factor)
        From top to bottom, the left column first.
    signed : collection of str
        Quantities with a line at zero.
    axis : str
        What stands in the place of ``eta``.

    Returns
    -------
    Figure
        Not saved.
    """
    rows = ceil(len(quantities) / 2)
    spare = 2 * rows > len(quantities)
    with in_style():
        figure = empty_figure(11.0, 2.75 * rows + 0.35)
        panels = figure.subplots(rows, 2, sharex=True, squeeze=False)
        # the spare panel is the last of the second column
        places = list(panels[:, 0]) + list(panels[:, 1])
        for axes, (name, (label, unit)) in zip(places, quantities.items(), strict=False):
            for i, (title, table) in enumerate(tables.items()):
                series(axes, table, name, unit, i, title, axis)
            axes.set_ylabel(label)
            if name in signed:
                axes.axhline(0.0, color="black", linewidth=0.8, zorder=0)
        handles, labels = places[0].get_legend_handles_labels()
        if spare:
            places[-1].axis("off")
            places[-1].legend(handles, labels, loc="center", fontsize=11)
        elif len(tables) > 1:
            figure.legend(handles, labels, loc="outside upper center", ncols=len(tables))
        for axes in (places[rows - 1], places[len(quantities) - 1]):
            axes.set_xlabel({"eta": r"$\eta$", "abs_eta": r"$|\eta|$"}.get(axis, axis))
            axes.tick_params(labelbottom=True)
        return finished(figure)


def series(
    axes: Any, table: pd.DataFrame, name: str, unit: float, i: int, title: str, axis: str = "eta"
) -> None:
    """Draw a quantity against eta (or another axis), as the i-th of several.

    Parameters
    ----------
    axes : matplotlib Axes
        To draw into.
    table : DataFrame
        ``eta_low, eta_high``, the quantity and its ``_err``.
    name : str
        Column of the quantity.
    unit : float
        Factor on value and error.
    i : int
        Which of several: colour, marker, offset; the first is a band as well.
    title : str
        In the legend.
    axis : str
        What stands in the place of ``eta``.
    """
    low, high = (table[f"{axis}_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
    value, error = (unit * table[c].to_numpy(dtype=float) for c in (name, f"{name}_err"))
    known = np.isfinite(value) & np.isfinite(error)
    colour = COLOURS[i % len(COLOURS)]
    if i == 0:
        bottom, top = (np.append(x, x[-1:]) for x in (value - error, value + error))
        axes.fill_between(
            np.append(low, high[-1:]), bottom, top, step="post", color=colour, alpha=0.18, lw=0
        )
    x = 0.5 * (low + high) + (0.0, 0.22, -0.22, 0.4)[i % 4] * (high - low)
    axes.errorbar(
        x[known],
        value[known],
        error[known],
        fmt="os^D"[i % 4],
        color=colour,
        markersize=3.5,
        elinewidth=1.0,
        label=title,
        markerfacecolor=colour if i == 0 else "white",
    )


def curves(
    points: pd.DataFrame, lines: Mapping[str, Callable[[Array], Array]], *, x: str, y: str
) -> Figure:
    """Return measured points of several series and the curve of each, on logarithmic axes.

    Parameters
    ----------
    points : DataFrame
        ``series, x, y, y_err``.
    lines : mapping of a series to a function of x
        In the order of their colours.
    x, y : str
        Labels of the axes.

    Returns
    -------
    Figure
        Not saved.
    """
    with in_style():
        figure = empty_figure(8.6, 5.6)
        axes = figure.subplots()
        colours = colormaps["viridis"](np.linspace(0.0, 0.92, max(len(lines), 2)))
        for colour, (name, line) in zip(colours, lines.items(), strict=False):
            own = points[points["series"] == name]
            if not len(own):
                continue
            at, value, error = (own[c].to_numpy(dtype=float) for c in ("x", "y", "y_err"))
            axes.errorbar(
                at, value, error, fmt="o", color=colour, markersize=3.5, elinewidth=1.0, label=name
            )
            fine = np.geomspace(0.9 * at.min(), 1.1 * at.max(), 100)
            axes.plot(fine, line(fine), color=colour, linewidth=1.1)
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            scale("log", subs=[2, 3, 5])
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("{x:g}")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if len(lines) <= 24 and len(points):
            axes.legend(ncols=2, fontsize=9)
        return finished(figure)


def widths(fits: pd.DataFrame, found: Parameters, category: str, *, x: str, y: str) -> Figure:
    """Return measured widths and the curve of each bin, sigma^2 = a^2 + b^2 / x^2.

    Parameters
    ----------
    fits : DataFrame
        Those of `calib.fitting.residual_widths`, with u = 1 / x^2.
    found : Parameters
        a and b of each bin.
    category : str
        Beginning of the names of the categories: ``d0`` of ``d0_e3_p7``.
    x, y : str
        Labels of the axes.

    Returns
    -------
    Figure
        Not saved.
    """
    own = fits[(fits["status"] == "ok") & fits["category"].str.startswith(f"{category}_")]
    place = own["category"].str.removeprefix(f"{category}_").str.rsplit("_p", n=1).str[0]
    points = pd.DataFrame(
        {"series": place, "x": own["u"] ** -0.5, "y": own["sigma"], "y_err": own["sigma_err"]}
    )

    def line(a: float, b: float) -> Callable[[Array], Array]:
        return lambda at: np.asarray(np.hypot(a, b / at))

    lines = {str(name): line(*ab) for name, ab in zip(found.bins, found.values, strict=True)}
    return curves(points, lines, x=x, y=y)
