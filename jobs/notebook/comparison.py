"""Two payloads side by side, in standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calib.errors import InputError
from calib.later import pandas as pd
from calib.payload.differences import Difference, difference
from calib.payload.payload import Payload
from calib.payload.values import apart
from calib.plots import figures
from calib.types import Array
from jobs.notebook import html
from jobs.notebook.covariance import Covariance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5.0
"""Standard deviations up to which a distance is drawn in its place; beyond, at the edge."""
FAR = 3.0
"""Standard deviations from which on a move is named."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What moved from one payload to another.

    ``table`` has a row for each value: ``name, kind_1, value_1, error_1, status_1``, the same of
    the second, ``difference`` (second minus first) and ``sigma``, that in standard deviations.
    The errors are taken as independent: those of payloads that share events are smaller.
    """

    labels: tuple[str, str]
    calibration: str
    table: pd.DataFrame
    difference: Difference

    @property
    def chi2(self) -> float:
        """Of all moves together; with both covariances, where both are results of a run."""
        return self.difference.chi2

    @property
    def ndf(self) -> int:
        """Number of independent values that both have."""
        return self.difference.ndf

    @property
    def probability(self) -> float:
        """Of a chi2 as large as this."""
        return self.difference.probability

    @property
    def furthest(self) -> pd.DataFrame:
        """The values that moved by more than three standard deviations, the furthest first."""
        far = self.table[self.table["sigma"].abs() > FAR]
        return far.sort_values("sigma", key=abs, ascending=False, ignore_index=True)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def figure(self) -> Figure:
        """Return a figure: the distance of each value, by kind."""
        html.shown_in_cells()
        kinds = self.table["kind_1"].fillna(self.table["kind_2"])
        parts = {
            str(k): part["sigma"].to_numpy(dtype=float)
            for k, part in self.table.groupby(kinds, sort=False)
        }
        return distances(parts, label=f"({self.labels[1]} - {self.labels[0]}) / error")

    def _repr_html_(self) -> str:
        first = self.table.sort_values("sigma", key=abs, ascending=False)
        compared = int(self.table["sigma"].notna().sum())
        return html.block(
            f"{self.labels[1]} against {self.labels[0]} ({self.calibration})",
            html.words(
                f"{len(self.furthest)} of {compared} values moved by more than {FAR:g} standard"
                f" deviations; chi2/ndf {self.chi2:.0f}/{self.ndf}"
            ),
            html.table(first.drop(columns=["kind_1", "kind_2"])),
        )


def compared(
    payloads: tuple[Payload, Payload],
    covariances: tuple[Covariance | None, Covariance | None] = (None, None),
    labels: tuple[str, str] | None = None,
) -> Comparison:
    """Return what moved from the first payload to the second.

    Parameters
    ----------
    payloads : pair of Payload
    covariances : pair of Covariance or None
        Of their values; where both have one of the same names, the chi2 takes it.
    labels : pair of str, optional
        What they are called.

    Raises
    ------
    InputError
        If they come from different calibrations.
    """
    first, second = payloads
    if first.calibration != second.calibration:
        raise InputError(
            f"{second.path}: a payload of {second.calibration}, expected one of"
            f" {first.calibration} like {first.path}; compare those of one calibration"
        )
    names = labels or (_label(first), _label(second))
    table = apart(first.to_dataframe(), second.to_dataframe())
    return Comparison(names, first.calibration, table, _difference(covariances, table))


def _difference(
    covariances: tuple[Covariance | None, Covariance | None], table: pd.DataFrame
) -> Difference:
    """Return the difference with both covariances, or with errors alone."""
    first, second = covariances
    if first is not None and second is not None and np.array_equal(first.names, second.names):
        return difference([*map(str, first.names)], *first, *second)
    sides = [
        (table[f"value_{i}"].to_numpy(float), np.diag(table[f"error_{i}"].to_numpy(float) ** 2))
        for i in (1, 2)
    ]
    return difference(table["name"].tolist(), *sides[0], *sides[1])


def _label(payload: Payload) -> str:
    path = Path(payload.path)
    return (
        path.parent.name
        if path.name in ("payload.json", "a refit") and path.parent.name
        else path.name
    )


def distances(parts: Mapping[str, Array], *, label: str) -> Figure:
    """Return a figure with the distance of each value, one row of points a kind.

    Parameters
    ----------
    parts : mapping of kind to array
        In standard deviations; NaN where a value cannot be compared.
    label : str
    """
    with figures.in_style():
        figure = figures.empty_figure(7.2, 1.0 + 1.15 * max(len(parts), 1))
        rows = figure.subplots(max(len(parts), 1), 1, squeeze=False)[:, 0]
        for axes, (kind, sigma) in zip(rows, parts.items(), strict=False):
            axes.axhspan(-1, 1, color=figures.BLUE, alpha=0.12, lw=0)
            axes.axhline(0, color="0.6", lw=0.8)
            far = np.abs(sigma) > SHOWN
            at, drawn = np.arange(len(sigma)), np.clip(sigma, -SHOWN, SHOWN)
            axes.plot(at[~far], drawn[~far], "o", ms=3.5, color=figures.BLUE)
            axes.plot(at[far], drawn[far], "D", ms=5, color=figures.RED)
            axes.set_ylim(-1.1 * SHOWN, 1.1 * SHOWN)
            axes.set_xlim(-1, max(len(sigma), 1))
            axes.set_ylabel(kind)
        rows[-1].set_xlabel("value, in the order of the payload")
        figure.suptitle(label, fontsize=11)
        return figures.drawn(figure)
