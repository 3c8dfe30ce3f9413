"""Two results of one calibration, side by side in standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.distributions import chi2_sf
from calib.errors import InputError
from calib.types import Array

_FLAT = 1e-8
"""Eigenvalues below this share of the largest belong to combinations that both hold fixed."""


@dataclass(frozen=True)
class Difference:
    """What moved from ``before`` to ``after``, n parameters.

    Parameters
    ----------
    names : tuple of str
    before, before_err, after, after_err : array, shape (n,)
    move : array, shape (n,)
        After minus before.
    pull : array, shape (n,)
        The move in standard deviations, both errors as independent; NaN where one of the two
        has no value.
    chi2, ndf, probability : float, int, float
        Of all moves together with both covariances; ndf is the rank of their sum.
    """

    names: tuple[str, ...]
    before: Array
    before_err: Array
    after: Array
    after_err: Array
    move: Array
    pull: Array
    chi2: float
    ndf: int
    probability: float


def difference(
    names: Sequence[str],
    before: Array,
    before_covariance: Array,
    after: Array,
    after_covariance: Array,
) -> Difference:
    """Return how two sets of values with covariance differ, as if independent of each other.

    Parameters
    ----------
    names : sequence of str, length n
    before : array, shape (n,)
        Values, in any units.
    before_covariance : array, shape (n, n)
        Of these.
    after : array, shape (n,)
        Values, in the same units.
    after_covariance : array, shape (n, n)
        Of these.

    Returns
    -------
    Difference
        after - before.

    Raises
    ------
    InputError
        If the shapes are not these.
    """
    n = len(names)
    for what, found, shape in (
        ("values", before, (n,)),
        ("values", after, (n,)),
        ("covariance", before_covariance, (n, n)),
        ("covariance", after_covariance, (n, n)),
    ):
        if np.shape(found) != shape:
            raise InputError(f"{what}: found shape {np.shape(found)}, expected {shape}")
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = [np.sqrt(np.diagonal(c)) for c in (before_covariance, after_covariance)]
        move = after - before
        pull = move / np.hypot(*errors)
    pull = np.where(np.isfinite(pull), pull, np.nan)
    chi2, ndf = _chi2(move, before_covariance + after_covariance, np.isfinite(pull))
    probability = float(chi2_sf(chi2, ndf)) if ndf else float("nan")
    return Difference(
        tuple(names), before, errors[0], after, errors[1], move, pull, chi2, ndf, probability
    )


def _chi2(move: Array, covariance: Array, known: Array) -> tuple[float, int]:
    """Return the squared length of the moves in their covariance, and its rank."""
    scale = np.sqrt(np.diagonal(covariance)[known])
    matrix = covariance[np.ix_(known, known)] / np.outer(scale, scale)
    if not len(scale) or not np.isfinite(matrix).all():
        return float("nan"), 0
    size, vectors = np.linalg.eigh(matrix)
    seen = size > _FLAT * size[-1]
    along = (vectors.T @ (move[known] / scale))[seen]
    return float(along**2 @ (1 / size[seen])), int(seen.sum())
