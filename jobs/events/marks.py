"""The mark that a file of corrected events bears: by which payloads, and where the measured pt is.

In parquet it is metadata of the schema, in ROOT an object beside the trees; columns that end in
`MEASURED` hold what was replaced, and tell of a correction where the mark is lost.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

MARK = "dimucal_corrected"
MEASURED = "_measured"
"""End of the names of columns that hold what a payload has replaced."""

UNKNOWN = "a payload that the file no longer names"


@dataclass(frozen=True)
class Mark:
    """One correction of the events of a file.

    ``sha256`` is that of the payload file, ``calibration`` who made it; ``replaced`` are the
    columns that it has replaced, none where it only adds some; ``simulation`` says what the
    events were taken for.
    """

    payload: str
    sha256: str
    calibration: str
    simulation: bool
    replaced: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.sha256:
            return self.payload
        return f"the {self.calibration} payload {self.payload} (sha256 {self.sha256[:12]})"


Marks = tuple[Mark, ...]


def as_text(marks: Sequence[Mark]) -> str:
    """Return marks as they are written into a file."""
    return json.dumps([asdict(mark) for mark in marks])


def of_text(text: str, columns: Collection[str]) -> Marks:
    """Return the marks in a file, from its text and its columns.

    Parameters
    ----------
    text : str
        JSON, empty where the file has none.
    columns : collection of str
        Of the events.

    Returns
    -------
    tuple of Mark
        In the order of the corrections.
    """
    try:
        marks = tuple(_mark(values) for values in json.loads(text or "[]"))
    except (ValueError, TypeError, KeyError):
        marks = (Mark(UNKNOWN, "", "", False, ("pt",)),)
    kept = tuple(name for name in columns if name.endswith(MEASURED))
    if kept and not any(mark.replaced for mark in marks):
        replaced = tuple(name.removesuffix(MEASURED) for name in kept)
        marks = (*marks, Mark(UNKNOWN, "", "", False, replaced))
    return marks


def _mark(values: Mapping[str, Any]) -> Mark:
    return Mark(
        str(values["payload"]),
        str(values["sha256"]),
        str(values["calibration"]),
        bool(values["simulation"]),
        tuple(map(str, values["replaced"])),
    )


def of_schema(schema: pa.Schema) -> Marks:
    """Return the marks of a parquet file."""
    raw = (schema.metadata or {}).get(MARK.encode(), b"")
    return of_text(raw.decode("utf-8", "replace"), schema.names)


def with_marks(table: pa.Table, marks: Sequence[Mark]) -> pa.Table:
    """Return a table whose schema bears marks, beside what else is in its metadata.

    Parameters
    ----------
    table : pyarrow Table
        The events.
    marks : sequence of Mark
        In the order of the corrections.

    Returns
    -------
    pyarrow Table
        The same one without marks.
    """
    if not marks:
        return table
    known = table.schema.metadata or {}
    return table.replace_schema_metadata({**known, MARK.encode(): as_text(marks).encode()})


def of_root(file: Any, columns: Collection[str]) -> Marks:
    """Return the marks of an open ROOT file.

    Parameters
    ----------
    file : uproot file
        Open.
    columns : collection of str
        Of its events.

    Returns
    -------
    tuple of Mark
        In the order of the corrections.
    """
    return of_text(str(file[MARK]) if f"{MARK};1" in file.keys(recursive=False) else "", columns)


def kind_of(mark: Mark) -> str:
    """Return what the events were taken for."""
    return "simulation" if mark.simulation else "data"
