"""Have constants moved, and may the new ones be published? The gates of a prompt calibration.

Two decisions, both on *effects*: what constants do to what is measured, a relative change for
each of a few quantities (the curvature of muons of one charge in an eta bin, the predicted
resolution in a category), zero where nothing is done.

- `residual`: the cheap test. Some events, the constants in force applied to them: is what is
  left zero?
- `gate`: new constants beside those in force. Any move beyond ``max`` is a veto; a move beyond
  ``cut`` whose error is beyond ``error_max`` is one; a move beyond ``cut`` that is significant
  is published; else what is in force is kept.

False alarms: a number of quantities is looked at, each against a threshold that all of them
together exceed by chance with probability ``false_alarm`` at most (Bonferroni's bound, which
holds whatever the correlations), for Gaussian errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from calib.distributions import normal_isf
from calib.errors import InputError
from calib.types import AnyArray, Array, BoolArray

if TYPE_CHECKING:
    import pandas as pd  # slow to load


@dataclass(frozen=True)
class Effects:
    """What constants do, quantity by quantity.

    Parameters
    ----------
    names : tuple of str
    values : array, shape (n,)
        Relative; NaN where there is no value.
    covariance : array, shape (n, n)
    own : bool array, shape (n,)
        Whether the value is measured; false where another one stands in for it (``held``).
    relative : bool
        False where the values are no relative changes, but quantities with a unit, whose shifts
        are to be taken as shares of them.
    """

    names: tuple[str, ...]
    values: Array
    covariance: Array
    own: BoolArray
    relative: bool = True

    @property
    def errors(self) -> Array:
        """Standard deviations, shape (n,); NaN where the variance is negative."""
        variance = np.diagonal(self.covariance)
        return np.sqrt(np.where(variance >= 0, variance, np.nan))

    def take(self, chosen: BoolArray) -> Effects:
        """Return some of the quantities.

        Parameters
        ----------
        chosen : bool array, shape (n,)
            Mask.

        Returns
        -------
        Effects
            The selected ones.
        """
        at = np.flatnonzero(chosen)
        return Effects(
            tuple(self.names[i] for i in at),
            self.values[at],
            self.covariance[np.ix_(at, at)],
            self.own[at],
            self.relative,
        )

    def known(self) -> Effects:
        """Return the quantities that are measured: own values with a finite error above 0."""
        with np.errstate(invalid="ignore"):
            good = self.own & np.isfinite(self.values) & (self.errors > 0)
        return self.take(np.asarray(good & np.isfinite(self.errors)))


def effects_of(
    covariance: Mapping[str, AnyArray],
    tables: Mapping[str, pd.DataFrame],
    *,
    positive: bool = False,
) -> Effects:
    """Return parameters of a result as effects.

    Parameters
    ----------
    covariance : mapping
        ``names, values, covariance``, as covariance.npz has them.
    tables : mapping of name to DataFrame
        Where one has a column ``own_status`` of the same bins, a value is measured where that is
        ``ok``; else wherever it is finite.
    positive : bool
        Whether the logarithms are taken.

    Returns
    -------
    Effects
        Of all parameters.
    """
    names = tuple(str(name) for name in covariance["names"])
    values = np.asarray(covariance["values"], dtype=np.float64)
    matrix = np.asarray(covariance["covariance"], dtype=np.float64)
    own = np.isfinite(values)
    for table in tables.values():
        if "own_status" in table and len(table) and len(names) % len(table) == 0:
            of_bin = (table["own_status"] == "ok").to_numpy(dtype=np.bool_)
            own = own & np.repeat(of_bin, len(names) // len(table))
    if positive:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Effects(names, np.log(values), matrix / np.outer(values, values), own)
    return Effects(names, values, matrix, own)


def common(effects: Effects) -> tuple[float, float]:
    """Return the common value of all quantities and its error (generalised least squares).

    Without any quantity, NaN and infinity.
    """
    n = len(effects.names)
    if n == 0:
        return float("nan"), float("inf")
    scale = effects.errors
    correlation = effects.covariance / np.outer(scale, scale)
    # quantities that are nearly the same one make it nearly singular
    weight = np.linalg.pinv(correlation, rcond=1e-8, hermitian=True) @ (1 / scale) / scale
    total = float(weight.sum())
    if not total > 0:
        return float("nan"), float("inf")
    weight = weight / total
    return float(weight @ effects.values), float(np.sqrt(weight @ effects.covariance @ weight))


def threshold(false_alarm: float, n: int) -> float:
    """Return the number of standard deviations that n quantities exceed with this probability.

    Parameters
    ----------
    false_alarm : float
        Probability, two-sided, that any of the n is beyond.
    n : int
        Number of independent quantities.

    Returns
    -------
    float
        In standard deviations.
    """
    return float(normal_isf(min(false_alarm, 1.0) / (2 * max(n, 1))))


# the cheap test --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tolerance:
    """Of the cheap test.

    Parameters
    ----------
    limit : float
        Largest residual with which constants are still good.
    false_alarm : float
        Largest probability that good constants are found outside, in one test.
    power : float
        Largest error of the common residual, in units of the limit, with which anything is said.
    """

    limit: float
    false_alarm: float = 1e-4
    power: float = 0.5


class Residual(StrEnum):
    """What the cheap test says of the constants in force."""

    WITHIN = "within"
    OUTSIDE = "outside"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Tested:
    """The cheap test: its outcome, why, and the numbers behind it.

    ``value, error`` are those of the common residual, ``worst`` the quantity that is farthest
    out in units of its error, ``pull`` how far, ``threshold`` where the alarm is.
    """

    outcome: Residual
    why: str
    value: float
    error: float
    worst: str
    pull: float
    threshold: float
    n_quantities: int


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


def residual(left: Effects, tolerance: Tolerance) -> Tested:
    """Return whether constants are still good.

    Parameters
    ----------
    left : Effects
        What is left with the constants in force applied, with all errors (`with_force`).
    tolerance : Tolerance
        Limit, false-alarm rate and power.

    Returns
    -------
    Tested
        Outcome, why, and the numbers.

    Notes
    -----
    Outside: the common residual, or that of any quantity, is beyond the limit *and* beyond the
    threshold of the false-alarm rate. Within: not outside, and the common residual is known well
    enough and is within the limit. Else more events are needed: ``undecided``.
    """
    known = left.known()
    value, error = common(known)
    names, values, errors = known.names, known.values, known.errors
    if len(names) != 1:  # of a single one, the common value is that one
        names = ("common", *names)
        values, errors = np.append(value, values), np.append(error, errors)
    at = threshold(tolerance.false_alarm, len(names))
    pulls = np.abs(values) / errors
    far = (np.abs(values) > tolerance.limit) & (pulls >= at)
    if len(known.names) == 0:
        return Tested(
            Residual.UNDECIDED,
            "no quantity can be measured with so few events",
            value,
            error,
            "",
            0.0,
            at,
            0,
        )
    first = int(np.argmax(np.where(far, pulls, -1.0) if far.any() else pulls))
    numbers = (value, error, names[first], float(pulls[first]), at, len(names))
    said = f"{value:+.2e} ± {error:.1e}, limit {tolerance.limit:g}"
    if far.any():
        why = (
            f"{names[first]} is off by {values[first]:+.2e} ± {errors[first]:.1e}"
            f" ({pulls[first]:.1f} standard deviations, alarm at {at:.1f};"
            f" limit {tolerance.limit:g})"
        )
        return Tested(Residual.OUTSIDE, why, *numbers)
    if error > tolerance.power * tolerance.limit:
        least = tolerance.power * tolerance.limit
        return Tested(
            Residual.UNDECIDED,
            f"too little data: common residual {said}; its error must be below {least:.1e}",
            *numbers,
        )
    if abs(value) > tolerance.limit:
        return Tested(
            Residual.UNDECIDED, f"beyond the limit, but not significant: {said}", *numbers
        )
    return Tested(Residual.WITHIN, f"common residual {said}", *numbers)


def step_at(values: Array, errors: Array) -> int:
    """Return where a sequence of residuals steps: the first index of what comes after.

    Parameters
    ----------
    values, errors : array, shape (n,)
        Common residual of each group of runs, in order.

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


