"""Binned likelihood fit of one category, by iminuit, with everything said about the result.

The likelihood is Poisson with the saturated model subtracted (otherwise the NLL is about 1e6 and
its precision is lost). Weighted events enter through the effective number of entries
(G. Bohm, G. Zech, Nucl. Instrum. Meth. A 748 (2014) 1), and the covariance contains what the
weights and the finite statistics of the template add (the sandwich H^-1 V H^-1; for weights see
C. Langenbruch, Eur. Phys. J. C 82 (2022) 393).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numba
import numpy as np
from iminuit import Minuit

from calib.fitting import retries
from calib.results import Status
from calib.types import Array, BoolArray, IntArray

TINY = 1e-12


@dataclass(frozen=True)
class Binned:
    """Counts of one category: sums of weights and of squared weights per bin of the edges."""

    edges: Array
    counts: Array
    variance: Array

    @property
    def effective(self) -> float:
        """Effective number of entries, (sum w)^2 / sum w^2."""
        total = float(self.variance.sum())
        return float(self.counts.sum()) ** 2 / total if total > 0 else 0.0


class Model(Protocol):
    """A shape: fractions per bin, normalised in the window."""

    names: Sequence[str]
    limits: Sequence[tuple[float, float]]

    def __call__(self, *parameters: float) -> Array:
        """Return the expected fraction per bin, shape (bins,)."""

    def relative_variance(self, *parameters: float) -> Array:
        """Return the relative variance per bin from the statistics of the template."""


@dataclass(frozen=True)
class FitResult:
    """What one fit found; arrays follow ``names``."""

    names: tuple[str, ...]
    values: Array
    covariance: Array
    nll: float
    chi2: float
    ndf: int
    edm: float
    status: Status
    step: str
    expected: Array
    at_limit: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> float:
        return float(self.values[self.names.index(name)])

    def error(self, name: str) -> float:
        """Return the standard deviation of a parameter: 0 if fixed, NaN if at its limit."""
        if name in self.at_limit:
            return float("nan")
        i = self.names.index(name)
        return float(np.sqrt(max(self.covariance[i, i], 0.0)))


@dataclass(frozen=True)
class Attempt:
    """One rung of the ladder of one category.

    Parameters
    ----------
    step : str
        Its name, kept in the result.
    start : sequence of float, or callable
        Start values, or a function of the result that stands.
    fixed : names of parameters that keep their start value
    when : callable
        Whether it is needed, given the result that stands; always where there is none yet.
    always : bool
        Whether it replaces what stands in any case.
    """

    step: str
    start: Sequence[float] | Callable[[FitResult], Sequence[float]]
    fixed: Sequence[str] = ()
    when: Callable[[FitResult], bool] = lambda standing: standing.status is not Status.OK
    always: bool = False


@dataclass(frozen=True)
class _Found:
    """One fit, as `calib.fitting.retries` compares it."""

    result: FitResult

    @property
    def converged(self) -> BoolArray:
        return np.array([self.result.status is Status.OK])

    @property
    def nll(self) -> Array:
        return np.array([self.result.nll])


class _Standing:
    """What stands for the one category of the ladder."""

    def __init__(self) -> None:
        self.result: FitResult | None = None

    @property
    def converged(self) -> BoolArray:
        return np.array([self.result is not None and self.result.status is Status.OK])

    @property
    def nll(self) -> Array:
        return np.array([np.nan if self.result is None else self.result.nll])

    def keep(self, at: IntArray, found: _Found, chosen: IntArray, step: str) -> None:
        self.result = found.result


def climb(data: Binned, model: Model, attempts: Sequence[Attempt]) -> FitResult:
    """Return the best fit of one category, by the ladder of `calib.fitting.retries`.

    Parameters
    ----------
    data : Binned
        Counts of the category.
    model : Model
        Its shape.
    attempts : sequence of Attempt
        The rungs, in order; the first always runs.

    Returns
    -------
    FitResult
        With the step that it comes from.
    """
    standing = _Standing()

    def rung(attempt: Attempt) -> retries.Rung[_Found]:
        def needed() -> IntArray:
            result = standing.result
            return np.arange(1 if result is None or attempt.when(result) else 0)

        def tried(at: IntArray) -> _Found:
            start = attempt.start
            if callable(start):
                assert standing.result is not None
                start = start(standing.result)
            return _Found(_one(data, model, start, attempt.fixed, attempt.step))

        return retries.Rung(attempt.step, needed, tried, attempt.always)

    retries.climb([rung(attempt) for attempt in attempts], standing)
    assert standing.result is not None
    return standing.result


def fit(
    data: Binned,
    model: Model,
    starts: Sequence[Sequence[float]],
    *,
    fixed: Sequence[str] = (),
    step: str = "first",
) -> FitResult:
    """Return the best of the fits from some starts.

    The next start is tried only where those before did not converge. The result says which start
    it was.

    Parameters
    ----------
    data : Binned
    model : Model
    starts : sequence of parameter vectors
    fixed : names of parameters that keep their start value
    step : str
        Name of this rung of the ladder, kept in the result.

    Returns
    -------
    FitResult
        With the step that it comes from.
    """
    return climb(data, model, from_starts(starts, fixed=fixed, step=step))


def from_starts(
    starts: Sequence[Sequence[float]],
    *,
    fixed: Sequence[str] = (),
    step: str = "first",
    when: Callable[[FitResult], bool] = lambda standing: standing.status is not Status.OK,
) -> list[Attempt]:
    """Return one rung per start, named by the step and its number.

    Parameters
    ----------
    starts : sequence of sequence of float
        In the order of the model's names.
    fixed : sequence of str
        Parameters that keep their start value.
    step : str
        Name of the first rung.
    when : callable
        Whether a rung is needed, given the result that stands.

    Returns
    -------
    list of Attempt
        As many as starts.
    """
    names = [step] + [f"{step}, start {number}" for number in range(2, len(starts) + 1)]
    return [Attempt(name, start, fixed, when) for name, start in zip(names, starts, strict=True)]


def _one(
    data: Binned, model: Model, start: Sequence[float], fixed: Sequence[str], step: str
) -> FitResult:
    total = float(data.counts.sum())
    scale = total / max(float(data.variance.sum()), TINY)  # 1 for unweighted events
    counts = np.maximum(data.counts, 0.0) * scale
    n = counts.sum()

    def nll(*parameters: float) -> float:
        return float(_deviance(model(*parameters), counts, n)) + penalty(*parameters)

    penalty = getattr(model, "penalty", _no_penalty)
    minuit = Minuit(nll, *start, name=list(model.names))
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.strategy = 1
    minuit.tol = 0.01
    for name, limit in zip(model.names, model.limits, strict=True):
        minuit.limits[name] = limit
        if name in fixed:
            minuit.fixed[name] = True
        span = limit[1] - limit[0]
        minuit.errors[name] = 0.02 * span if np.isfinite(span) else 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # iminuit speaks of what the status will say
        minuit.migrad(ncall=5_000)
        if minuit.valid:
            minuit.hesse()
    values = np.array(minuit.values, dtype=float)
    return _result(data, model, minuit, values, fixed, step, scale)


@numba.njit(cache=True, nogil=True)
def _deviance(fractions, counts, n):  # type: ignore[no-untyped-def]
    """Return half the Poisson deviance: the NLL with that of the saturated model subtracted."""
    total = 0.0
    for i in range(len(counts)):
        expected = max(fractions[i], 1e-12) * n
        total += expected - counts[i]
        if counts[i] > 0.0:
            total -= counts[i] * math.log(expected / counts[i])
    return total


def _no_penalty(*parameters: float) -> float:
    return 0.0


def _result(
    data: Binned,
    model: Model,
    minuit: Minuit,
    values: Array,
    fixed: Sequence[str],
    step: str,
    scale: float,
) -> FitResult:
    expected = np.maximum(model(*values), TINY) * data.counts.sum()
    n_free = len(values) - len(fixed)
    variance = _variance(data, model, values, expected)
    poisson = expected / scale
    smooth = poisson + (variance - poisson) * getattr(model, "smoothing", 1.0)
    chi2, ndf = chi_square(data.counts, expected, smooth, n_free + 1)
    at_limit = tuple(
        name
        for name, value, limit in zip(model.names, values, model.limits, strict=True)
        if name not in fixed and _near(value, limit)
    )
    covariance = np.zeros((len(values), len(values)))
    status = Status.OK
    if not minuit.valid or minuit.covariance is None:
        status = Status.FIT_FAILED
    else:
        covariance = np.array(minuit.covariance, dtype=float)
        if not minuit.accurate:
            status = Status.NOT_POSITIVE_DEFINITE
        covariance = _sandwich(data, model, values, expected, variance, covariance, fixed, scale)
    return FitResult(
        tuple(model.names),
        values,
        covariance,
        float(minuit.fval),
        chi2,
        ndf,
        float(minuit.fmin.edm),
        status,
        step,
        expected,
        at_limit,
    )


def _near(value: float, limit: tuple[float, float]) -> bool:
    low, high = limit
    span = high - low
    if not np.isfinite(span):
        return False
    return bool(value - low < 1e-3 * span or high - value < 1e-3 * span)


def _variance(data: Binned, model: Model, values: Array, expected: Array) -> Array:
    """Return the variance of counts minus expectation: Poisson (scaled) and template."""
    mean_weight = data.variance.sum() / max(float(data.counts.sum()), TINY)
    return np.asarray(expected * mean_weight + expected**2 * model.relative_variance(*values))


def _sandwich(
    data: Binned,
    model: Model,
    values: Array,
    expected: Array,
    variance: Array,
    covariance: Array,
    fixed: Sequence[str],
    scale: float,
) -> Array:
    """Return H^-1 + H^-1 (sum g g^T (V - V_poisson) / nu^2) H^-1."""
    poisson = expected / scale
    extra = (variance - poisson) / np.maximum(poisson, TINY) ** 2
    if not np.any(extra > 0):
        return covariance
    free = [i for i, name in enumerate(model.names) if name not in fixed]
    gradient = np.zeros((len(values), len(expected)))
    total = data.counts.sum()
    for i in free:
        width = max(float(np.sqrt(max(covariance[i, i], 0.0))) * 0.05, 1e-7)
        low, high = model.limits[i]
        up, down = values.copy(), values.copy()
        up[i], down[i] = min(values[i] + width, high), max(values[i] - width, low)
        gradient[i] = (model(*up) - model(*down)) * total / max(up[i] - down[i], TINY)
    score = (gradient * extra) @ gradient.T
    return np.asarray(covariance + covariance @ score @ covariance)


def chi_square(
    counts: Array, expected: Array, variance: Array, n_parameters: int, least: float = 5.0
) -> tuple[float, int]:
    """Return Pearson's chi2 and its degrees of freedom.

    Parameters
    ----------
    counts, expected : array, shape (bins,)
        Found and predicted sums of weights.
    variance : array, shape (bins,)
        Of the counts.
    n_parameters : int
        Floating ones.
    least : float
        Neighbouring bins are joined until each holds so many (effective) expected entries, so that
        chi2 follows its distribution also where the bins are nearly empty.

    Returns
    -------
    float
        chi2.
    int
        ndf = filled bins - floating parameters (the number of events counts as one).
    """
    entries = expected**2 / np.maximum(variance, TINY)
    group = np.floor(np.cumsum(entries) / least).astype(int)
    group = np.minimum(group, max(int(entries.sum() / least) - 1, 0))
    group = np.unique(group, return_inverse=True)[1]
    n = group.max() + 1
    c, e, v = (np.bincount(group, weights=x, minlength=n) for x in (counts, expected, variance))
    return float(np.sum((c - e) ** 2 / np.maximum(v, TINY))), int(n - n_parameters)
