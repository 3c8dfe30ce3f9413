"""Are the constants in force still good? A test of what is left of new runs, that remembers.

The constants are applied to some events of each new run, and what is left is measured, quantity by
quantity (`calib.quality.publication_gate.Effects`). `residual` looks at the last run, the last two,
four, eight ... together, at each quantity and at their common value: a small shift that is always
the same is seen after a few runs, a large one at once. `change_points` says where runs begin to
differ among themselves, whatever constants are applied.

False alarms: of constants that are what they should be, within their errors, a night fails with
probability ``false_alarm`` at most, whatever the correlations (Bonferroni's bound over the runs of
the night, the windows that end with each, and the quantities; Gaussian errors). A year of nights
has at most `NIGHTS` times as many: 3.7 % for 1e-4. When to use it and when not: the errors are
statistical; a residual that is small beside ``limit`` never alarms, however significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from calib.quality.publication_gate import Effects, common, common_weights, threshold
from calib.types import AnyArray, Array, BoolArray

COMMON = "common"
"""Name of the common value among the quantities."""

NIGHTS = 365
"""Of a year: the bound of its false alarms in units of that of a night."""

SUSPICION = 0.1
"""Probability that good constants leave a region undecided in one night: it waits for the next."""


@dataclass(frozen=True)
class Tolerance:
    """What the test allows.

    Parameters
    ----------
    limit : float
        Largest residual with which constants are still good.
    false_alarm : float
        Largest probability that good constants are found outside, in one night.
    power : float
        Largest error of the common residual, in units of the limit, with which anything is said.
    """

    limit: float
    false_alarm: float = 1e-4
    power: float = 0.5


class Residual(StrEnum):
    """What the test says of the constants in force."""

    WITHIN = "within"
    OUTSIDE = "outside"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Tested:
    """The outcome, why, and the numbers behind it.

    ``value, error`` are those of the common residual of the new runs, ``worst`` the quantity that
    is farthest out in units of its error, ``pull`` how far, ``threshold`` where the alarm is,
    ``begins`` the place of the first piece that is not good, in the history.
    """

    outcome: Residual
    why: str
    value: float
    error: float
    worst: str
    pull: float
    threshold: float
    n_quantities: int
    begins: int = 0


@dataclass(frozen=True)
class Measured:
    """What is left of a piece: one run, or a few where one alone is too small.

    Parameters
    ----------
    first, last : int
        Runs.
    names : tuple of str
        Quantities that have a value, the common one among them.
    values, errors : array, shape (n,)
        Residuals (relative), and their errors from the events of the piece alone.
    force : array, shape (n,)
        Errors from the constants applied, which all pieces share.
    """

    first: int
    last: int
    names: tuple[str, ...]
    values: Array
    errors: Array
    force: Array


def measured(own: Effects, total: Effects, first: int = 0, last: int = 0) -> Measured:
    """Return a piece.

    Parameters
    ----------
    own, total : Effects
        What is left, with the errors of its events alone, and with those of the constants added
        (`with_force`).
    first, last : int
        Its runs.

    Returns
    -------
    Measured
        Values and errors of the quantities that are known, the common one first.
    """
    known = total.known()
    at = [total.names.index(name) for name in known.names]
    covariance = own.covariance[np.ix_(at, at)]
    names, values, errors = known.names, known.values, np.sqrt(np.diagonal(covariance))
    whole = known.errors
    if len(names) != 1:  # of a single one, the common value is that one
        weights = common_weights(known)
        value, error = common(known)
        alone = np.nan if weights is None else float(np.sqrt(weights @ covariance @ weights))
        names, values = (COMMON, *names), np.append(value, values)
        errors, whole = np.append(alone, errors), np.append(error, whole)
    with np.errstate(invalid="ignore"):
        force = np.sqrt(np.maximum(whole**2 - errors**2, 0.0))
    return Measured(first, last, names, values, errors, force)


def with_force(left: Effects, force: Effects | None) -> Effects:
    """Return residuals with the errors of the constants in force added.

    Where the quantities are not the same ones (coarser bins in the test), each gets the mean
    variance of those in force, over as many of them as there are in it on average.

    Parameters
    ----------
    left : Effects
        Residuals of n quantities.
    force : Effects or None
        Constants in force; None: exact ones.

    Returns
    -------
    Effects
        The residuals, with a larger covariance.
    """
    if force is None:
        return left
    if left.names == force.names:
        added = np.where(np.isfinite(force.covariance), force.covariance, 0.0)
    else:
        known = force.known()
        n, share = len(left.names), max(1.0, len(known.names) / max(len(left.names), 1))
        size = float(np.mean(known.errors**2)) / share if len(known.names) else 0.0
        added = size * np.eye(n)
    return Effects(left.names, left.values, left.covariance + added, left.own, left.relative)


# several pieces ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Table:
    """Pieces in order; ``values, weights, force``: shape (pieces, quantities), weight 0: none."""

    names: tuple[str, ...]
    values: Array
    weights: Array
    force: Array

    def window(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the mean of pieces ``first`` to ``last - 1`` and its error, shape (n,)."""
        weights = self.weights[first:last]
        total = weights.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (weights * self.values[first:last]).sum(axis=0) / total
            error = np.sqrt(1 / total + self.force[first:last].max(axis=0) ** 2)
        return mean, error


