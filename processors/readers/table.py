"""A table (flat parquet, columns of its own) to the records of a chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.calibrations.base import Needs
from calib.events.records import Records
from calib.schema import Sample
from calib.types import AnyArray, BoolArray
from processors.certified import is_certified, is_other_run
from processors.readers import columns as names
from processors.readers.events import Columns, Selected, identity_of, weight_of, wide
from processors.selection import ResolvedSelection, leave_out


def select_table(
    columns: Columns,
    where: Mapping[str, Any],
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
) -> Selected:
    """Return the rows of a chunk whose numbers are all finite.

    Parameters
    ----------
    columns : Columns
        Of n rows.
    where : mapping
        What the chunk is.
    sample : Sample
        What it is of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Its runs and certified sections.

    Returns
    -------
    Selected
        Records, and the account of the others.
    """
    found = records_of(columns, needs, where)
    masks: dict[str, BoolArray] = {}
    if selection.runs is not None:
        masks["other_run"] = is_other_run(found.run, selection.runs)
    if selection.certified is not None:
        good = is_certified(found.run, found.luminosityBlock, selection.certified)
        masks["not_certified"] = ~good
    masks["bad_value"] = ~_finite(found.columns.values(), len(found))
    masks["bad_weight"] = ~np.isfinite(found.weight)
    kept, rejected = leave_out(found, masks)
    return Selected(kept, len(found), rejected)


def records_of(table: Columns, needs: Needs, where: Mapping[str, Any]) -> Records:
    """Return all rows, with the columns that a calibration asks for.

    Parameters
    ----------
    table : Columns
        Of n rows.
    needs : Needs
        Columns that the calibration asks for.
    where : mapping
        What the chunk is.

    Returns
    -------
    Records
        n of them.
    """
    there = [n for n in (*needs.columns, *needs.optional) if n in table.names]
    return Records(
        columns={name: wide(table.flat(name)) for name in there},
        weight=weight_of(table, names.WEIGHT),
        **identity_of(table, where),
    )


def _finite(columns: Any, n: int) -> AnyArray:
    good = np.ones(n, dtype=np.bool_)
    for column in columns:
        if column.dtype.kind == "f":
            good &= np.isfinite(column)
    return good
