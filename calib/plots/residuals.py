"""What is left of a correction: residuals against several axes, widths beside predictions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from calib.later import pandas as pd

COLOURS = {"plus": "#c1440e", "minus": "#20639b", "pair": "#333333"}
MUCH = 5.0
"""Ratio of largest and smallest pt from which on its axis is logarithmic."""

UNITS = {"pt": "pt [GeV]", "phi": "phi", "eta": "eta", "pt_ratio": "ln(pt plus / pt minus)"}


def against_axes(table: pd.DataFrame, quantity: str) -> Figure:
    """Return a figure of what is left of a quantity in bins of each axis, both charges.

    Parameters
    ----------
    table : DataFrame
        ``axis, kind, bin, value, error``; the bins as "low high".
    quantity : str
        What is written at the ordinate.

    Returns
    -------
    Figure
    """
    axes = [axis for axis in dict.fromkeys(table["axis"]) if axis != "all"]
    figure = Figure(figsize=(3.2 * len(axes), 3.0), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(len(axes), 1), sharey=True))
    for panel, axis in zip(panels, axes, strict=False):
        panel.axhline(0.0, color="0.6", linewidth=0.8)
        for kind, own in table[table["axis"] == axis].groupby("kind", sort=False):
            at = np.array([np.mean([float(x) for x in b.split()]) for b in own["bin"]])
            panel.errorbar(
                at, own["value"], own["error"], fmt="o", ms=3, color=COLOURS[str(kind)], label=kind
            )
        panel.set_xlabel(UNITS.get(axis, axis))
        if axis == "pt" and panel.get_xlim()[1] > MUCH * panel.get_xlim()[0] > 0:
            panel.set_xscale("log")
        if axis == "run":  # long numbers
            panel.xaxis.set_major_locator(MaxNLocator(2, integer=True))
            panel.ticklabel_format(axis="x", style="plain", useOffset=False)
        if len(set(table[table["axis"] == axis]["kind"])) > 1:
            panel.legend(fontsize="small")
    panels[0].set_ylabel(f"{quantity}, data / simulation - 1")
    return figure


def beside_prediction(table: pd.DataFrame, tolerance: float) -> Figure:
    """Return a figure of fitted against predicted resolution, and of their ratio below.

    Parameters
    ----------
    table : DataFrame
        ``kind, low, high, predicted, fitted, error, ratio, ratio_err``; GeV.
    tolerance : float
        Of the ratio around 1, drawn as a band.

    Returns
    -------
    Figure
    """
    good = table[np.isfinite(table["fitted"])]
    figure = Figure(figsize=(5.0, 5.0), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    ends = np.array([good["low"].min(), good["high"].max()]) if len(good) else np.array([0.0, 1.0])
    top.plot(ends, ends, color="0.6", linewidth=0.8)
    below.axhspan(1 - tolerance, 1 + tolerance, color="0.9")
    below.axhline(1.0, color="0.6", linewidth=0.8)
    for colour, (kind, own) in zip(
        COLOURS.values(), good.groupby("kind", sort=False), strict=False
    ):
        wide = (own["predicted"] - own["low"], own["high"] - own["predicted"])
        style = {"fmt": "o", "ms": 4, "color": colour}
        top.errorbar(own["predicted"], own["fitted"], own["error"], wide, label=kind, **style)
        below.errorbar(own["predicted"], own["ratio"], own["ratio_err"], **style)
    if len(good):
        top.legend()
    top.set_ylabel("fitted resolution [GeV]")
    below.set_ylabel("ratio")
    below.set_xlabel("predicted resolution, calibrated [GeV]")
    return figure
