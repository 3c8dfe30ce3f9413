"""Closure of a resolution: a quantity over its resolution has the width 1, wherever one looks.

When to use: sigma^2 = A + B u with A and B of each bin (a *place*) from one half of the events
(`calib.fitting.residual_widths`); those of the other half are taken in units of it, and looked at
in the places and along other axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from calib.events.categories import Axis
from calib.events.histograms import Fill, Sums
from calib.fitting.core_width import CoreFit, fit_core
from calib.fitting.residual_widths import Residuals
from calib.later import pandas as pd
from calib.quality.closure import coverage, worst_pull
from calib.results import Closure, Curve, Status
from calib.schema import PositiveEdges, Probability, Share, Strict
from calib.types import Array, IntArray

PULLS = 0.5 * np.sinh(np.linspace(-np.arcsinh(60.0), np.arcsinh(60.0), 121))
"""Bins of a quantity in units of its resolution."""


class WidthClosure(Strict):
    """The closure test: the width of d0 and z0 in units of the other half's resolution."""

    pt: PositiveEdges = Field(
        default=(0.0, 6.0, 9.0, 13.0, 20.0, 30.0, 45.0, 1000.0), description="GeV"
    )
    n_phi: int = Field(default=8, ge=1, le=72, description="equal bins")
    min_events: int = Field(default=500, ge=50, description="below: too_few_events")
    coverage: Share = Field(default=0.5, description="least share of the events that is tested")
    tolerance: float = Field(
        default=0.01, ge=0, description="relative; tails are not of one shape everywhere"
    )
    probability: Probability = Field(
        default=1e-3, description="least probability of the worst pull, given their number"
    )

    @property
    def looks(self) -> Mapping[str, int]:
        """Number of bins of each look, beside the places: those themselves, pt and phi."""
        return {"place": 1, "pt": len(self.pt) - 1, "phi": self.n_phi}

    def bins(self, entries: Residuals) -> Mapping[str, IntArray]:
        """Return the bin of each entry in each look, -1 outside."""
        phi = Axis("phi", tuple(np.linspace(-3.1416, 3.1416, self.n_phi + 1)))
        return {
            "place": np.zeros(len(entries.u), dtype=np.int64),
            "pt": Axis("pt", self.pt).index(entries.pt),
            "phi": phi.index(entries.phi),
        }


def normalised(
    name: str, entries: Residuals, lines: Array, limits: WidthClosure
) -> dict[str, Fill]:
    """Return a quantity over its resolution, in the bins of each look.

    Parameters
    ----------
    name : str
        Beginning of the names.
    entries : Residuals
    lines : array, shape (places, 2)
        A and B, from the other half.
    limits : WidthClosure

    Returns
    -------
    mapping of name to Fill
        The categories are the bins of the look, each with all places: they can be put together
        again with other lines.
    """
    n = len(lines)
    A, B = lines[entries.place].T  # place -1: some number, left out below
    with np.errstate(invalid="ignore"):
        variance = A + B * entries.u
        good = (entries.place >= 0) & (entries.point >= 0) & (variance > 0)
    scale = np.sqrt(np.where(good, variance, 1.0))
    means = {"constant": scale**-2, "slope": entries.u * scale**-2}
    found = {}
    for look, at in limits.bins(entries).items():
        flat = np.where(good & (at >= 0), at * n + entries.place, -1)
        size = limits.looks[look] * n
        value = entries.value / scale
        found[f"{name}_{look}"] = Fill(flat, size, value, PULLS, entries.weight, means)
    return found


def width_closure(
    blocks: Mapping[str, tuple[str, Sums]],
    state: Mapping[str, Any],
    places: tuple[str, ...],
    limits: WidthClosure,
) -> Closure:
    """Return the closure of some resolutions: widths that should be 1.

    Parameters
    ----------
    blocks : mapping of key to (name of the sums, sums)
        Of the resolutions that are tested.
    state : mapping of name to array
        Of `ClosesInHalves`: for each key A and B, and their covariance under ``KEY_covariance``.
    places : tuple of str
        Names of the bins that have parameters.
    limits : WidthClosure
        What is required, and along which axes it is looked.

    Returns
    -------
    Closure
        Table, checks and pictures.
    """
    rows: list[dict[str, Any]] = []
    curves: list[Curve] = []
    for key, (name, sums) in blocks.items():
        used, now = state[f"{key}_halves"], state[f"{key}_edited"]
        halves = Halves.of(used, now, state[f"{key}_covariance_halves"])
        of_key, pictures = closure_rows(key, name, sums, halves, places, limits)
        rows, curves = rows + of_key, curves + pictures
    table = pd.DataFrame(rows)
    text = f"share of the events in bins with at least {limits.min_events}"
    share = coverage(table, np.ones(len(table), dtype=np.bool_), limits.coverage, text)
    return Closure(table, (share, worst_pull(table, limits.probability)), tuple(curves))


