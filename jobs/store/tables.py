"""The tables of a store. Rows are only ever added; migrations/ has their history."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from calib.errors import InputError

VERSION = "0001"
"""Newest migration: what this code reads and writes."""

OLDER: tuple[str, ...] = ()
"""Earlier ones, which `migrate` brings up to date."""

METADATA = sa.MetaData()

FACTS = sa.Table(
    "store_facts",
    METADATA,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

REVISIONS = sa.Table(
    "store_revisions",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("tag", sa.String(80), nullable=False),
    sa.Column("calibration", sa.String(80)),
    sa.Column("since", sa.BigInteger),
    sa.Column("until", sa.BigInteger),
    sa.Column("payload", sa.String(64)),
    sa.Column("size", sa.BigInteger),
    sa.Column("files", sa.String(64)),
    sa.Column("origin", sa.BigInteger),
    sa.Column("source", sa.String(80)),
    sa.Column("as_of", sa.BigInteger),
    sa.Column("frozen", sa.Boolean, nullable=False),
    sa.Column("passed", sa.Boolean),
    sa.Column("forced", sa.Boolean, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("config_hash", sa.String(64), nullable=False),
    sa.Column("code_version", sa.String(64), nullable=False),
    sa.Column("made", sa.String(40), nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Index("store_revisions_line", "tag", "calibration"),
)

_VERSIONS = sa.table("store_version", sa.column("version_num"))


def version(connection: Connection) -> str | None:
    """Return the version of the tables in a database, None where there are none."""
    if not sa.inspect(connection).has_table("store_version"):
        return None
    found: str | None = connection.execute(sa.select(_VERSIONS.c.version_num)).scalar()
    return found


def require(connection: Connection, name: str) -> None:
    """Raise InputError where the tables are not those that this code knows."""
    found = version(connection)
    if found is None:
        raise InputError(f"{name}: there is no store in it; `calib store init {name}` makes one")
    if found in OLDER:
        raise InputError(
            f"{name}: its tables are of version {found}, older than {VERSION};"
            f" `calib store init {name}` brings them up to date"
        )
    if found != VERSION:
        raise InputError(
            f"{name}: its tables are of version {found}, which this code does not know (newest"
            f" {VERSION}); use the newer dimucal that made them"
        )


def migrate(connection: Connection) -> None:
    """Make the tables, or bring them up to date."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
