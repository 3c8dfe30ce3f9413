"""Calibrations of what is no pair of muons: records, one row of a table each.

When to use: the events of the calibration are hits, tracks, cells of a calorimeter, anything that
a flat parquet file holds in columns of its own (format ``table``). All else of the contract in
`calib.calibrations.base` stays as it is: sums that add, a reduction, passes, closure, payload.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.events.histograms import Fill
from calib.results import Pass
from calib.schema import Sample
from calib.types import AnyArray, Array, BoolArray, IntArray, UIntArray


@dataclass(frozen=True)
class Records:
    """Rows of a table: the columns that were asked for, by name, arrays of shape (n,).

    Floating-point columns are in double precision, and finite. ``run, luminosityBlock, event``
    stand in for themselves where the file has none, as in `processors.readers.events.identity_of`.
    """

    columns: Mapping[str, AnyArray]
    weight: Array
    run: UIntArray
    luminosityBlock: UIntArray
    event: UIntArray

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, name: str) -> AnyArray:
        return self.columns[name]

    def take(self, keep: BoolArray | IntArray) -> Records:
        """Return the rows selected by a mask or by indices."""
        return Records(
            {name: column[keep] for name, column in self.columns.items()},
            self.weight[keep],
            self.run[keep],
            self.luminosityBlock[keep],
            self.event[keep],
        )

    def with_columns(self, columns: Mapping[str, AnyArray]) -> Records:
        """Return the rows with further columns, or with others in place of their own."""
        return replace(self, columns={**self.columns, **columns})


class TableCalibration(Calibration):
    """One calibration of records: `Calibration`, with records in place of pairs.

    ``needs`` names the columns: ``Needs(columns=("time", "side"))``; those of ``optional`` are
    read where the file has them. A column ``weight`` is the weight of a row.
    """

    formats: ClassVar[tuple[str, ...]] = ("table",)
    resonances: ClassVar[tuple[str, ...]] = ("none",)

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return no cuts: what a row must fulfil is for `rejects` to say."""
        return {}

    def rejects(  # type: ignore[override]
        self, records: Records, sample: Sample
    ) -> Mapping[str, BoolArray]:
        """Return masks of rows it cannot use, by reason."""
        return {}

    @abstractmethod
    def collect(  # type: ignore[override]
        self, records: Records, sample: Sample, walk: Pass
    ) -> Mapping[str, Fill | AnyArray]:
        """Return columns to be filled, or sums ready to be added, by name."""

    @classmethod
    def apply(  # type: ignore[override]
        cls, document: Mapping[str, Any], records: Records
    ) -> Mapping[str, AnyArray]:
        """Return new columns of each row, by name, from a payload alone.

        Raises
        ------
        InputError
            If it gives none.
        """
        raise InputError(f"{cls.name} gives no columns of a table; use its payload.json")
