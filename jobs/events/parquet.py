"""What a parquet file says of itself: stage1, one row a pair."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calib.errors import InputError
from jobs.events.addresses import is_remote
from jobs.events.checksums import of_parquet
from jobs.events.facts import Column, Facts, cannot_be_opened, expect_format, head, local_size
from jobs.events.marks import of_schema
from processors.readers.columns import IDENTITY, in_file, stand_ins
from processors.readers.events import require_in_range, require_whole
from processors.readers.stage1 import open_parquet

MAGIC = b"PAR1"
SAMPLED = 65_536
"""Bytes at the start of a file that enter its identity, beside the footer."""


def inspect_parquet(path: str, wanted: Iterable[str]) -> Facts:
    """Return what a parquet file says of itself.

    Parameters
    ----------
    path : str
        Path or address.
    wanted : iterable of str
        Columns that must have no empty integers.

    Returns
    -------
    Facts
        Rows, row groups, columns, protection.

    Raises
    ------
    InputError
        If it is not a whole parquet file, an integer column has nulls, or run, luminosityBlock or
        event are no whole numbers.
    """
    if not is_remote(path):
        _check_ends(path)
    try:
        with open_parquet(path) as file:
            return _facts(path, file, tuple(wanted))
    except InputError:
        raise
    except Exception as error:
        raise cannot_be_opened(path, "a parquet file", error) from error


def _check_ends(path: str) -> None:
    expect_format(path, head(path), "stage1")
    size = local_size(path)
    assert size is not None
    with open(path, "rb") as file:
        file.seek(max(0, size - 4))
        if size < 12 or file.read(4) != MAGIC:
            raise InputError(
                f"{path}: truncated, {size} bytes without the footer of a parquet file; copy it"
                " again or leave it out"
            )


def _facts(path: str, file: pq.ParquetFile, wanted: tuple[str, ...]) -> Facts:
    metadata = file.metadata
    schema = file.schema_arrow
    columns = {field.name: Column(_kind(field.type), str(field.type)) for field in schema}
    made = stand_ins(columns)
    wanted = in_file(wanted, columns)
    for name in wanted:
        if name in columns and (name in IDENTITY or _is_whole(schema.field(name).type)):
            _check_nulls(path, file, name)
        if name in columns and name in IDENTITY and columns[name].kind == "flat":
            _check_whole(path, file, name)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    _require_equal_lengths(path, metadata, sizes)
    size, uuid, checksums = _content(path, metadata, wanted)
    return Facts(
        n_events=metadata.num_rows,
        size=size,
        uuid=uuid,
        boundaries=tuple(sorted({0, *np.cumsum(sizes).tolist()})),
        columns=columns | {n: Column("flat", f"of {', '.join(s)}") for n, s in made.items()},
        checksums=checksums,
        stand_ins=made,
        marks=of_schema(schema),
    )


def _require_equal_lengths(path: str, metadata: pq.FileMetaData, sizes: list[int]) -> None:
    """Raise InputError where the footer contradicts itself about the number of rows."""
    held = {
        metadata.row_group(i).column(j).num_values
        for i in range(metadata.num_row_groups)
        for j in range(metadata.num_columns)
        if metadata.row_group(i).column(j).num_values != sizes[i]
        and metadata.schema.column(j).max_repetition_level == 0
    }
    if sum(sizes) != metadata.num_rows or min(sizes, default=0) < 0 or held:
        raise InputError(
            f"{path}: {metadata.num_rows} rows in the footer, {sum(sizes)} in the row groups"
            f"{f', {min(held)} in a column' if held else ''}; the file is damaged, copy it again"
            " or leave it out"
        )


def _kind(kind: pa.DataType) -> str:
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return "flat" if number else "other"


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _check_nulls(path: str, file: pq.ParquetFile, name: str) -> None:
    """Raise InputError where a column of whole numbers has empty cells."""
    nulls = _nulls(file, name)
    if nulls:
        kind = file.schema_arrow.field(name).type
        raise InputError(
            f"{path}: column {name!r} ({kind}) has {nulls} empty cells (nulls), expected a number"
            " in each row; fill or drop those rows"
        )


def _check_whole(path: str, file: pq.ParquetFile, name: str) -> None:
    """Raise InputError where a number of a run, section or event is none.

    Columns of whole numbers say their least and largest in the footer; others are read, since
    footers leave out what is not a number.
    """
    groups = range(file.metadata.num_row_groups)
    if not _is_whole(file.schema_arrow.field(name).type):
        for group in groups:
            values = file.read_row_group(group, columns=[name]).column(0)
            require_whole(values.to_numpy(), name, path)
        return
    index = _leaf(file, name)
    for group in groups:
        known = file.metadata.row_group(group).column(index).statistics
        if known is not None and known.has_min_max:
            require_in_range(int(known.min), int(known.max), name, path)


def _leaf(file: pq.ParquetFile, name: str) -> int:
    leaves = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
    return leaves.index(name)


def _nulls(file: pq.ParquetFile, name: str) -> int:
    if not file.schema_arrow.field(name).nullable:
        return 0
    index, total = _leaf(file, name), 0
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_null_count:
            total += file.read_row_group(group, columns=[name]).column(0).null_count
        else:
            total += statistics.null_count
    return total


def _content(path: str, metadata: pq.FileMetaData, wanted: tuple[str, ...]) -> tuple[int, str, str]:
    """Return the size, a digest in place of a uuid, and what protects the content.

    The digest is of size, footer and first bytes: parquet has no uuid.
    """
    import fsspec

    with fsspec.open(path, "rb") as file:
        size = int(file.seek(0, 2))
        file.seek(size - 8)
        (footer,) = struct.unpack("<i", file.read(4))
        file.seek(max(0, size - 8 - footer))
        end = file.read()
        file.seek(0)
        start = file.read(SAMPLED)
        checksums = of_parquet(file, metadata, wanted) if metadata.num_rows else ""
    digest = hashlib.blake2b(b"%d:" % size, digest_size=16)
    digest.update(end)
    digest.update(start)
    return size, digest.hexdigest(), checksums
