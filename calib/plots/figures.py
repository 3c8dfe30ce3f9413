"""Results -> matplotlib Figure, in the style of mplhep. No pyplot, no state; the caller saves.

When to use: any calibration's `sections`, the report, a notebook (`figure.savefig`). All numbers
may be NaN: nothing is drawn for those, and axes without a number say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import mplhep
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from calib.distributions import normal_pdf
from calib.events.categories import Axis
from calib.later import pandas as pd
from calib.results import Curve
from calib.types import Array, BoolArray

BLUE, ORANGE, RED, GREY = "#3f73d6", "#e8890c", "#d3212d", "#8a8d99"
MANY_BINS = 60
"""A closure of more bins is shown by its pulls."""

FEW_ENTRIES = 5.0
"""Least expected entries of a bin whose pull is near enough to a Gaussian."""

_SIZES = {
    # by name, not "sans-serif", which would be looked up again when the figure is saved; the
    # second one has the Greek letters
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 11.0,
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "axes.linewidth": 1.0,
    "axes.unicode_minus": True,
    "legend.fontsize": 10.0,
    "figure.dpi": 100.0,
    "hatch.linewidth": 0.7,
    "hatch.color": "#00000070",
    **{f"{axis}tick.labelsize": 10.0 for axis in "xy"},
    **{
        f"{axis}tick.{kind}.size": size
        for axis in "xy"
        for kind, size in (("major", 5.0), ("minor", 2.5))
    },
    **{f"{axis}tick.major.pad": 4.0 for axis in "xy"},
}
_WORDS = {"abs_eta": r"$|\eta|$", "eta": r"$\eta$", "phi": r"$\phi$", "pt": r"$p_T$"}


@contextmanager
def in_style() -> Iterator[None]:
    """Draw in the field's style, and leave no trace of it."""
    with matplotlib.rc_context({**mplhep.style.CMS, **_SIZES}):
        yield


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure without axes.

    Parameters
    ----------
    width, height : float
        In inches.

    Returns
    -------
    Figure
        Without axes.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def drawn(figure: Figure) -> Figure:
    """Make the ticks now: later they would be made in the style of the moment.

    The layout is done once; each further drawing would do it again, for most of its time.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def axis_title(axis: Axis) -> str:
    """Return the name of an axis as it stands on a figure: ``leading_pt`` as leading p_T."""
    for word, symbol in _WORDS.items():
        if axis.name == word or axis.name.endswith("_" + word):
            return axis.name[: -len(word)].replace("_", " ") + symbol
    return axis.name.replace("_", " ")


def with_unit(label: str, unit: str) -> str:
    """Return the label of an axis with its unit in brackets, if it has one.

    Parameters
    ----------
    label : str
        What is on the axis.
    unit : str
        May be empty.

    Returns
    -------
    str
        ``label [unit]``.
    """
    return f"{label} [{unit}]" if unit else label


def closure_figure(table: pd.DataFrame, *, label: str = "") -> Figure:
    """Return fitted over expected with the band of its error, and the pulls below.

    Parameters
    ----------
    table : DataFrame
        As `Closure.table`: ``bin, expected, fitted, error, pull``; rows of another ``kind``
        stand in a block of their own, those of another ``half`` beside each other. A kind that
        was made with several ``factors`` has a block for each, side by side. A kind with many
        bins, or where 0 is expected, is a histogram of its pulls.
    label : str
        Of what is fitted (``sigma``).

    Returns
    -------
    Figure
        Not saved.
    """
    with in_style():
        parts = _closure_parts(table)
        many = {k: rows for k, rows in parts.items() if _too_many(rows)}
        lines: dict[Any, list[tuple[str, pd.DataFrame]]] = {}
        for (kind, factors), rows in parts.items():
            if (kind, factors) not in many:
                title = "bin" if kind is None else f"bin of {kind}"
                own = title + (f", factors of {factors}" if factors else "")
                lines.setdefault(kind, []).append((own, rows))
        if not len(table):
            figure = empty_figure(11.0, 4.2)
            _say_nothing(figure.subplots(), "no closure bin")
            return drawn(figure)
        heights = [4.2] * len(lines) + [3.4] * bool(many)
        figure = empty_figure(11.0, sum(heights))
        blocks = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for block, line in zip(blocks, lines.values(), strict=False):
            places = block.subfigures(1, len(line), squeeze=False)[0] if len(line) > 1 else [block]
            for place, (title, rows) in zip(places, line, strict=True):
                _closure_block(place, rows, label, title)
        if many:
            panels = blocks[-1].subplots(1, len(many), squeeze=False)[0]
            for axes, ((kind, factors), rows) in zip(panels, many.items(), strict=True):
                pull = rows["pull"].to_numpy(dtype=float)
                title = f"pull of {kind or 'the bins'}" + (f" ({factors})" if factors else "")
                _pulls(axes, pull[np.isfinite(pull)], title)
        return drawn(figure)


def _closure_parts(table: pd.DataFrame) -> dict[tuple[Any, str], pd.DataFrame]:
    """Return the rows of each kind, and of each kind of factors where it has several."""
    kinds: list[Any] = list(dict.fromkeys(table["kind"])) if "kind" in table else [None]
    parts: dict[tuple[Any, str], pd.DataFrame] = {}
    for kind in kinds:
        rows = table if kind is None else table[table["kind"] == kind]
        names = list(dict.fromkeys(rows["factors"])) if "factors" in rows else []
        if len(names) < 2:
            parts[kind, ""] = rows
            continue
        parts |= {(kind, str(name)): rows[rows["factors"] == name] for name in names}
    return parts


def _too_many(table: pd.DataFrame) -> bool:
    """Return whether single bins say less than their pulls: too many, or nothing to divide by."""
    return len(table) > MANY_BINS or bool((table["expected"] == 0).any())


def _closure_block(block: Any, table: pd.DataFrame, label: str, title: str) -> None:
    upper, lower = block.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    is_narrow = block.bbox.width < 0.7 * block.figure.bbox.width
    bins = list(dict.fromkeys(table["bin"].astype(str)))
    place = {name: i for i, name in enumerate(bins)}
    halves: list[Any] = list(dict.fromkeys(table["half"])) if "half" in table else [None]
    width = 0.8 / len(halves)
    known = table["error"].to_numpy(dtype=float) / table["expected"].to_numpy(dtype=float)
    reach = 0.02
    if np.isfinite(known).any():  # a scale is known to far less than a per cent
        reach = min(reach, 5 * float(np.nanmedian(np.abs(known))))
    for h, half in enumerate(halves):
        rows = table if half is None else table[table["half"] == half]
        x = np.array([place[str(b)] for b in rows["bin"]], dtype=float)
        x += (h - (len(halves) - 1) / 2) * width
        expected = rows["expected"].to_numpy(dtype=float)
        ratio = rows["fitted"].to_numpy(dtype=float) / expected
        error = np.abs(rows["error"].to_numpy(dtype=float) / expected)
        pull = rows["pull"].to_numpy(dtype=float)
        good = np.isfinite(ratio) & np.isfinite(error)
        colour = (BLUE, ORANGE, GREY)[h % 3]
        name = "" if half is None else f"half {half}"
        upper.bar(x[good], 2 * error[good], width, 1 - error[good], color=colour, alpha=0.25)
        upper.plot(x[good], ratio[good], "o", color=colour, markersize=4.5, label=name)
        shown = np.isfinite(pull)
        lower.bar(x[shown], pull[shown], width * 0.9, color=colour)
        reach = max(
            reach,
            float(np.max(np.abs(ratio[good] - 1) + 0.2 * error[good], initial=0)),
            float(np.median(error[good]) if good.any() else 0),
        )
        for nothing in x[~good]:
            upper.axvspan(nothing - width / 2, nothing + width / 2, color="#00000012", lw=0)
    upper.axhline(1.0, color="black", linewidth=1.0)
    upper.set_ylim(1 - 1.15 * reach, 1 + 1.3 * reach)
    upper.set_ylabel(f"{label}: fitted / expected".removeprefix(": "))
    upper.legend(
        handles=[
            *[h for h in upper.get_legend_handles_labels()[0] if h.get_label()[:1] != "_"],
            Patch(color=BLUE, alpha=0.25, label="± 1 standard deviation"),
            Patch(color="#00000012", label="not tested"),
        ],
        ncols=2 if is_narrow else 4,
        loc="upper right",
        fontsize=9,
    )
    lower.axhspan(-2, 2, color="#00000010", lw=0)
    lower.axhline(0.0, color="black", linewidth=1.0)
    highest = float(np.nanmax(np.abs(table["pull"].to_numpy(dtype=float)), initial=3.0))
    lower.set_ylim(-1.1 * highest, 1.1 * highest)
    lower.set_ylabel("pull")
    lower.set_xlabel(title)
    lower.set_xlim(-0.6, len(bins) - 0.4)
    is_crowded = len(bins) > (6 if is_narrow else 16)
    lower.set_xticks(range(len(bins)), bins, rotation=90 if is_crowded else 0)
    for axes in (upper, lower):
        axes.xaxis.set_minor_locator(NullLocator())  # each tick costs a text layout


def _say_nothing(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.minorticks_off()


def pulls_of(curve: Curve) -> Array:
    """Return (counts - model) / error per bin; NaN where nothing is expected.

    The error is the model's: sqrt(model) times the mean weight's root, so that it is right for
    nearly empty bins and for weighted events.
    """
    total = float(np.sum(curve.counts))
    mean_weight = float(np.sum(curve.variance)) / total if total > 0 else 1.0
    variance = np.asarray(curve.model, dtype=float) * mean_weight
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = (curve.counts - curve.model) / np.sqrt(variance)
    return np.where(variance > 0, pulls, np.nan)


def enough_entries(curve: Curve) -> BoolArray:
    """Return which bins expect enough entries for a pull to be near a Gaussian."""
    total = float(np.sum(curve.counts))
    mean_weight = float(np.sum(curve.variance)) / total if total > 0 else 1.0
    with np.errstate(invalid="ignore"):
        return np.asarray(curve.model >= FEW_ENTRIES * mean_weight, dtype=np.bool_)


def pull_histogram(pulls: Array, *, label: str = "pull") -> Figure:
    """Return the histogram of pulls beside the unit Gaussian, with mean and width.

    Parameters
    ----------
    pulls : array, shape (n,)
        In standard deviations; what is not finite is left out.
    label : str
        Of the axis.

    Returns
    -------
    Figure
        Not saved.
    """
    finite = np.asarray(pulls, dtype=float)
    with in_style():
        figure = empty_figure(5.4, 3.9)
        _pulls(figure.subplots(), finite[np.isfinite(finite)], label)
        return drawn(figure)


def _pulls(axes: Any, finite: Array, label: str) -> None:
    axes.set_xlabel(label)
    if not finite.size:
        _say_nothing(axes, "no pull")
        return
    edges = np.linspace(-5, 5, 41).tolist()
    axes.hist(np.clip(finite, -4.999, 4.999), edges, color=BLUE, alpha=0.3)
    axes.hist(np.clip(finite, -4.999, 4.999), edges, color=BLUE, histtype="step", linewidth=1.3)
    x = np.linspace(-5, 5, 201)
    axes.plot(x, finite.size * 0.25 * normal_pdf(x), color=RED, label="unit Gaussian")
    text = f"n = {finite.size}\nmean {finite.mean():+.3f}\nwidth {finite.std():.3f}"
    axes.text(0.04, 0.95, text, transform=axes.transAxes, va="top", fontsize=10)
    axes.set_ylabel("entries / 0.25")
    axes.set_xlim(-5, 5)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    axes.legend(loc="upper right")


def probability_histogram(probabilities: Array, *, label: str = r"$\chi^2$ probability") -> Figure:
    """Return the histogram of probabilities, which should be flat.

    Parameters
    ----------
    probabilities : array, shape (n,)
        From 0 to 1; what is not finite is left out.
    label : str
        Of the axis.

    Returns
    -------
    Figure
        Not saved.
    """
    finite = np.asarray(probabilities, dtype=float)
    finite = finite[np.isfinite(finite)]
    with in_style():
        figure = empty_figure(5.4, 3.9)
        axes = figure.subplots()
        axes.set_xlabel(label)
        if not finite.size:
            _say_nothing(axes, "no fit")
            return drawn(figure)
        n_bins = 10 if finite.size < 400 else 20
        axes.hist(finite, bins=n_bins, range=(0, 1), color=BLUE, alpha=0.3)
        axes.hist(finite, bins=n_bins, range=(0, 1), color=BLUE, histtype="step", linewidth=1.3)
        flat = finite.size / n_bins
        axes.axhline(flat, color=RED, label="flat")
        axes.axhspan(
            max(flat - np.sqrt(flat), 0), flat + np.sqrt(flat), color=RED, alpha=0.12, lw=0
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
        axes.set_ylabel(f"fits / {1 / n_bins:g}")
        axes.legend(loc="upper right", title=f"{finite.size} fits")
        return drawn(figure)


def moves(old: Array, old_err: Array, new: Array, new_err: Array) -> Array:
    """Return (new - old) in standard deviations of both; a missing error counts as zero.

    Parameters
    ----------
    old, old_err, new, new_err : array, shape (n,)
        Values and errors, in one unit; independent.

    Returns
    -------
    array, shape (n,)
        Pulls; NaN where both errors are missing.
    """
    variance = np.nan_to_num(np.asarray(old_err, dtype=float)) ** 2
    variance = variance + np.nan_to_num(np.asarray(new_err, dtype=float)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (np.asarray(new, dtype=float) - old) / np.sqrt(variance)
    return np.where(variance > 0, found, np.nan)


def comparison(
    names: Sequence[str],
    old: Array,
    old_err: Array,
    new: Array,
    new_err: Array,
    *,
    label: str = "value",
    unit: str = "",
    legend: tuple[str, str] = ("earlier", "this"),
) -> Figure:
    """Return two sets of values side by side, and the move in standard deviations below.

    Parameters
    ----------
    names : sequence of str, length n
    old, old_err, new, new_err : array, shape (n,)
        NaN where there is none; errors are taken as independent.
    label, unit : str
        Of the value.
    legend : (str, str)
        Names of old and new.

    Returns
    -------
    Figure
        Not saved.
    """
    with in_style():
        figure = empty_figure(max(0.26 * len(names) + 1.5, 7.0), 5.0)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        x = np.arange(len(names), dtype=float)
        for shift, colour, name, value, error in (
            (-0.15, GREY, legend[0], old, old_err),
            (0.15, BLUE, legend[1], new, new_err),
        ):
            upper.errorbar(
                x + shift,
                value,
                np.nan_to_num(np.asarray(error, dtype=float)),
                fmt="o",
                color=colour,
                markersize=4,
                elinewidth=1.2,
                label=name,
            )
        move = moves(old, old_err, new, new_err)
        shown = np.isfinite(move)
        highest = max(3.0, float(np.max(np.abs(move[shown]), initial=0.0)))
        lower.axhspan(-2, 2, color="#00000010", lw=0)
        lower.axhline(0.0, color="black", linewidth=1.0)
        lower.bar(x[shown], move[shown], 0.6, color=np.where(np.abs(move[shown]) > 3, RED, BLUE))
        lower.set_ylim(-1.1 * highest, 1.1 * highest)
        lower.set_xlim(-0.6, max(len(names) - 0.4, 0.6))
        lower.set_xticks(x, list(names), rotation=90 if len(names) > 12 else 0)
        upper.set_ylabel(with_unit(label, unit))
        low, high = upper.get_ylim()
        upper.set_ylim(low, high + 0.15 * (high - low))  # room for the legend
        upper.legend(ncols=2, loc="upper right")
        lower.set_ylabel("move / error")
        lower.set_xlabel("category")
        for axes in (upper, lower):
            axes.xaxis.set_minor_locator(NullLocator())
        return drawn(figure)


def fit_figure(curve: Curve) -> Figure:
    """Return the picture of one fit: events with errors, model, background, pulls below."""
    with in_style():
        figure = empty_figure(6.4, 5.2)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        edges = np.asarray(curve.edges, dtype=float)
        middle = 0.5 * (edges[1:] + edges[:-1])
        # bins of different widths are drawn as densities, per bin of their median
        dense = np.median(np.diff(edges)) / np.diff(edges)
        upper.errorbar(
            middle,
            dense * curve.counts,
            dense * np.sqrt(np.maximum(curve.variance, 0)),
            fmt="o",
            color="black",
            markersize=3,
            elinewidth=0.9,
            label="events",
        )
        upper.plot(middle, dense * curve.model, color=RED, linewidth=1.6, label="model")
        if np.any(curve.background > 0):
            upper.plot(
                middle, dense * curve.background, color=BLUE, linestyle="--", label="background"
            )
        upper.set_ylim(bottom=min(0.0, float(np.nanmin(dense * curve.counts, initial=0.0))))
        upper.set_ylabel(f"events / {np.median(np.diff(edges)):.3g} {curve.unit}".rstrip())
        upper.set_title(
            curve.name
            if curve.group == "categories"
            else f"{curve.name} ({curve.group.replace('_', ' ')})",
            loc="left",
        )
        upper.legend()
        pulls = pulls_of(curve)
        shown = np.isfinite(pulls)
        lower.axhspan(-2, 2, color="#00000010", lw=0)
        lower.axhline(0.0, color="black", linewidth=0.8)
        lower.bar(middle[shown], pulls[shown], np.diff(edges)[shown], color=BLUE)
        highest = max(3.5, float(np.max(np.abs(pulls[shown]), initial=0.0)))
        lower.set_ylim(-1.1 * highest, 1.1 * highest)
        lower.set_ylabel("pull")
        lower.set_xlabel(with_unit(curve.observable, curve.unit))
        lower.set_xlim(edges[0], edges[-1])
        return drawn(figure)
