"""Sums over events as ``hist`` objects (UHI), for people and plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from calib.events.histograms import Layout, Sums

if TYPE_CHECKING:
    import hist


def as_hists(sums: Sums, layouts: Mapping[str, Layout]) -> dict[str, hist.Hist]:
    """Return the histograms among the sums, by name; with weights squared, bin for bin.

    Parameters
    ----------
    sums : mapping of str to array
        Of one sample.
    layouts : mapping of str to Layout
        Of the calibration.

    Returns
    -------
    dict of str to hist.Hist
        With weighted storage.
    """
    found = {}
    for name, layout in layouts.items():
        if f"{name}/counts" in sums or f"{name}/sumw" in sums:
            found[name] = as_hist(sums, name, layout)
    return found


def as_hist(sums: Sums, name: str, layout: Layout) -> hist.Hist:
    """Return one histogram: the axes of its categories, then the observable.

    ``h["0", "30-45_EE", :]`` is the mass of a category in one half of the events, and
    ``h[{"half": sum}]`` adds the halves.

    Parameters
    ----------
    sums : mapping of str to array
        Of one sample.
    name : str
        Of the histogram.
    layout : Layout
        Its axes.

    Returns
    -------
    hist.Hist
        With weighted storage.
    """
    import hist

    label = f"{layout.observable} [{layout.unit}]" if layout.unit else layout.observable
    observable = layout.observable.replace(" ", "_")
    axes = [hist.axis.StrCategory(labels, name=axis) for axis, labels in layout.rows.items()]
    axes.append(hist.axis.Variable(layout.edges, name=observable, label=label))
    filled = hist.Hist(*axes, storage=hist.storage.Weight(), name=name)
    # where all weights are 1 the counts are the sums
    value = sums.get(f"{name}/sumw", sums.get(f"{name}/counts"))
    variance = sums.get(f"{name}/sumw2", value)
    view = filled.view()
    view.value[...] = np.reshape(value, view.value.shape)
    view.variance[...] = np.reshape(variance, view.variance.shape)
    return filled
