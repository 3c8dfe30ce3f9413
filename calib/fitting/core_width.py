"""Width of the Gaussian core of a histogram, tails aside.

A binned likelihood of the core and a wider Gaussian (`calib.fitting.models.core`). On residuals
with 5 % of tails, 2.5 to 8 times as wide, exponential or flat, it is unbiased to 0.5 % with
4 000 entries;
a Gaussian truncated at 1.5 sigma is off by up to 3 % there, and its error is twice as large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.fitting.minuit import Attempt, Binned, FitResult, climb, from_starts
from calib.fitting.models.core import USUAL, CorePeak
from calib.fitting.models.template import half_width
from calib.results import Curve, Status
from calib.types import Array

REACH = 5.0
"""Half of the range of a fit, in guesses of the width."""


@dataclass(frozen=True)
class CoreFit:
    """The core of one histogram, in the unit of its edges; ``result`` is None without entries.

    ``edges, counts, variance, expected, background`` are those of the range of the fit;
    ``background`` is the tail.
    """

    status: Status
    result: FitResult | None
    unit: float
    edges: Array
    counts: Array
    variance: Array
    expected: Array
    background: Array

    def value(self, name: str) -> float:
        """Return width or mean in the unit of the edges, tail or ratio; NaN without a fit."""
        return self._of(name, None if self.result is None else self.result[name])

    def error(self, name: str) -> float:
        """Return the standard deviation of `value`."""
        return self._of(name, None if self.result is None else self.result.error(name))

    def _of(self, name: str, found: float | None) -> float:
        if found is None:
            return float("nan")
        return found * (self.unit if name in ("width", "mean") else 1.0)

    @property
    def chi2(self) -> tuple[float, int]:
        """Return chi2 and ndf."""
        return (self.result.chi2, self.result.ndf) if self.result else (float("nan"), 0)

    def curve(self, name: str, observable: str, unit: str, group: str = "categories") -> Curve:
        """Return the picture of the fit.

        Parameters
        ----------
        name : str
            Category.
        observable : str
            What is on the axis.
        unit : str
            Of the axis.
        group : str
            Heading under which the picture stands.

        Returns
        -------
        Curve
            Counts, fit and tail.
        """
        return Curve(
            name,
            self.edges,
            self.counts,
            self.variance,
            self.expected,
            self.background,
            group,
            unit,
            observable=observable,
        )


def fit_core(
    edges: Array,
    counts: Array,
    variance: Array,
    *,
    spread: float = 0.0,
    usual: tuple[float, float] = USUAL,
    within: tuple[float, float] | None = None,
) -> CoreFit:
    """Return the core of one histogram.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
        In the unit of the residuals.
    counts, variance : array, shape (bins,)
        Sums of weights and of squared weights.
    spread, usual : see `calib.fitting.models.core.CorePeak`
    within : (float, float), optional
        Range of the fit; by default 5 guesses of the width around zero.

    Returns
    -------
    CoreFit
        In the unit of the edges; without entries its result is None.
    """
    unit = half_width(np.maximum(counts, 0.0), edges)
    if not unit > 0:
        return _nothing(edges)
    low, high = within or (-REACH * unit, REACH * unit)
    first, last = np.searchsorted(edges, [low, high])
    first, last = int(first), int(min(last, len(edges) - 1))
    if last - first < 8 or not counts[first:last].sum() > 0:
        return _nothing(edges)
    data = Binned(edges[first : last + 1], counts[first:last], variance[first:last])
    model = CorePeak(data.edges, unit, spread, usual)
    starts = [(0.95, 0.0, *usual), (0.8, 0.0, 0.15, 2.5), (1.0, 0.0, 0.01, 5.0)]
    without = Attempt(
        "without tail",
        lambda r: (r["width"], r["mean"], 0.0, usual[1]),
        ("tail", "ratio"),
        lambda r: "tail" in r.at_limit and r["tail"] < 0.1,
        always=True,
    )
    found = climb(data, model, [*from_starts(starts), without])
    status = found.status
    if status is Status.OK and found.at_limit:
        status = Status.AT_LIMIT
    total = data.counts.sum()
    return CoreFit(
        status,
        found,
        unit,
        data.edges,
        data.counts,
        data.variance,
        found.expected,
        model.tail(*found.values) * total,
    )


def _nothing(edges: Array) -> CoreFit:
    none = np.zeros(len(edges) - 1)
    return CoreFit(Status.TOO_FEW_EVENTS, None, float("nan"), edges, none, none, none, none)
