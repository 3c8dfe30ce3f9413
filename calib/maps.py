"""Maps of many categories over two of their axes: for hundreds or thousands of cells.

`category_maps.category_map` writes a value into each cell; here the other axes are averaged over,
and the colour alone speaks.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from calib.arrays import Array
from calib.categories import Categories
from calib.plots import axis_title, drawn, empty_figure, in_style, with_unit


def mean_over_others(
    values: Array, weights: Array, categories: Categories, rows: int, columns: int
) -> Array:
    """Return the weighted mean of a value over all axes but two, shape (rows, columns).

    Parameters
    ----------
    values, weights : array, shape (n,)
        In the order of the categories; entries that are not finite, and weights that are not
        positive, are left out. A cell without any is NaN.
    categories : Categories
    rows, columns : int
        Numbers of the two axes that stay.
    """
    known = np.isfinite(values) & np.isfinite(weights) & (weights > 0)
    weight = np.where(known, weights, 0.0).reshape(categories.shape)
    value = np.where(known, values, 0.0).reshape(categories.shape)
    others = tuple(a for a in range(len(categories.axes)) if a not in (rows, columns))
    total, top = weight.sum(others), (weight * value).sum(others)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(total > 0, top / total, np.nan)
    return np.asarray(mean if rows < columns else mean.T)


def axis_map(
    values: Array,
    weights: Array,
    categories: Categories,
    rows: int,
    columns: int,
    *,
    label: str,
    unit: str = "",
    center: float | None = None,
) -> Figure:
    """Return a map of the mean of a value over two axes, edges to scale.

    The arguments are those of `mean_over_others`; ``center`` is where the colours change sign,
    None for a plain scale. The colours end at the central 98 % of the cells.
    """
    found = mean_over_others(values, weights, categories, rows, columns)
    finite = found[np.isfinite(found)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    if center is not None:
        reach = max(abs(high - center), abs(low - center), 1e-12)
        low, high = center - reach, center + reach
    with in_style():
        figure = empty_figure(6.4, 5.2)
        axes = figure.subplots()
        axes.set_facecolor("#e8e8ee")
        mesh = axes.pcolormesh(
            categories.axes[columns].edges,
            categories.axes[rows].edges,
            np.ma.masked_invalid(found),
            cmap="viridis" if center is None else "RdBu_r",
            vmin=low,
            vmax=high if high > low else low + 1e-12,
            rasterized=True,
        )
        for axis, name in ((axes.xaxis, columns), (axes.yaxis, rows)):
            chosen = categories.axes[name]
            axis.set_label_text(with_unit(axis_title(chosen), chosen.unit))
        figure.colorbar(mesh, ax=axes, label=with_unit(label, unit))
        return drawn(figure)