def _table(pieces: Sequence[Measured]) -> _Table:
    names = tuple(dict.fromkeys(name for piece in pieces for name in piece.names))
    place = {name: i for i, name in enumerate(names)}
    values, weights, force = np.zeros((3, len(pieces), len(names)))
    for row, piece in enumerate(pieces):
        at = [place[name] for name in piece.names]
        good = np.isfinite(piece.values) & np.isfinite(piece.errors) & (piece.errors > 0)
        values[row, at] = np.where(good, piece.values, 0.0)
        weights[row, at] = np.where(good, 1 / np.where(good, piece.errors, 1.0) ** 2, 0.0)
        force[row, at] = np.where(np.isfinite(piece.force), piece.force, 0.0)
    return _Table(names, values, weights, force)


def _lengths(n: int) -> list[int]:
    """Return the lengths of the windows that end with the n-th piece: 1, 2, 4 ..."""
    return [2**k for k in range(n.bit_length())]


@dataclass(frozen=True)
class _Windows:
    """Every quantity over every window that ends with a piece; arrays (windows, quantities)."""

    end: int
    lengths: list[int]
    mean: Array
    error: Array
    at: float

    @property
    def pulls(self) -> Array:
        """How far out each is, in standard deviations; 0 where there is no value."""
        with np.errstate(invalid="ignore"):
            pulls = np.abs(self.mean) / self.error
        return np.where(np.isfinite(pulls), pulls, 0.0)

    def beyond(self, limit: float, at: float) -> BoolArray:
        """Return what is beyond a limit and a number of standard deviations."""
        with np.errstate(invalid="ignore"):
            return np.asarray((np.abs(self.mean) > limit) & (self.pulls >= at))


def _windows(table: _Table, end: int, rate: float) -> _Windows:
    lengths = _lengths(end + 1)
    at = threshold(rate, len(lengths) * len(table.names))
    found = [table.window(end + 1 - length, end + 1) for length in lengths]
    return _Windows(
        end, lengths, np.stack([f[0] for f in found]), np.stack([f[1] for f in found]), at
    )


def residual(
    pieces: Sequence[Measured], tolerance: Tolerance, new: int = 1, fresh: int | None = None
) -> Tested:
    """Return whether constants are still good.

    Parameters
    ----------
    pieces : sequence of Measured
        What is left with the constants applied: of the runs that were judged good before, and of
        the new ones, in order.
    tolerance : Tolerance
    new : int
        How many at the end are not judged yet.
    fresh : int, optional
        How many of these have come tonight (None: all): the windows that end with each of them
        are looked at, the others have been in their night.

    Returns
    -------
    Tested
        Outcome, why, and the numbers.

    Notes
    -----
    Outside: a quantity (or the common value) is, over a window, beyond the limit *and* beyond the
    threshold of the false-alarm rate. Undecided: one is beyond the limit and so far out as chance
    puts it in one night of ten (`SUSPICION`); or the common value of the new runs is beyond the
    limit, or not known well enough. Else within.
    """
    table = _table(pieces)
    if not (table.weights > 0).any():
        why = "no quantity can be measured with so few events"
        return Tested(Residual.UNDECIDED, why, float("nan"), float("inf"), "", 0.0, 0.0, 0)
    fresh = new if fresh is None else max(fresh, 1)
    rate = tolerance.false_alarm / fresh
    mean, error = table.window(len(pieces) - new, len(pieces))
    place = table.names.index(COMMON) if COMMON in table.names else 0
    value, sigma = float(mean[place]), float(error[place])
    for end in range(len(pieces) - fresh, len(pieces)):
        windows = _windows(table, end, rate)
        far = windows.beyond(tolerance.limit, windows.at)
        if far.any():
            quantities = np.flatnonzero(far.any(axis=0))
            begins = min(step_at(*_series(table, end, int(i))) for i in quantities)
            said = _said(table, windows, np.where(far, windows.pulls, -1.0), tolerance)
            return Tested(Residual.OUTSIDE, said[0], value, sigma, *said[1:], begins)
    name, pull = _said(table, windows, windows.pulls, tolerance)[1:3]
    numbers = (value, sigma, name, pull, windows.at, len(table.names))
    outcome, why = _not_outside(table, windows, tolerance, value, sigma)
    return Tested(outcome, why, *numbers)


