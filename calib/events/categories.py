"""Axes and the flat index of a category. Edges are [low, high) everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from calib.types import Array, IntArray


@dataclass(frozen=True)
class Axis:
    """One axis of the categories: finite ascending edges, ``[low, high)``.

    ``labels`` name the bins; without them a bin is named by its edges. ``whole``: its values are
    whole numbers, one a bin, such as the shape of a cell.
    """

    name: str
    edges: tuple[float, ...]
    labels: tuple[str, ...] = ()
    unit: str = ""
    whole: bool = False

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or np.any(np.diff(self.edges) <= 0):
            raise ValueError(f"axis {self.name}: edges {self.edges} are not ascending")
        if self.labels and len(self.labels) != len(self):
            raise ValueError(f"axis {self.name}: {len(self.labels)} labels for {len(self)} bins")

    def __len__(self) -> int:
        return len(self.edges) - 1

    def index(self, values: Array) -> IntArray:
        """Return the bin of each value, -1 outside the axis or where it is not a number.

        Parameters
        ----------
        values : array
            In the unit of the axis.

        Returns
        -------
        int array
            Shape as values.
        """
        from calib.events.binning import write_bins  # loads numba

        flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
        found = np.empty(len(flat), dtype=np.int64)
        write_bins(flat, np.asarray(self.edges, dtype=np.float64), found)
        return found.reshape(np.shape(values))

    def bins(self) -> list[tuple[float, float]]:
        """Return the lower and the upper edge of each bin."""
        return list(pairwise(self.edges))

    def label(self, i: int) -> str:
        """Return the name of bin i."""
        return self.labels[i] if self.labels else f"{self.edges[i]:g}-{self.edges[i + 1]:g}"


@dataclass(frozen=True)
class Categories:
    """The product of some axes; the last axis varies fastest."""

    axes: tuple[Axis, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, axes: Sequence[Axis], separators: Sequence[str] | None = None) -> Categories:
        """Return the categories of some axes, each named by its bins' labels.

        Parameters
        ----------
        axes : sequence of Axis
            The last one varies fastest.
        separators : sequence of str, optional
            Between the labels of two axes: one less than axes.

        Returns
        -------
        Categories
            Named by their bins.
        """
        between = ["", *(separators or ["_"] * (len(axes) - 1))]
        names = tuple(
            "".join(s + a.label(i) for s, a, i in zip(between, axes, bins, strict=True))
            for bins in product(*(range(len(a)) for a in axes))
        )
        return cls(tuple(axes), names)

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of bins of each axis."""
        return tuple(len(a) for a in self.axes)

    def index(self, *values: Array) -> IntArray:
        """Return the flat category of each entry, -1 outside any axis."""
        from calib.events.binning import add_bins  # loads numba

        flat: IntArray = np.zeros(len(values[0]), dtype=np.int64)
        for axis, column in zip(self.axes, values, strict=True):
            bins = axis.index(column)
            add_bins(flat, bins, len(axis))
        return flat

    def bins(self, flat: int) -> tuple[int, ...]:
        """Return the bin on each axis of a flat category."""
        return tuple(int(i) for i in np.unravel_index(flat, self.shape))
