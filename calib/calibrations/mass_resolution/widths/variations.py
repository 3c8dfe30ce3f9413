"""Variations of the factors of categories: what moves many of them together.

When to use: an analysis that uses several categories needs to know which part of their
uncertainties is common. Systematic variations have names; of the statistical covariance, the
common part is written as a few independent shifts, and the rest is each category's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calib.payload.variations import common_part
from calib.types import AnyArray, Array, BoolArray


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
        """Return the factors under each variation: ``nom``, then up and down of each shift.

        Parameters
        ----------
        factor : array, shape (n,)
            The nominal ones.

        Returns
        -------
        dict of str to array, shape (n,)
            ``nom, NAME_up, NAME_down`` ...
        """
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
        The nominal ones.
    known : bool array, shape (n,)
        Categories with a usable value; the others are not shifted.
    covariance : mapping of name to array
        ``statistical`` (n, n), of the factors, and ``syst_NAME`` (n,), change of each factor for
        one standard deviation; none of them is needed.

    Returns
    -------
    Variations
        Of n categories.
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