def _series(table: _Table, end: int, quantity: int) -> tuple[Array, Array]:
    """Return the residuals of one quantity up to a piece, and their errors."""
    with np.errstate(divide="ignore"):
        errors = 1 / np.sqrt(table.weights[: end + 1, quantity])
    return table.values[: end + 1, quantity], errors


def _said(
    table: _Table, windows: _Windows, rank: Array, tolerance: Tolerance
) -> tuple[str, str, float, float, int]:
    """Return a sentence on what ranks first; its name, pull, threshold, and how many there are."""
    row, i = np.unravel_index(int(np.argmax(rank)), rank.shape)
    length, pull = windows.lengths[row], float(windows.pulls[row, i])
    over = f" over {length} runs" if length > 1 else ""
    text = (
        f"{table.names[i]} is off by {windows.mean[row, i]:+.2e}"
        f" ± {windows.error[row, i]:.1e}{over} ({pull:.1f} standard deviations, alarm at"
        f" {windows.at:.1f}; limit {tolerance.limit:g})"
    )
    return text, table.names[i], pull, windows.at, len(table.names)


def _not_outside(
    table: _Table, windows: _Windows, tolerance: Tolerance, value: float, error: float
) -> tuple[Residual, str]:
    limit, least = tolerance.limit, tolerance.power * tolerance.limit
    said = f"{value:+.2e} ± {error:.1e}, limit {limit:g}"
    if not np.isfinite(error) or error > least:
        return Residual.UNDECIDED, (
            f"too little data: common residual {said}; its error must be below {least:.1e}"
        )
    if abs(value) > limit:
        return Residual.UNDECIDED, f"beyond the limit, but not significant: {said}"
    suspect = windows.beyond(limit, threshold(SUSPICION, windows.mean.size))
    if suspect.any():
        text = _said(table, windows, np.where(suspect, windows.pulls, -1.0), tolerance)[0]
        return Residual.UNDECIDED, f"not known to be good: {text}"
    return Residual.WITHIN, f"common residual {said}"


# where runs differ -------------------------------------------------------------------------------
def step_at(values: Array, errors: Array) -> int:
    """Return where a sequence of residuals steps: the first index of what comes after.

    Parameters
    ----------
    values, errors : array, shape (n,)
        Residual of one quantity in each group of runs, in order.

    Returns
    -------
    int
        0 to n - 1: of the steps from zero (the constants were good) to any other value the one
        of largest likelihood. 0: from the beginning. A group without a value goes with what
        comes after it.
    """
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    weight = np.where(good, 1 / np.where(good, errors, 1.0) ** 2, 0.0)
    weighted = np.where(good, np.nan_to_num(values), 0.0) * weight
    sum_w, sum_wv = np.cumsum(weight[::-1])[::-1], np.cumsum(weighted[::-1])[::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(sum_w > 0, sum_wv**2 / sum_w, 0.0)
    return int(np.argmax(gain))


def change_points(pieces: Sequence[Measured], tolerance: Tolerance) -> tuple[int, ...]:
    """Return where pieces begin to differ from those before them: places of the first of each.

    Parameters
    ----------
    pieces : sequence of Measured
        With the same constants applied, good or bad.
    tolerance : Tolerance
        Its limit is the largest difference that is allowed; runs that do not differ are cut with
        probability ``false_alarm`` at most.

    Returns
    -------
    tuple of int
        Ascending, without 0.

    Notes
    -----
    Circular binary segmentation (A. Olshen et al., Biostatistics 5 (2004) 557): the consecutive
    pieces that differ most significantly from all others, and again within each part. The errors
    of the constants are the same on both sides.
    """
    table = _table(pieces)
    return tuple(_cuts(table.values, table.weights, tolerance, 0))


def _cuts(values: AnyArray, weights: AnyArray, tolerance: Tolerance, start: int) -> list[int]:
    n, quantities = values.shape
    if n < 2 or not quantities:
        return []
    first, after = np.triu_indices(n + 1, k=1)
    part = (after - first < n) & (first > 0) | (after < n)
    first, after = first[part], after[part]
    zero = np.zeros((1, quantities))
    sums = np.concatenate([zero, np.cumsum(weights * values, axis=0)])
    totals = np.concatenate([zero, np.cumsum(weights, axis=0)])
    within, weight = sums[after] - sums[first], totals[after] - totals[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = within / weight - (sums[-1] - within) / (totals[-1] - weight)
        pulls = np.abs(step) / np.sqrt(1 / weight + 1 / (totals[-1] - weight))
        at = threshold(tolerance.false_alarm, quantities * len(first))
        far = (np.abs(step) > tolerance.limit) & (pulls >= at) & np.isfinite(pulls)
    if not far.any():
        return []
    best = int(np.argmax(np.where(far, pulls, 0.0).max(axis=1)))
    edges = sorted({0, int(first[best]), int(after[best]), n})
    found: list[int] = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        found += [start + low] * (low > 0)
        found += _cuts(values[low:high], weights[low:high], tolerance, start + low)
    return found
