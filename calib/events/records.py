"""Events that are no pair of muons: records, one row of a table each.

When to use: the events of a calibration are hits, tracks, cells of a calorimeter, anything that
a flat parquet file holds in columns of its own (format ``table``); it is derived from
`calib.calibrations.base.TableCalibration` then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from typing_extensions import TypeVar

from calib.events.pairs import Pairs
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
        """Return the rows selected by a mask or by indices.

        Parameters
        ----------
        keep : bool array, shape (n,), or int array
            Mask or indices.

        Returns
        -------
        Records
            The selected ones.
        """
        return Records(
            {name: column[keep] for name, column in self.columns.items()},
            self.weight[keep],
            self.run[keep],
            self.luminosityBlock[keep],
            self.event[keep],
        )

    def with_columns(self, columns: Mapping[str, AnyArray]) -> Records:
        """Return the rows with further columns, or with others in place of their own.

        Parameters
        ----------
        columns : mapping of name to array, shape (n,)
            Further ones.

        Returns
        -------
        Records
            With the same weights and identity.
        """
        return replace(self, columns={**self.columns, **columns})


EventsT = TypeVar("EventsT", Pairs, Records, default=Pairs)
"""What a calibration is given of a chunk: pairs of muons, or the rows of a table."""
