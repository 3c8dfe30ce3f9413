"""Revisions in the database: read all of them, add one. There is nothing else to do with them."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.store.revisions import Revision
from jobs.store.tables import REVISIONS

_DEFAULTS: dict[str, Any] = {
    "calibration": None,
    "since": None,
    "until": None,
    "payload": None,
    "size": None,
    "files": None,
    "origin": None,
    "source": None,
    "as_of": None,
    "frozen": False,
    "passed": None,
    "forced": False,
    "why": "",
    "name": "",
    "config_hash": "",
    "code_version": "",
}


def everything(connection: Connection) -> tuple[Revision, ...]:
    """Return all revisions, oldest first: revision N is at place N - 1."""
    query = sa.select(REVISIONS).order_by(REVISIONS.c.number)
    return tuple(Revision(**row) for row in connection.execute(query).mappings())


def append(connection: Connection, found: tuple[Revision, ...], **values: Any) -> Revision:
    """Add a revision after all others, the only writer being us; return it."""
    from jobs.run.provenance import now  # slow to load, and not needed to read

    own = {"number": len(found) + 1, "made": now(), "by": who()}
    revision = Revision(**(_DEFAULTS | values | own))
    connection.execute(sa.insert(REVISIONS).values(**revision.as_dict()))
    return revision


def who() -> str:
    """Return who we are, as far as the system knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this user: a container
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]
