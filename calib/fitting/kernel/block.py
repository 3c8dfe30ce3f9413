"""What goes into the fits of a block of categories, and what comes out of an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from calib.fitting.kernel.problem import Problem
from calib.types import AnyArray, Array, BoolArray, IntArray


@dataclass(frozen=True)
class Block:
    """Some categories: ``counts`` are effective, sums of weights times ``scale``."""

    rows: IntArray
    counts: Array
    variance: Array | None
    scale: Array
    templates: Array
    template_variance: Array | None
    mass: Array

    @cached_property
    def saturated(self) -> Array:
        """Sum of n ln(n / N); |n| where sums of weights are negative."""
        size = np.abs(self.counts)
        share = np.where(size > 0, size, 1.0) / self.counts.sum(1, keepdims=True)
        return np.asarray(np.where(size > 0, self.counts * np.log(share), 0.0).sum(1))

    def take(self, at: IntArray) -> Block:
        """Return some of its categories.

        Parameters
        ----------
        at : array, shape (m,)
            Indices of categories in the block, or a mask.

        Returns
        -------
        Block
            Of m categories.
        """
        return Block(
            self.rows[at],
            self.counts[at],
            None if self.variance is None else self.variance[at],
            self.scale[at],
            self.templates[at],
            None if self.template_variance is None else self.template_variance[at],
            self.mass if self.mass.ndim == 1 else self.mass[at],
        )


@dataclass(frozen=True)
class BlockMinimum:
    """Where the fits of a block ended and what holds there; theta = (lambda, v, f, slope, ...).

    Parameters
    ----------
    covariance : array, shape (n, parameters, parameters)
        With what weights and templates add; NaN where the fit did not converge.
    gradient : array, shape (n, parameters)
        Of the NLL; not 0 for a parameter that is ``held`` at a bound.
    curvature : array, shape (n,)
        Expected second derivative of the NLL in the fraction of the background.
    """

    theta: Array
    covariance: Array
    nll: Array
    edm: Array
    chi2: Array
    ndf: IntArray
    iterations: IntArray
    gradient: Array
    held: BoolArray
    curvature: Array
    converged: BoolArray

    def take(self, at: IntArray) -> BlockMinimum:
        """Return some of its categories.

        Parameters
        ----------
        at : array, shape (m,)
            Indices of categories in the block, or a mask.

        Returns
        -------
        BlockMinimum
            Of m categories.
        """
        return BlockMinimum(*(getattr(self, field.name)[at] for field in fields(self)))


@dataclass(frozen=True)
class Engine:
    """A way to fit a block: (problem, block, G, starts, fixed, template errors) -> Minimum.

    All engines give the same numbers.
    """

    name: str
    fit: Callable[[Problem, Block, AnyArray, Array, BoolArray, bool], BlockMinimum]