# the gate --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Limits:
    """Of the gate. All relative.

    Parameters
    ----------
    cut : float
        Least move that is worth a publication.
    max : float
        Largest move that is believed.
    error_max : float
        Largest error of a move beyond ``cut`` with which it is believed.
    significance : float, optional
        Least of a move, in standard deviations; from ``false_alarm`` and the number of
        quantities where it is not given.
    false_alarm : float
        Largest probability that constants which have not moved are published.
    max_held : float
        Largest share of the quantities that have no value of their own.
    """

    cut: float
    max: float
    error_max: float
    significance: float | None = None
    false_alarm: float = 1e-4
    max_held: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.cut < self.max or not self.error_max > 0:
            raise InputError(
                f"gate: cut {self.cut:g}, max {self.max:g}, error_max {self.error_max:g}; expected"
                " 0 < cut < max and error_max > 0"
            )


class Decision(StrEnum):
    """What becomes of new constants."""

    PUBLISH = "publish"
    KEEP = "keep"
    VETO = "veto"
    WAIT = "wait"
    NOT_CONVERGED = "not_converged"


@dataclass(frozen=True)
class Candidate:
    """New constants on their way: what is known of them beside the moves.

    ``passed`` is the verdict on them (closure, fits), ``failed`` names what did not pass;
    ``enough`` whether the data are those of a full calibration.
    """

    converged: bool = True
    passed: bool = True
    enough: bool = True
    failed: str = ""


