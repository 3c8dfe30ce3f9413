"""Databases: an SQLite file, or PostgreSQL by address; writers wait for each other.

An address never holds a password: libpq finds it in the environment (``PGPASSWORD``,
``PGPASSFILE``) or in ``~/.pgpass``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy import exc as errors
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from calib.errors import CalibError, InputError, Unreachable
from calib.schema import refuse_secrets

WAIT_S = 60
"""Seconds that a writer waits for another one."""

IMMEDIATE = "dimucal_immediate"


def is_address(place: str | Path) -> bool:
    """Return whether this is the address of a database server, not a path."""
    return "://" in str(place)


def url(address: str) -> URL:
    """Return the address of a PostgreSQL database as SQLAlchemy takes it.

    Raises
    ------
    InputError
        If it is not one, or has a password in it.
    """
    try:
        refuse_secrets(address)
    except ValueError as error:
        raise InputError(f"database address: {error}") from None
    try:
        found = make_url(address)
    except (errors.ArgumentError, ValueError):
        raise InputError(
            f"database address: found {address!r}, expected postgresql://USER@HOST/NAME"
        ) from None
    if found.password is not None or "password" in found.query:
        raise InputError(
            "database address: it has a password in it, which logs would show; leave it out and"
            " give it in PGPASSWORD or ~/.pgpass"
        )
    if found.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise InputError(
            f"database address: found {found.drivername}://, expected postgresql://USER@HOST/NAME;"
            " for SQLite give the path alone"
        )
    return found.set(drivername="postgresql+psycopg")


def engine(place: str | Path) -> Engine:
    """Return the engine of an SQLite file (a path) or a PostgreSQL database (an address).

    Connections are not kept: none is shared with a forked process, none is dead when it is used.
    """
    if not is_address(place):
        made = create_engine(
            URL.create("sqlite", database=str(place)),
            connect_args={"timeout": WAIT_S},
            poolclass=NullPool,
        )
        event.listen(made, "connect", _sqlite_connected)
        event.listen(made, "begin", _sqlite_begins)
        return made
    try:
        return create_engine(
            url(str(place)), connect_args={"connect_timeout": 10}, poolclass=NullPool
        )
    except ModuleNotFoundError:
        raise InputError(
            "database address: PostgreSQL needs psycopg; pip install 'dimucal[postgresql]'"
        ) from None


def _sqlite_connected(connection: Any, record: Any) -> None:
    # the driver would begin a transaction only at the first write: too late for a decision
    # that was made on what had been read
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def _sqlite_begins(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def reading(bound: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that sees one state of the database."""
    with told(bound), bound.connect() as connection:
        if bound.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(bound: Engine, lock: int) -> Iterator[Connection]:
    """Yield a connection in a transaction that is the only writer; others wait for it.

    Parameters
    ----------
    bound : Engine
        Of the database.
    lock : int
        Number of PostgreSQL's advisory lock; SQLite locks the file.

    Yields
    ------
    Connection
        Committed at the end.
    """
    with told(bound), bound.connect() as connection:
        connection = connection.execution_options(**{IMMEDIATE: True})
        with connection.begin():
            if bound.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_S}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
            yield connection


@contextmanager
def told(bound: Engine) -> Iterator[None]:
    """Turn what a driver complains of into one sentence."""
    try:
        yield
    except errors.DBAPIError as error:
        reason = " ".join(str(error.orig).split())[:200]
        name = shown(bound)
        busy = "locked" in reason or "lock timeout" in reason
        if busy:
            raise CalibError(
                f"{name}: another writer has held it for more than {WAIT_S} s; try again"
            ) from None
        if "is full" in reason or "No space left" in reason:
            raise CalibError(f"{name}: no space left ({reason}); nothing was written") from None
        if error.connection_invalidated:
            raise CalibError(f"{name}: the connection was lost ({reason}); try again") from None
        if bound.dialect.name == "postgresql" and _cannot_be_reached(reason):
            raise Unreachable(f"{name}: cannot be reached ({reason}); try again") from None
        if isinstance(error, errors.OperationalError) or "not a database" in reason:
            raise InputError(
                f"{name}: cannot be used ({reason}); expected a database that can be reached,"
                " with its password in PGPASSWORD or ~/.pgpass"
                if bound.dialect.name == "postgresql"
                else f"{name}: cannot be used ({reason}); check the file and its permissions"
            ) from None
        raise CalibError(f"{name}: the database refuses ({reason})") from None


def _cannot_be_reached(reason: str) -> bool:
    """Return whether a driver complains of the way to a server, not of what was asked of it."""
    words = ("refused", "timeout", "timed out", "unreachable", "starting up", "shutting down")
    words += ("server closed", "No route to host", "too many clients", "No such file")
    return any(word in reason for word in words)


def shown(bound: Engine) -> str:
    """Return the name of a database for people: without its driver."""
    if bound.dialect.name == "sqlite":
        return str(bound.url.database)
    return bound.url.set(drivername="postgresql").render_as_string(hide_password=True)
