"""Closure: d0 and z0 of one half, over the resolution that the other half has given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.events.histograms import Sums
from calib.fitting.core_width import CoreFit, fit_core
from calib.results import Curve, Reduction, Status
from calib.types import Array, IntArray

from .entries import PULLS
from .settings import Settings


def closure_rows(
    name: str, key: str, sums: Sums, reduction: Reduction, settings: Settings
) -> tuple[list[dict[str, Any]], list[Curve]]:
    """Return the width of d0 or z0 over its resolution, in each bin of each look, half by half.

    With an edit the expectation moves, and no event has to be looked at again.
    """
    # events of a half were measured with the lines of the other one
    used, edited, covariance = (
        np.nan_to_num(np.asarray(reduction.state[f"{key}_{what}"])[::-1])
        for what in ("halves", "edited", "halves_covariance")
    )
    rows, curves = [], []
    for look in settings.looks:
        found = _Look.of(sums, f"{name}_{look}", settings.looks[look], len(settings.places))
        for h in (0, 1):
            for x, cells in enumerate(found.bins(look)):
                counts, w, w2, places, mean = found.total(h, cells)
                expected = 1.0 + (mean * (edited[h] - used[h])[places]).sum()
                variance = np.einsum("ik,ikl,il->", mean, covariance[h][places], mean)
                bin_name = settings.places.names[x] if look == "place" else f"{look}{x}"
                row, fit = _row(
                    f"{key} {bin_name}", counts, w, w2, (float(expected), float(variance)), settings
                )
                rows.append(row | {"kind": look, "half": h})
                if fit.result is not None:
                    curves.append(
                        fit.curve(f"{row['bin']}, half {h}", f"{name} / sigma", "", "closure")
                    )
    return rows, curves


@dataclass(frozen=True)
class _Look:
    """The sums of one look: shape (halves, bins, places, ...)."""

    counts: Array
    sumw: Array
    sumw2: Array
    means: Array

    @classmethod
    def of(cls, sums: Sums, name: str, size: int, n: int) -> _Look:
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
        change of a^2 and b^2 of the place.
        """
        at = tuple(np.array(cells).T)
        counts, w, w2 = (x[h][at].sum(axis=0) for x in (self.counts, self.sumw, self.sumw2))
        return counts, w, w2, at[1], self.means[h][at] / max(float(w.sum()), 1e-300)


def _row(
    name: str, counts: Array, w: Array, w2: Array, expected: tuple[float, float], settings: Settings
) -> tuple[dict[str, Any], CoreFit]:
    """Return one row, and its fit; ``expected`` is the squared width with its variance."""
    closure = settings.closure
    enough = w.sum() ** 2 >= closure.min_events * max(float(w2.sum()), 1e-300)
    fit = fit_core(PULLS, w if enough else 0 * w, w2)
    width = fit.value("width") if fit.status is Status.OK else np.nan
    value = float(np.sqrt(max(expected[0], 0.01)))
    # the error of a width is half of that of its square
    error = float(np.sqrt(fit.error("width") ** 2 + 0.25 * expected[1] + closure.tolerance**2))
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