@dataclass(frozen=True)
class Gated:
    """The decision of the gate, the sentence that explains it, and the moves."""

    decision: Decision
    why: str
    names: tuple[str, ...] = ()
    moves: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    significance: float = float("nan")


def moved(new: Effects, old: Effects, shared: tuple[float, float] = (0.0, 0.0)) -> Effects:
    """Return the moves from old to new constants, with their covariance.

    Parameters
    ----------
    new, old : Effects
        Of the same quantities. One that has a value in neither has not moved.
    shared : (float, float)
        Share of the events of the new ones that are among those of the old ones, and share of the
        old ones' that are among the new ones'. (0, 0): independent data, the covariances add.
        (s, 1): the old data are all in the new (nested sums), and of estimators that use their
        data fully cov(new, old) = cov(new), so that the variance of the move is
        var(old) - var(new) (J. Hausman, Econometrica 46 (1978) 1251). In between
        cov(new, old) = shared_old var(new) = shared_new var(old); the mean of both is taken.

    Returns
    -------
    Effects
        new - old.

    Raises
    ------
    InputError
        If the quantities are not the same.
    """
    if new.names != old.names:
        other = sorted(set(new.names) ^ set(old.names))
        raise InputError(
            f"the new constants and those in force are of other quantities ({other[0]!r} is in one"
            " of them only); they were made with other categories, so publish by hand"
        )
    of_new, of_old = shared
    between = 0.5 * (of_old * new.covariance + of_new * old.covariance)
    if of_old == 1.0:  # nested: exact, whatever the share
        between = new.covariance
    elif of_new == 1.0:
        between = old.covariance
    covariance = new.covariance + old.covariance - 2 * between
    values = new.values - old.values
    neither = ~np.isfinite(new.values) & ~np.isfinite(old.values)  # nothing was, nothing is
    values = np.where(neither, 0.0, values)
    covariance = np.where(neither[:, None] | neither, 0.0, covariance)
    own = new.own & old.own & ~neither
    return Effects(new.names, values, covariance, own, new.relative)


