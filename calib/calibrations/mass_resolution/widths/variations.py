"""Variations of the factors of categories: what moves many of them together.

When to use: an analysis that uses several categories needs to know which part of their
uncertainties is common. Systematic variations have names; of the statistical covariance, the
common part is written as a few independent shifts, and the rest is each category's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calib.types import AnyArray, Array, BoolArray

SHARE, MOST = 0.95, 5
"""Share of the squared correlations between categories that the common shifts carry, and their
largest number."""


@dataclass(frozen=True)
class Variations:
    """Shifts of the factors for one standard deviation of each, by name.

    ``systematic`` and ``common`` hold arrays of shape (n,); ``carried`` is the share of the
    squared statistical correlations between categories that ``common`` stands for.
    """

    systematic: Mapping[str, Array]
    common: Mapping[str, Array]
    carried: float

    def factors(self, factor: Array) -> dict[str, Array]:
        """Return the factors under each variation: ``nom``, then up and down of each shift."""
        found = {"nom": factor}
        for name, shift in (*self.systematic.items(), *self.common.items()):
            found[f"{name}_up"], found[f"{name}_down"] = factor + shift, factor - shift
        return found

    def text(self, name: str) -> str:
        """Return what a payload says of them; ``name`` is that of its factor."""
        named = ", ".join(self.systematic) or "none"
        return (
            f"The correction factor under variations, nom is {name}. NAME_up and NAME_down shift"
            " all categories together by one standard deviation of one independent source."
            f" Systematic ones (line shape): {named}. common_1, common_2, ...: eigenvectors of the"
            " common part of the statistical covariance of ln(factor); these"
            f" {len(self.common)} carry {100 * self.carried:.0f} % of the squared correlations"
            " between categories. What is left is each category's own: uncertainty^2 minus the"
            " sum of the squares of all (up - nom)."
        )


def variations(factor: Array, known: BoolArray, covariance: Mapping[str, AnyArray]) -> Variations:
    """Return the variations of factors.

    Parameters
    ----------
    factor : array, shape (n,)
    known : bool array, shape (n,)
        Categories with a usable value; the others are not shifted.
    covariance : mapping of name to array
        ``statistical`` (n, n), of the factors, and ``syst_NAME`` (n,), change of each factor for
        one standard deviation; none of them is needed.
    """
    systematic = {
        name: np.where(known, np.nan_to_num(np.asarray(shift, dtype=float)), 0.0)
        for name, shift in covariance.items()
        if name.startswith("syst_")
    }
    if "statistical" not in covariance or not known.any():
        return Variations(systematic, {}, 1.0)
    size = np.outer(factor, factor)
    both = np.outer(known, known)
    statistical = np.where(both, np.asarray(covariance["statistical"], dtype=float) / size, 0.0)
    shifts, carried = common_part(statistical)
    common = {f"common_{k + 1}": factor * shift for k, shift in enumerate(shifts)}
    return Variations(systematic, common, carried)


def common_part(covariance: Array, share: float = SHARE, most: int = MOST) -> tuple[Array, float]:
    """Return independent shifts V with V.T V near the off-diagonal part of a covariance.

    A factor analysis by principal axes, in units of the errors: the diagonal of the correlation
    is replaced by what the shifts themselves carry of it, until that is stable (H. H. Harman,
    Modern Factor Analysis, 3rd ed., chapter 8). No shift carries more than there is.

    Parameters
    ----------
    covariance : array, shape (n, n)
        Rows of zeros are left alone.
    share : float
        Least share of the squared correlations between different rows that is carried.
    most : int
        Largest number of shifts.

    Returns
    -------
    shifts : array, shape (k, n)
        The largest first, each mostly positive.
    carried : float
    """
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    at = np.flatnonzero(np.isfinite(error) & (error > 0))
    nothing = np.zeros((0, len(covariance)))
    if len(at) < 2:
        return nothing, 1.0
    correlation = covariance[np.ix_(at, at)] / np.outer(error[at], error[at])
    apart = ~np.eye(len(at), dtype=np.bool_)
    total = float(np.sum(correlation[apart] ** 2))
    if not total > 1e-12:
        return nothing, 1.0
    rows, carried = np.zeros((0, len(at))), 0.0
    for n in range(1, min(most, len(at) - 1) + 1):
        rows = _principal(correlation, n)
        carried = 1.0 - float(np.sum((correlation - rows.T @ rows)[apart] ** 2)) / total
        if carried >= share:
            break
    found = np.zeros((len(rows), len(covariance)))
    found[:, at] = rows * np.where(rows.sum(1) < 0, -1.0, 1.0)[:, None] * error[at]
    return found, carried


def _principal(correlation: Array, n: int) -> Array:
    """Return n principal axes of a correlation without its own diagonal, shape (n, rows)."""
    inside = np.max(np.abs(correlation - np.eye(len(correlation))), axis=1)
    rows = np.zeros((n, len(correlation)))
    for _ in range(200):
        reduced = correlation - np.diag(1.0 - inside)
        values, vectors = np.linalg.eigh(reduced)
        leading = np.argsort(values)[::-1][:n]
        rows = np.sqrt(np.maximum(values[leading], 0.0))[:, None] * vectors[:, leading].T
        now = np.minimum(np.sum(rows**2, axis=0), 1.0)
        if np.max(np.abs(now - inside)) < 1e-8:
            break
        inside = now
    # what is more than all of a row is scaled back
    return np.asarray(rows / np.sqrt(np.maximum(np.sum(rows**2, axis=0), 1.0)))