@dataclass(frozen=True)
class Halves:
    """What the halves gave, each array of shape (2, places, ...), the other half's first.

    ``used``: A and B that the events were measured with; ``now``: those with the edits of today;
    ``covariance`` of A and B.
    """

    used: Array
    now: Array
    covariance: Array

    @classmethod
    def of(cls, used: Any, now: Any, covariance: Any) -> Halves:
        """Return what each half is measured with: the parameters of the other half.

        Parameters
        ----------
        used, now : array_like, shape (2, places, ...)
            A and B that events were measured with, and with the edits of today, by the half that
            they are from.
        covariance : array_like, shape (2, places, ...)
            Of A and B.

        Returns
        -------
        Halves
            With the halves exchanged; NaN is 0.
        """
        return cls(*(np.nan_to_num(np.asarray(x)[::-1]) for x in (used, now, covariance)))


def closure_rows(
    key: str,
    observable: str,
    sums: Sums,
    halves: Halves,
    places: tuple[str, ...],
    limits: WidthClosure,
) -> tuple[list[dict[str, Any]], list[Curve]]:
    """Return the width over its resolution in each bin of each look, half by half, with pictures.

    With an edit the expectation moves, and no event has to be looked at again.

    Parameters
    ----------
    key : str
        Beginning of the names of the bins.
    observable : str
        Beginning of the names of the sums: those of `normalised`, of both halves.
    sums : mapping of name to array
        Of both halves.
    halves : Halves
        Parameters of the halves.
    places : tuple of str
        Names of the bins that have parameters.
    limits : WidthClosure
        What is required, and along which axes it is looked.

    Returns
    -------
    list of dict
        Rows of `Closure.table`.
    list of Curve
        Pictures of the fits.
    """
    rows, curves = [], []
    for look, size in limits.looks.items():
        found = _Sums.of(sums, f"{observable}_{look}", size, len(places))
        for h in (0, 1):
            for x, cells in enumerate(found.bins(look)):
                counts, w, w2, at, mean = found.total(h, cells)
                expected = 1.0 + (mean * (halves.now[h] - halves.used[h])[at]).sum()
                variance = np.einsum("ik,ikl,il->", mean, halves.covariance[h][at], mean)
                name = places[x] if look == "place" else f"{look}{x}"
                squared = (float(expected), float(variance))
                row, fit = _row(f"{key} {name}", counts, w, w2, squared, limits)
                rows.append(row | {"kind": look, "half": h})
                if fit.result is not None:
                    title, axis = f"{row['bin']}, half {h}", f"{observable} / sigma"
                    curves.append(fit.curve(title, axis, "", "closure"))
    return rows, curves


@dataclass(frozen=True)
class _Sums:
    """The sums of one look: shape (halves, bins, places, ...)."""

    counts: Array
    sumw: Array
    sumw2: Array
    means: Array

    @classmethod
    def of(cls, sums: Sums, name: str, size: int, n: int) -> _Sums:
        def part(what: str) -> Array:
            return np.asarray(sums[f"{name}/{what}"], dtype=np.float64).reshape(2, size, n, -1)

        means = np.concatenate([part("mean_constant"), part("mean_slope")], axis=-1)
        return cls(part("counts"), part("sumw"), part("sumw2"), means)

    def bins(self, look: str) -> list[list[tuple[int, int]]]:
        """Return the cells of each bin: of all places, but the places themselves one by one."""
        _, size, n = self.counts.shape[:3]
        if look == "place":
            return [[(0, i)] for i in range(n)]
        return [[(x, i) for i in range(n)] for x in range(size)]

    def total(
        self, h: int, cells: list[tuple[int, int]]
    ) -> tuple[Array, Array, Array, IntArray, Array]:
        """Return counts and weights of some cells, their places, and the means of each place.

        The means are those of 1/sigma^2 and u/sigma^2: what the square of the width gains by a
        change of A and B of the place.
        """
        at = tuple(np.array(cells).T)
        counts, w, w2 = (x[h][at].sum(axis=0) for x in (self.counts, self.sumw, self.sumw2))
        return counts, w, w2, at[1], self.means[h][at] / max(float(w.sum()), 1e-300)


def _row(
    name: str,
    counts: Array,
    w: Array,
    w2: Array,
    expected: tuple[float, float],
    limits: WidthClosure,
) -> tuple[dict[str, Any], CoreFit]:
    """Return one row, and its fit; ``expected`` is the squared width with its variance."""
    enough = w.sum() ** 2 >= limits.min_events * max(float(w2.sum()), 1e-300)
    fit = fit_core(PULLS, w if enough else 0 * w, w2)
    width = fit.value("width") if fit.status is Status.OK else np.nan
    value = float(np.sqrt(max(expected[0], 0.01)))
    # the error of a width is half of that of its square
    error = float(np.sqrt(fit.error("width") ** 2 + 0.25 * expected[1] + limits.tolerance**2))
    chi2, ndf = fit.chi2
    return {
        "bin": name,
        "expected": value,
        "fitted": width,
        "error": error if np.isfinite(width) else np.nan,
        "pull": (width - value) / error,
        "status": fit.status.value,
        "n_events": int(counts.sum()),
        "chi2": chi2,
        "ndf": ndf,
    }, fit
