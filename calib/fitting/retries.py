"""The ladder of a fit: an ordered list of rungs, and one rule for what replaces what.

A rung is tried on the categories that need it and replaces what stands only where it is better: a
fit that converged over one that did not, then the lower NLL. ``step`` says which rung the numbers
come from. Used by the fit of one category (`calib.fitting.minuit`) and of thousands
(`calib.fitting.many`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from calib.types import Array, BoolArray, IntArray

MARGIN = 1e-3
"""An NLL is lower if it is lower by this much."""


class Fits(Protocol):
    """Fits of some categories that can be compared."""

    @property
    def converged(self) -> BoolArray:
        """Return which converged, shape (n,)."""

    @property
    def nll(self) -> Array:
        """Return the NLL, shape (n,)."""


T = TypeVar("T", bound=Fits)
S = TypeVar("S", bound=Fits, contravariant=True)


class Standing(Protocol[S]):
    """What stands for all categories of the ladder: not converged, NLL not finite, at first."""

    @property
    def converged(self) -> BoolArray:
        """Return which converged, shape (n,)."""

    @property
    def nll(self) -> Array:
        """Return the NLL, shape (n,)."""

    def keep(self, at: IntArray, found: S, chosen: IntArray, step: str) -> None:
        """Let ``found[chosen]`` stand for the categories ``at``.

        Parameters
        ----------
        at : int array, shape (m,)
            Categories.
        found : fits
            What a rung returned.
        chosen : int array, shape (m,)
            Which of the fits.
        step : str
            Name of the rung.
        """


@dataclass(frozen=True)
class Rung(Generic[T]):
    """One way to fit.

    Parameters
    ----------
    step : str
        Its name in the result.
    needed : callable
        () -> the categories that need it, asked when the rung is reached.
    fit : callable
        Categories -> their fits.
    always : bool
        Whether it replaces what stands in any case: a refit of the same minimum.
    """

    step: str
    needed: Callable[[], IntArray]
    fit: Callable[[IntArray], T]
    always: bool = False


def better(found: Fits, converged: BoolArray, nll: Array) -> BoolArray:
    """Return which of the fits are better than those of the given convergence and NLL.

    Parameters
    ----------
    found : Fits
        Of n categories.
    converged : bool array, shape (n,)
        Of what stands.
    nll : array, shape (n,)
        Of what stands; not finite where nothing does.

    Returns
    -------
    bool array, shape (n,)
        Whether a fit replaces what stands.
    """
    lower = ~np.isfinite(nll) | (found.nll < nll - MARGIN)
    return np.asarray(np.where(found.converged == converged, lower, found.converged))


def climb(rungs: Sequence[Rung[T]], standing: Standing[T]) -> None:
    """Take the categories through the rungs, each as far as it needs.

    Parameters
    ----------
    rungs : sequence of Rung
        In order.
    standing : Standing
        What stands; changed.
    """
    for rung in rungs:
        at = rung.needed()
        if not len(at):
            continue
        found = rung.fit(at)
        good = better(found, standing.converged[at], standing.nll[at])
        chosen = np.arange(len(at)) if rung.always else np.flatnonzero(good)
        if len(chosen):
            standing.keep(at[chosen], found, chosen, rung.step)
