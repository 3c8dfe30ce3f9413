"""Figures that only a person in a notebook asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from calib.plots import figures
from calib.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5.0
"""Standard deviations up to which a distance is drawn in its place; beyond, at the edge."""


def shown_in_cells() -> None:
    """Let a notebook draw figures that pyplot has not made."""
    import sys

    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell is not None:
        select_figure_formats(shell, {"png"})


def distances(parts: Mapping[str, Array], *, label: str) -> Figure:
    """Return a figure with the distance of each value, one row of points a kind.

    Parameters
    ----------
    parts : mapping of kind to array
        In standard deviations; NaN where a value cannot be compared.
    label : str
    """
    with figures.in_style():
        figure = figures.empty_figure(7.2, 1.0 + 1.15 * max(len(parts), 1))
        rows = figure.subplots(max(len(parts), 1), 1, squeeze=False)[:, 0]
        for axes, (kind, sigma) in zip(rows, parts.items(), strict=False):
            axes.axhspan(-1, 1, color=figures.BLUE, alpha=0.12, lw=0)
            axes.axhline(0, color="0.6", lw=0.8)
            far = np.abs(sigma) > SHOWN
            at, drawn = np.arange(len(sigma)), np.clip(sigma, -SHOWN, SHOWN)
            axes.plot(at[~far], drawn[~far], "o", ms=3.5, color=figures.BLUE)
            axes.plot(at[far], drawn[far], "D", ms=5, color=figures.RED)
            axes.set_ylim(-1.1 * SHOWN, 1.1 * SHOWN)
            axes.set_xlim(-1, max(len(sigma), 1))
            axes.set_ylabel(kind)
        rows[-1].set_xlabel("value, in the order of the payload")
        figure.suptitle(label, fontsize=11)
        return figures.drawn(figure)
