"""Have constants moved, and may the new ones be published? The gates of a prompt calibration.

Two decisions, both on *effects*: what constants do to what is measured, a relative change for
each of a few quantities (the curvature of muons of one charge in an eta bin, the predicted
resolution in a category), zero where nothing is done.

- `calib.quality.residual_test`: some events, the constants in force applied to them: is what is
  left zero, run by run and over all runs together?
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
    weight = common_weights(effects)
    if weight is None:
        return float("nan"), float("inf")
    return float(weight @ effects.values), float(np.sqrt(weight @ effects.covariance @ weight))


def common_weights(effects: Effects) -> Array | None:
    """Return the weights of the common value, shape (n,), sum 1; None without any quantity."""
    if len(effects.names) == 0:
        return None
    scale = effects.errors
    correlation = effects.covariance / np.outer(scale, scale)
    # quantities that are nearly the same one make it nearly singular
    weight = np.linalg.pinv(correlation, rcond=1e-8, hermitian=True) @ (1 / scale) / scale
    total = float(weight.sum())
    return np.asarray(weight / total) if total > 0 else None


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
