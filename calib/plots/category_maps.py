"""A value in each category, as a map: the last two axes in a panel, a panel for each of the others.

When to use: few categories, a number in each cell. `calib.maps` averages where they are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from calib.events.categories import Axis, Categories
from calib.plots.figures import GREY, axis_title, drawn, empty_figure, in_style, with_unit
from calib.results import Status
from calib.types import Array

HATCH = {Status.MERGED: "////", Status.HELD: "\\\\\\\\"}


def category_map(
    values: Array,
    errors: Array,
    statuses: Sequence[Status | str],
    categories: Categories,
    *,
    label: str = "value",
    unit: str = "",
    center: float | None = 1.0,
) -> Figure:
    """Return a map of one value per category: the last two axes span a panel.

    Parameters
    ----------
    values, errors : array, shape (n,)
        In the order of the categories; written into the cells where there is room.
    statuses : sequence of Status or str, length n
        Merged and held cells are hatched, those without a usable value crossed.
    categories : Categories
        Of the n values; all axes but the last two make the panels.
    label, unit : str
        Of the value.
    center : float, optional
        Where the colours change sign; None for a plain scale.

    Returns
    -------
    Figure
        Not saved.
    """
    *outer, rows, columns = _at_least_two(categories.axes)
    shape = (len(rows), len(columns))
    n_panels = prod(len(a) for a in outer)
    across = min(n_panels, 4)
    down = ceil(n_panels / across)
    value = np.asarray(values, dtype=float).reshape(n_panels, *shape)
    error = np.asarray(errors, dtype=float).reshape(n_panels, *shape)
    status = np.asarray([Status(s) for s in statuses], dtype=object).reshape(n_panels, *shape)
    with in_style():
        width, height = max(2.9 * across, 4.5), max(3.1 * down + 0.9, 3.6)
        figure = empty_figure(width, height)
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        colours = _colours(value, center)
        for p, axes in enumerate(panels.flat):
            if p >= n_panels:
                axes.set_visible(False)
                continue
            _panel(axes, value[p], error[p], status[p], colours)
            axes.set_xticks(range(shape[1]), [_bin_title(columns, i) for i in range(shape[1])])
            axes.set_yticks(range(shape[0]), [_bin_title(rows, i) for i in range(shape[0])])
            axes.set_title(_panel_title(outer, p))
            if p >= n_panels - across:
                axes.set_xlabel(with_unit(axis_title(columns), columns.unit))
            if p % across == 0:
                axes.set_ylabel(with_unit(axis_title(rows), rows.unit))
        bar = figure.colorbar(colours, ax=panels, pad=0.01, shrink=0.92, aspect=22)
        bar.set_label(with_unit(label, unit))
        _legend_of_statuses(figure, status)
        return drawn(figure)


def _at_least_two(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return axes if len(axes) > 1 else (Axis("all", (0.0, 1.0), ("all",)), *axes)


def _panel_title(outer: Sequence[Axis], panel: int) -> str:
    bins = np.unravel_index(panel, [len(a) for a in outer]) if outer else ()
    return ", ".join(
        f"{axis_title(a)} {_bin_title(a, int(i))} {a.unit}".replace("\n", " ").strip()
        for a, i in zip(outer, bins, strict=True)
    )


def _colours(value: Array, center: float | None) -> ScalarMappable:
    finite = value[np.isfinite(value)]
    if center is not None:
        reach = max(float(np.max(np.abs(finite - center), initial=0.0)), 0.02)
        return ScalarMappable(CenteredNorm(center, 1.4 * reach), "RdBu_r")
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    return ScalarMappable(Normalize(low, high if high > low else low + 1.0), "YlGnBu")


def _panel(axes: Any, value: Array, error: Array, status: Any, colours: ScalarMappable) -> None:
    rows, columns = value.shape
    written = rows <= 8 and columns <= 8
    for i, j in np.ndindex(rows, columns):
        number = float(value[i, j])
        state: Status = status[i, j]
        known = bool(np.isfinite(number))
        colour = colours.to_rgba(np.array(number)) if known else (0.93, 0.93, 0.94, 1.0)
        axes.add_patch(
            Rectangle(
                (j - 0.5, i - 0.5),
                1,
                1,
                facecolor=colour,
                hatch=HATCH.get(state),
                edgecolor="#ffffff",
                linewidth=1.2,
            )
        )
        if not state.usable:
            for slope in (1, -1):
                axes.plot(
                    [j - 0.45, j + 0.45],
                    [i - 0.45 * slope, i + 0.45 * slope],
                    color=GREY,
                    linewidth=0.9,
                )
        if written and (known or state.usable):
            dark = known and np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
            axes.text(
                j,
                i,
                _value_and_error(number, float(error[i, j])),
                ha="center",
                va="center",
                fontsize=9,
                linespacing=1.25,
                color="white" if dark else "black",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0}
                if state in HATCH
                else None,
            )
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()


def _value_and_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "–"
    if not (np.isfinite(error) and error > 0):
        return f"{value:.3g}"
    digits = min(max(1 - int(np.floor(np.log10(error))), 0), 6)
    return f"{value:.{digits}f}\n± {error:.{digits}f}"


def _legend_of_statuses(figure: Figure, status: Any) -> None:
    found = set(status.flat)
    handles: list[Any] = [
        Patch(facecolor="#e8e8ee", edgecolor="#ffffff", hatch=hatch, label=state.value)
        for state, hatch in HATCH.items()
        if state in found
    ]
    bad = sorted(s.value.replace("_", " ") for s in found if not s.usable)
    if bad:
        handles.append(
            Line2D(
                [], [], color=GREY, marker="x", markersize=8, linestyle="none", label=", ".join(bad)
            )
        )
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _bin_title(axis: Axis, i: int) -> str:
    edges = f"{axis.edges[i]:g}–{axis.edges[i + 1]:g}"
    return f"{axis.labels[i]}\n{edges}" if axis.labels else edges
