"""Revisions in the database: read all of them, add one. There is nothing else to do with them.

With each the store keeps, as a fact ``chain.N``, a digest of its row and of that of the one before
it: a row that was lost, exchanged or altered is found by `problems`. Older rows have none.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.store.revisions import Revision
from jobs.store.tables import FACTS, REVISIONS

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
    """Return all revisions, oldest first."""
    query = sa.select(REVISIONS).order_by(REVISIONS.c.number)
    return tuple(Revision(**row) for row in connection.execute(query).mappings())


def append(connection: Connection, found: tuple[Revision, ...], **values: Any) -> Revision:
    """Add a revision after all others, the only writer being us; return it."""
    from jobs.run.provenance import now  # slow to load, and not needed to read

    own = {"number": next_number(found), "made": now(), "by": who()}
    revision = Revision(**(_DEFAULTS | values | own))
    connection.execute(sa.insert(REVISIONS).values(**revision.as_dict()))
    before = _chain(connection, found[-1].number) if found else ""
    if before is None:  # the first one after rows without digests
        before = ""
        for one in found:
            before = _link(before, one)
    fact = {"name": f"{CHAIN}{revision.number}", "value": _link(before, revision)}
    connection.execute(sa.insert(FACTS).values(**fact))
    return revision


def next_number(found: tuple[Revision, ...]) -> int:
    """Return the number of the next revision."""
    return found[-1].number + 1 if found else 1


CHAIN = "chain."


def _link(before: str, revision: Revision) -> str:
    row = json.dumps(revision.as_dict(), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{before}\n{row}".encode("utf-8", "surrogatepass")).hexdigest()


def _chain(connection: Connection, number: int) -> str | None:
    query = sa.select(FACTS.c.value).where(FACTS.c.name == f"{CHAIN}{number}")
    found: str | None = connection.execute(query).scalar()
    return found


def problems(connection: Connection) -> list[str]:
    """Return a sentence for each row that is lost, or not what was written."""
    rows = connection.execute(
        sa.select(FACTS.c.name, FACTS.c.value).where(FACTS.c.name.like(f"{CHAIN}%"))
    )
    kept = {int(r.name.removeprefix(CHAIN)): r.value for r in rows}
    by_number = {r.number: r for r in everything(connection)}
    found, before = [], ""
    for number in range(1, max([0, *kept, *by_number]) + 1):
        if number not in by_number:
            found.append(f"revision {number}: its row is lost; restore the database from a copy")
            before = kept.get(number, before)
            continue
        link = _link(before, by_number[number])
        if kept.get(number, link) != link and number - 1 in {0, *by_number}:
            found.append(
                f"revision {number}: its row is not what was written (its digest differs); restore"
                " the database from a copy"
            )
        before = kept.get(number, link)
    return found


def who() -> str:
    """Return who we are, as far as the system knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this user: a container
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]
