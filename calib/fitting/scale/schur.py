"""The background of every category, eliminated: what is left is a problem in (lambda, v)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.fitting.scale.category import without
from calib.types import Array, BoolArray


@dataclass(frozen=True)
class Reduced:
    """Gradient and Hessian of the profile in x = (lambda, v), with the way back.

    Parameters
    ----------
    gradient : array, shape (n, 2)
    hessian : array, shape (n, 2, 2)
    project : array, shape (n, 2, p)
        The score of the profile is project @ score.
    own : array, shape (n, p - 2)
        Newton step of the background at fixed x.
    follow : array, shape (n, p - 2, 2)
        How the background follows x.
    edm : array, shape (n,)
        Distance of the background from its minimum at fixed x, in NLL.
    """

    gradient: Array
    hessian: Array
    project: Array
    own: Array
    follow: Array
    edm: Array

    def back(self, dx: Array) -> Array:
        """Return the steps of the backgrounds for steps of (lambda, v).

        Parameters
        ----------
        dx : array, shape (n, 2)
            Steps of (lambda, v).

        Returns
        -------
        array, shape (n, p - 2)
            In the units of the background's parameters.
        """
        return np.asarray(self.own + np.matmul(self.follow, dx[:, :, None])[:, :, 0])


def reduced(
    gradient: Array, hessian: Array, held: BoolArray, damping: Array, usual: Array
) -> Reduced:
    """Return the Schur complement of the background's parameters.

    Parameters
    ----------
    gradient : array, shape (n, p)
        In (lambda, v, f, slope, ...).
    hessian : array, shape (n, p, p)
    held : bool array, shape (n, p)
        Parameters of the background that stay where they are.
    damping : array, shape (n,)
        Levenberg-Marquardt, relative to the diagonal.
    usual : array, shape (n, 2, 2)
        Expected Hessian of the profile, for categories whose own bends wildly.

    Returns
    -------
    Reduced
        Of n categories, in (lambda, v).
    """
    local = without(hessian[:, 2:, 2:], held[:, 2:])
    i = np.arange(local.shape[1])
    local[:, i, i] *= 1 + damping[:, None]
    free = ~held[:, 2:]
    inverse = np.linalg.inv(local) * (free[:, :, None] & free[:, None, :])
    cross = hessian[:, :2, 2:]
    right = np.where(free, gradient[:, 2:], 0.0)
    follow = -np.matmul(inverse, cross.transpose(0, 2, 1))
    schur = hessian[:, :2, :2] + np.matmul(cross, follow)
    wild = _bends_wildly(schur, usual)
    schur[wild], follow[wild] = usual[wild], 0.0
    own = -np.matmul(inverse, right[:, :, None])[:, :, 0]
    n = len(gradient)
    project = np.concatenate([np.tile(np.eye(2), (n, 1, 1)), follow.transpose(0, 2, 1)], 2)
    return Reduced(
        np.matmul(project, np.concatenate([gradient[:, :2], right], 1)[:, :, None])[:, :, 0],
        schur,
        project,
        own,
        follow,
        -0.5 * (right * own).sum(1),
    )


def _bends_wildly(hessian: Array, usual: Array) -> BoolArray:
    """Return where the profile bends down by more than it should bend up.

    Next to a saddle of its background the profile of a category has no quadratic form worth its
    name, and a single one would outweigh all others.
    """
    scale = 1 / np.sqrt(np.maximum(np.diagonal(usual, axis1=1, axis2=2), 1e-300))
    unit = hessian * scale[:, :, None] * scale[:, None]
    return np.asarray(np.linalg.eigvalsh(unit)[:, 0] < -1.0)
