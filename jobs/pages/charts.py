"""A quantity against the run, as SVG: steps where constants hold, a line where they change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from calib.types import Array

WIDTH, HEIGHT = 1200, 210
LEFT, RIGHT, TOP, BOTTOM = 84, 34, 12, 26
TOUCHABLE = 200
"""Intervals up to which each can be pointed at."""

BAND = (0.16, 0.84)
"""Share of the bins below the lower and the upper edge of the band."""


@dataclass(frozen=True)
class ChartStep:
    """One interval: runs, revision, values and errors, shape (bins, 2); a bin may be chosen."""

    since: int
    last: int
    revision: int
    forced: bool
    values: Array
    chosen: tuple[float, float] | None = None


@dataclass(frozen=True)
class Touch:
    """A place to point at."""

    x: float
    width: float
    revision: int
    text: str


@dataclass(frozen=True)
class Chart:
    """Paths of SVG, in units of ``width`` x ``height``, and ticks as (place, text)."""

    name: str
    line: str
    band: str
    chosen: str
    error: str
    boundaries: str
    forced: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    touch: tuple[Touch, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def chart(name: str, steps: Sequence[ChartStep], first: int, last: int) -> Chart | None:
    """Return the chart of a quantity.

    Parameters
    ----------
    name : str
        Of the quantity.
    steps : sequence of ChartStep
        In order of the runs; they do not overlap.
    first, last : int
        Runs at the ends of the axis.

    Returns
    -------
    Chart or None
        None: no value is a number.
    """
    summed = zip(steps, middles(steps), strict=True)
    drawn = [(s, m) for s, m in summed if m is not None]
    if not drawn:
        return None
    ends = [v for s, m in drawn for v in (m[0], m[2], *_ends(s.chosen))]
    y_of = _scale(_range(ends), (HEIGHT - BOTTOM, TOP))
    x_of = _scale((first, max(last, first) + 1), (LEFT, WIDTH - RIGHT))

    def box(step: ChartStep, low: float, high: float) -> str:
        a, b = x_of(max(step.since, first)), x_of(min(step.last, last) + 1)
        return f"M{a:.1f} {y_of(high):.1f}H{b:.1f}V{y_of(low):.1f}H{a:.1f}Z"

    def level(step: ChartStep, value: float) -> str:
        a, b = x_of(max(step.since, first)), x_of(min(step.last, last) + 1)
        return f"M{a:.1f} {y_of(value):.1f}H{b:.1f}"

    def edge(step: ChartStep) -> str:
        start = TOP if len(drawn) <= TOUCHABLE else HEIGHT - BOTTOM - 9
        return f"M{x_of(step.since):.1f} {start}V{HEIGHT - BOTTOM}"

    picked = [(s, s.chosen) for s, _ in drawn if s.chosen and math.isfinite(s.chosen[0])]
    return Chart(
        name=name,
        line="".join(level(s, m[1]) for s, m in drawn),
        band="".join(box(s, m[0], m[2]) for s, m in drawn),
        chosen="".join(level(s, c[0]) for s, c in picked),
        error="".join(box(s, *_ends(c)) for s, c in picked if math.isfinite(c[1])),
        boundaries="".join(edge(s) for s in steps if s.since > first),
        forced="".join(box(s, *_range(ends)) for s in steps if s.forced),
        x_ticks=tuple((x_of(t), f"{t:.0f}") for t in _ticks(first, last, 8, whole=True)),
        y_ticks=tuple((y_of(t), _text(t)) for t in _ticks(*_range(ends), 4)),
        touch=_touch(drawn, x_of, first, last),
    )


Middle = tuple[float, float, float]


def middles(steps: Sequence[ChartStep]) -> list[Middle | None]:
    """Return lower edge, median and upper edge over the bins; of one bin its value and error."""
    values = [step.values[:, 0] for step in steps]
    whole = [i for i, v in enumerate(values) if len(v) > 1 and np.isfinite(v).all()]
    found: list[Middle | None] = [None] * len(steps)
    for n in {len(values[i]) for i in whole}:  # all of one size at once
        own = [i for i in whole if len(values[i]) == n]
        edges = np.quantile([values[i] for i in own], [BAND[0], 0.5, BAND[1]], axis=1)
        for i, (low, mid, high) in zip(own, edges.T.tolist(), strict=True):
            found[i] = low, mid, high
    for i in set(range(len(steps))) - set(whole):
        found[i] = _middle(steps[i])
    return found


def _middle(step: ChartStep) -> Middle | None:
    values = step.values[np.isfinite(step.values[:, 0])]
    if not len(values):
        return None
    if len(step.values) == 1:
        value, error = values[0].tolist()
        error = error if math.isfinite(error) else 0.0
        return value - error, value, value + error
    low, mid, high = np.quantile(values[:, 0], [BAND[0], 0.5, BAND[1]]).tolist()
    return low, mid, high


def _ends(value: tuple[float, float] | None) -> tuple[float, ...]:
    if value is None or not math.isfinite(value[0]):
        return ()
    error = value[1] if math.isfinite(value[1]) else 0.0
    return value[0] - error, value[0] + error


def _range(ends: Sequence[float]) -> tuple[float, float]:
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


class _scale:
    """The place on the picture of a value."""

    def __init__(self, values: tuple[float, float], places: tuple[float, float]) -> None:
        self.low, self.start = values[0], places[0]
        self.factor = (places[1] - places[0]) / (values[1] - values[0])

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * self.factor


def _ticks(low: float, high: float, n: int, whole: bool = False) -> list[float]:
    found = MaxNLocator(n, integer=whole, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(t) for t in found if low <= t <= high]


def _text(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _touch(
    drawn: Sequence[tuple[ChartStep, tuple[float, float, float]]],
    x_of: _scale,
    first: int,
    last: int,
) -> tuple[Touch, ...]:
    if len(drawn) > TOUCHABLE:
        return ()
    found = []
    for step, (_, mid, _) in drawn:
        a, b = x_of(max(step.since, first)), x_of(min(step.last, last) + 1)
        value = mid if step.chosen is None else step.chosen[0]
        forced = ", forced" if step.forced else ""
        text = f"runs {step.since} to {step.last}: {_text(value)}, revision {step.revision}{forced}"
        found.append(Touch(round(a, 1), round(b - a, 1), step.revision, text))
    return tuple(found)