def relative(change: Effects, to: Effects) -> Effects:
    """Return changes of parameters, widths or the like, as shares of their values before.

    One whose value before is zero, or none, has no share: NaN.

    Parameters
    ----------
    change : Effects
        In the unit of the quantities.
    to : Effects
        Values before, of the same quantities.

    Returns
    -------
    Effects
        Without unit.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / np.abs(to.values)
        scale = np.where(np.isfinite(scale), scale, np.nan)
        # what has not moved, since it is nowhere, has not moved relatively either
        still = (change.values == 0) & (np.diagonal(change.covariance) == 0)
        scale = np.where(still, 0.0, scale)
        return Effects(
            change.names,
            change.values * scale,
            change.covariance * np.outer(scale, scale),
            change.own,
        )


def gate(moves: Effects | None, limits: Limits, candidate: Candidate | None = None) -> Gated:
    """Return whether new constants are published.

    Parameters
    ----------
    moves : Effects or None
        From `moved`; None where no constants are in force, which are then the first ones.
    limits : Limits
        Of moves, errors, and held quantities.
    candidate : Candidate, optional
        What is known of the new constants; by default nothing bad.

    Returns
    -------
    Gated
        Decision, why, and the moves.

    Notes
    -----
    The order: too little data waits; what has not converged or has not passed its own verdict is
    no candidate; then the moves. A quantity without a value of its own may veto, since what stands
    in for it would be published, but does not ask for a publication. One that is not a number is
    a veto: nobody knows what it did.
    """
    candidate = candidate or Candidate()
    if not candidate.enough:
        return Gated(Decision.WAIT, "too little data for a full calibration")
    if not candidate.converged:
        return Gated(Decision.NOT_CONVERGED, candidate.failed or "the iteration did not converge")
    if not candidate.passed:
        return Gated(Decision.VETO, f"its verdict is not passed: {candidate.failed}")
    if moves is None:
        return Gated(Decision.PUBLISH, "no constants are in force; these are the first")
    return _of_moves(moves, limits)


def _of_moves(moves: Effects, limits: Limits) -> Gated:
    names, values, errors = moves.names, moves.values, moves.errors
    at = limits.significance or threshold(limits.false_alarm, len(names))

    def said(decision: Decision, why: str) -> Gated:
        return Gated(decision, why, names, tuple(values.tolist()), tuple(errors.tolist()), at)

    if not len(names):
        return said(Decision.VETO, "nothing was measured")
    bad = ~(np.isfinite(values) & np.isfinite(errors))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        return said(Decision.VETO, f"{names[i]}: move {values[i]:g} ± {errors[i]:g} is no number")
    held = float(np.mean(~moves.own))
    if held > limits.max_held:
        return said(
            Decision.VETO,
            f"{100 * held:.0f} % of the quantities are held, at most"
            f" {100 * limits.max_held:.0f} % may be",
        )
    size = np.abs(values)
    i = int(np.argmax(size))
    if size[i] > limits.max:
        return said(
            Decision.VETO,
            f"{names[i]} moved by {values[i]:+.2e}, too far: at most {limits.max:g} is believed",
        )
    far = size > limits.cut
    loose = far & (errors > limits.error_max)
    if loose.any():
        i = int(np.argmax(np.where(loose, errors, -1.0)))
        return said(
            Decision.VETO,
            f"{names[i]} moved by {values[i]:+.2e} ± {errors[i]:.1e}: the"
            f" error is too large, at most {limits.error_max:g}",
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = np.where(size > 0, size / errors, 0.0)
    clear = far & moves.own & (pulls >= at)
    if clear.any():
        i = int(np.argmax(np.where(clear, pulls, -1.0)))
        return said(
            Decision.PUBLISH,
            f"{names[i]} moved by {values[i]:+.2e} ± {errors[i]:.1e}"
            f" ({pulls[i]:.1f} standard deviations, {at:.1f} needed)",
        )
    i = int(np.argmax(pulls))
    return said(
        Decision.KEEP, f"not moved: farthest is {names[i]} with {values[i]:+.2e} ± {errors[i]:.1e}"
    )
