"""Sums over events that add: fill, merge, write and read, without code in the files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from calib.arrays import AnyArray, Array, IntArray
from calib.errors import InputError

Sums = dict[str, AnyArray]
"""Named arrays; the sums of two disjoint sets of events are the sums of the arrays."""


@dataclass(frozen=True)
class Fill:
    """Columns of one chunk for one histogram per category.

    Parameters
    ----------
    category : int array, shape (n,)
        Flat category, negative where an entry belongs to none.
    n_categories : int
    value : array, shape (n,)
        Observable. Entries outside the edges are counted in the means but in no bin.
    edges : array, shape (bins + 1,)
    weight : array, shape (n,)
    means : mapping of name to array, shape (n,)
        Their weighted sums are kept per category over the entries that fall in a bin: a bin's
        centre is not its mean.
    """

    category: IntArray
    n_categories: int
    value: Array
    edges: Array
    weight: Array
    means: Mapping[str, Array] = field(default_factory=dict)


def add(parts: Iterable[Sums]) -> Sums:
    """Return the sum of some sums, in the order given; missing names count as zero."""
    total: Sums = {}
    for part in parts:
        for name, values in part.items():
            if name in total:
                total[name] += values
            else:
                total[name] = values.copy()
    return total


def write(path: Path, sums: Sums) -> None:
    """Write the sums as a compressed .npz: whole or not at all, no code in the file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **sums)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Sums:
    """Read sums written by `write`.

    Raises
    ------
    InputError
        If the file is not a whole .npz of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise InputError(
            f"{path}: not a readable histogram file ({error}); expected an .npz of plain arrays;"
            " delete it and run `calib collect` again"
        ) from error
