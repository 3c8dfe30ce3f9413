"""The tables of a catalogue, and how one is opened: a file of SQLite, or a database by address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
)

from calib.errors import InputError
from jobs.storage.database import engine, is_address, reading, writing

VERSION = "1"
LOCK = 0x63617461
"""Of writers to one PostgreSQL database."""

metadata = sa.MetaData()

about = sa.Table(
    "catalogue", metadata, Column("key", String(40), primary_key=True), Column("value", Text)
)

samples = sa.Table(
    "catalogue_samples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("resonance", String(16), nullable=False),
    Column("format", String(16), nullable=False),
    Column("simulation", Boolean, nullable=False),
)

files = sa.Table(
    "catalogue_files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sample_id", ForeignKey("catalogue_samples.id"), nullable=False, index=True),
    Column("path", Text, nullable=False, unique=True),
    Column("uuid", String(64), nullable=False, unique=True),
    Column("checksum", String(64)),
    Column("size", BigInteger, nullable=False),
    Column("mtime", BigInteger),
    Column("total", BigInteger, nullable=False),
    Column("n_runs", Integer, nullable=False),
    Column("added", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("checked", String(32)),
)

entries = sa.Table(
    "catalogue_entries",
    metadata,
    Column("file_id", ForeignKey("catalogue_files.id", ondelete="CASCADE"), primary_key=True),
    Column("run", BigInteger, primary_key=True),
    # that of the file, here as well: a query by run and sample then needs no other table
    Column("sample_id", ForeignKey("catalogue_samples.id"), nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("sections", Text, nullable=False),
    Column("luminosity", Float),
    Column("quality", String(40), nullable=False),
)
Index(
    "catalogue_by_run",
    entries.c.run,
    entries.c.quality,
    entries.c.sample_id,
    entries.c.file_id,
    entries.c.events,
    entries.c.luminosity,
)
Index(
    "catalogue_by_sample",
    entries.c.sample_id,
    entries.c.run,
    entries.c.events,
    entries.c.luminosity,
)

luminosity = sa.Table(
    "catalogue_luminosity",
    metadata,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    # 0 stands for the whole run
    Column("section", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Float, nullable=False),
)


def engine_of(place: str, *, new: bool = False) -> Engine:
    """Return the database at a path or an address, with the tables of a catalogue.

    Parameters
    ----------
    place : str
        A file (SQLite), or ``postgresql://USER@HOST/NAME``.
    new : bool
        Whether the tables may be made.

    Returns
    -------
    Engine
        Of the database.

    Raises
    ------
    InputError
        If there is none, it is something else, or of another version.
    """
    if not is_address(place):
        _require_place(Path(place), new)
    found = engine(place)
    if not is_address(place):
        sa.event.listen(found, "connect", _on_connect)
    try:
        with writing(found, LOCK) if new else reading(found) as connection:
            _require_ours(connection, place, new)
    except InputError as error:
        if "file is not a database" in str(error):
            raise InputError(f"{place}: not the file of a catalogue; correct the path") from None
        raise
    return found


def _require_place(path: Path, new: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path}: a directory, expected the file of a catalogue; name a file")
    if not path.is_file() and not new:
        raise InputError(
            f"{path}: there is no such catalogue; `calib catalog add {path} FILES` makes one"
        )
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no directory {path.parent}; make it first")


def _on_connect(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA case_sensitive_like = ON")  # as PostgreSQL
    connection.execute("PRAGMA cache_size = -131072")  # KiB


def _require_ours(connection: Connection, place: str, new: bool) -> None:
    there = set(sa.inspect(connection).get_table_names())
    if about.name not in there and new and (is_address(place) or not there):
        metadata.create_all(connection)
        connection.execute(about.insert(), [{"key": "version", "value": VERSION}])
        return
    found = None
    if about.name in there:
        wanted = sa.select(about.c.value).where(about.c.key == "version")
        found = connection.execute(wanted).scalar_one_or_none()
    if found is None:
        raise InputError(f"{place}: a database, but not that of a catalogue; correct the path")
    if found != VERSION:
        raise InputError(
            f"{place}: a catalogue of version {found}, expected {VERSION}; use the release that"
            " made it"
        )
