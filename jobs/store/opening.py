"""Where a store is: a directory, or a database with a directory for the files."""

from __future__ import annotations

import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from calib.documents import json_values
from calib.errors import InputError
from jobs.storage import database
from jobs.storage.files import STORE, write_json
from jobs.store import tables

MARK = "store.json"
"""In the directory of the files of a database: which store they belong to."""

LOCK = 0x64696D75
"""Number of PostgreSQL's advisory lock: one writer a database."""


def make(address: str | Path, files: Path | None) -> None:
    """Make a store where there is none, and bring its tables up to date."""
    remote = database.is_address(address)
    if not remote and files is not None:
        raise InputError("option --files: a directory has its files inside; leave it out")
    engine = database.engine(address if remote else _made(Path(address)) / STORE)
    with database.writing(engine, LOCK) as connection:
        there = tables.version(connection)
        if there not in (None, *tables.OLDER):
            tables.require(connection, str(address))
            return
        if there is None and remote and files is None:
            raise InputError(
                f"option --files is missing: {address} needs a directory for payloads and reports"
            )
        tables.migrate(connection)
        if there is None:
            _introduce(connection, None if files is None else files.resolve())


def opened(address: str | Path) -> tuple[Engine, Path]:
    """Return the database and the directory of the files of a store.

    Raises
    ------
    InputError
        If there is none, it is of another version, or its files are not where they were.
    """
    remote = database.is_address(address)
    place = address if remote else Path(address) / STORE
    if not remote and not Path(place).is_file():
        raise InputError(
            f"{address}: there is no store; `calib publish` and `calib store init` make one"
        )
    engine = database.engine(place)
    with database.reading(engine) as connection:
        tables.require(connection, str(address))
        named = tables.FACTS.c.name.in_(("id", "files"))
        rows = connection.execute(sa.select(tables.FACTS.c.name, tables.FACTS.c.value).where(named))
        facts = {row.name: row.value for row in rows}
    if not remote:
        return engine, Path(address)
    folder = Path(facts["files"])
    if _mark(folder) != facts["id"]:
        raise InputError(
            f"{address}: its files are to be in {folder}, but they are not; mount or restore it"
        )
    return engine, folder


def _made(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file, expected a directory for the store")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {p.name for p in folder.iterdir()}
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another") from None
    if names and STORE not in names:
        raise InputError(
            f"{folder}: has files in it but no {STORE}, so it is no store; choose another directory"
        )
    return folder


def _introduce(connection: Connection, files: Path | None) -> None:
    """Say which store this is."""
    from jobs.run.provenance import now  # slow to load, and not needed to read

    facts = {"id": uuid.uuid4().hex, "made": now(), "files": "" if files is None else str(files)}
    if files is not None:
        if any((files / name).exists() for name in ("payloads", "runs")):
            raise InputError(
                f"option --files: {files} holds the files of another store; choose an empty one"
            )
        write_json(files / MARK, {"id": facts["id"]})
    rows = [{"name": name, "value": value} for name, value in facts.items()]
    connection.execute(sa.insert(tables.FACTS), rows)


def _mark(folder: Path) -> str | None:
    try:
        found = json_values((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("id") if isinstance(found, dict) else None
