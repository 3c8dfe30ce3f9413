"""What became of each calibration, kept in a small database: the nightly goes on from there.

``nightly.sqlite`` lies beside the files of the store. `Progress` is all that one calibration
knows of itself; it is written after each step, and every step can be done again.
"""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Column, Engine, Integer, String, Text

from calib.documents import json_values
from calib.errors import InputError
from calib.quality.residual_test import Measured
from jobs.run.provenance import now
from jobs.storage import database, locks

FILE = "nightly.sqlite"
LOCK_FILE = "nightly.lock"
VERSION = 2
"""Version 1 has no residuals of single runs; it is brought up to date when a nightly opens it."""


class State(StrEnum):
    """Where a calibration stands.

    ``waiting``: for runs, for more of them, or for another calibration. ``testing``: the cheap
    test is going on. ``bad``: the constants in force are not good for the newest runs, and there
    is not enough for a full calibration yet. ``calibrating``: one is going on. ``gated``: it is
    done, the gate decides. ``published``: new constants are in force. ``held``: the gate, the
    verdict or a person said no; a person must look. ``not_converged``: the iteration did not end;
    so must one here. ``failed``: an error; the next start tries again.
    """

    WAITING = "waiting"
    TESTING = "testing"
    BAD = "bad"
    CALIBRATING = "calibrating"
    GATED = "gated"
    PUBLISHED = "published"
    HELD = "held"
    NOT_CONVERGED = "not_converged"
    FAILED = "failed"

    @property
    def rests(self) -> bool:
        """Whether nothing more is to be done without new runs, or a person."""
        return self not in (State.TESTING, State.CALIBRATING, State.GATED)

    @property
    def needs_person(self) -> bool:
        """Whether somebody must look."""
        return self in (State.BAD, State.HELD, State.NOT_CONVERGED, State.FAILED)

    @property
    def is_stuck(self) -> bool:
        """Whether nothing goes on without a person."""
        return self in (State.HELD, State.NOT_CONVERGED)


@dataclass(frozen=True)
class Progress:
    """What one calibration knows of itself.

    Parameters
    ----------
    calibration : str
        Its name in the configuration.
    state : State
    why : str
        One sentence: how it came to that.
    judged : int or None
        Last run of which is known that the constants in force are good.
    since : int or None
        First run for which they are known to be bad, until others are published.
    bad : int or None
        The revision that was found bad.
    measured : int or None
        The last run that was measured, though it is not judged.
    paused : str
        Where it stands in truth while later runs are measured.
    boundaries : tuple of int
        Runs at which its buckets begin in any case.
    aside : tuple of mapping
        Runs that wait for a person while later ones go on: ``first, last, state, why``.
    buckets : tuple of mapping
        Buckets of earlier nights (`calib.quality.buckets.Bucket`), which later runs do not move.
    first, last : int or None
        Runs of the step that is going on.
    tried : str
        Content of the bucket that was calibrated last.
    resume : str
        Where it was when it failed.
    seen : mapping of run to str
        Content of each judged run, so that files that come late are noticed.
    numbers : mapping
        Of the last step, for the page: residual, error, decision, moves ...
    updated : str
    """

    calibration: str
    state: State = State.WAITING
    why: str = "nothing seen yet"
    judged: int | None = None
    since: int | None = None
    bad: int | None = None
    measured: int | None = None
    paused: str = ""
    boundaries: tuple[int, ...] = ()
    aside: tuple[Mapping[str, Any], ...] = ()
    buckets: tuple[Mapping[str, Any], ...] = ()
    first: int | None = None
    last: int | None = None
    tried: str = ""
    resume: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    updated: str = ""

    @property
    def needs_person(self) -> bool:
        """Whether somebody must look, at where it stands or at runs that were put aside."""
        return self.state.needs_person or bool(self.aside)

    def to(self, state: State, why: str, **changes: Any) -> Progress:
        """Return what it knows in another state."""
        return replace(self, state=state, why=why, **changes)


metadata = sa.MetaData()

tasks = sa.Table(
    "nightly_tasks",
    metadata,
    Column("nightly", String(80), primary_key=True),
    Column("calibration", String(40), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("updated", String(32), nullable=False),
    Column("data", Text, nullable=False),
)

nights = sa.Table(
    "nightly_nights",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("nightly", String(80), nullable=False, index=True),
    Column("started", String(32), nullable=False),
    Column("ended", String(32)),
    Column("exit_code", Integer),
    Column("data", Text, nullable=False),
)

history = sa.Table(
    "nightly_history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("night", Integer, nullable=False, index=True),
    Column("nightly", String(80), nullable=False),
    Column("calibration", String(40), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("at", String(32), nullable=False),
    Column("why", Text, nullable=False),
    Column("data", Text, nullable=False),
)

residuals = sa.Table(
    "nightly_residuals",
    metadata,
    Column("nightly", String(80), primary_key=True),
    Column("calibration", String(40), primary_key=True),
    Column("payload", String(64), primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, primary_key=True),
    Column("content", String(64), nullable=False),
    Column("at", String(32), nullable=False),
    Column("data", Text, nullable=False),
)
"""What is left of each run with a payload applied, quantity by quantity."""


class States:
    """The states of one nightly, in the database beside its store."""

    def __init__(self, engine: Engine, nightly: str) -> None:
        self.engine, self.nightly = engine, nightly

    @classmethod
    def open(cls, folder: Path, nightly: str) -> States:
        """Return the states beside the files of a store, made where there are none."""
        engine = database.engine(folder / FILE)
        with database.writing(engine, 0) as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version in (0, 1):
                metadata.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise InputError(
                    f"{folder / FILE}: states of version {version}, expected {VERSION}; use the"
                    " release that made it"
                )
        return cls(engine, nightly)

    # calibrations ------------------------------------------------------------------------------
    def progress(self, calibration: str) -> Progress:
        """Return what a calibration knows, also where it has not begun."""
        with database.reading(self.engine) as connection:
            found = connection.execute(
                sa.select(tasks.c.data, tasks.c.updated).where(
                    tasks.c.nightly == self.nightly, tasks.c.calibration == calibration
                )
            ).one_or_none()
        return Progress(calibration) if found is None else _progress(found.data, found.updated)

    def keep(self, night: int, position: int, progress: Progress, told: bool = True) -> Progress:
        """Write what a calibration knows; ``told``: and a line of the history."""
        at = now()
        data = text_of(asdict(replace(progress, updated="")))
        values = {"position": position, "state": progress.state.value, "updated": at, "data": data}
        with database.writing(self.engine, 0) as connection:
            where = (tasks.c.nightly == self.nightly, tasks.c.calibration == progress.calibration)
            changed = connection.execute(sa.update(tasks).where(*where).values(**values))
            if changed.rowcount == 0:
                connection.execute(
                    sa.insert(tasks).values(
                        nightly=self.nightly, calibration=progress.calibration, **values
                    )
                )
            if told:
                connection.execute(
                    sa.insert(history).values(
                        night=night,
                        nightly=self.nightly,
                        calibration=progress.calibration,
                        state=progress.state.value,
                        at=at,
                        why=progress.why,
                        data=text_of(
                            {
                                "first": progress.first,
                                "last": progress.last,
                                "judged": progress.judged,
                                "since": progress.since,
                                "numbers": dict(progress.numbers),
                            }
                        ),
                    )
                )
        return replace(progress, updated=at)

    def told_in(self, night: int) -> list[dict[str, Any]]:
        """Return the lines of the history of one night, in order."""
        return _history(self.engine, history.c.night == night)[::-1]

    # residuals -----------------------------------------------------------------------------------
    def remember(self, calibration: str, payload: str, content: str, piece: Measured) -> None:
        """Keep what is left of a piece with a payload applied, in place of what was known of it."""
        data = {
            "names": piece.names,
            "values": piece.values.tolist(),
            "errors": piece.errors.tolist(),
            "force": piece.force.tolist(),
        }
        key = {"nightly": self.nightly, "calibration": calibration, "payload": payload}
        key |= {"first": piece.first, "last": piece.last}
        values = {"content": content, "at": now(), "data": text_of(data)}
        with database.writing(self.engine, 0) as connection:
            where = [residuals.c[name] == value for name, value in key.items()]
            connection.execute(sa.delete(residuals).where(*where))
            connection.execute(sa.insert(residuals).values(**key, **values))

    def remembered(self, calibration: str, payload: str) -> list[tuple[str, Measured]]:
        """Return the pieces that were measured with a payload, with their contents, in order."""
        with database.reading(self.engine) as connection:
            rows = connection.execute(
                sa.select(residuals)
                .where(
                    residuals.c.nightly == self.nightly,
                    residuals.c.calibration == calibration,
                    residuals.c.payload == payload,
                )
                .order_by(residuals.c.first)
            ).all()
        return [(r.content, _piece(r)) for r in rows]

    # nights ------------------------------------------------------------------------------------
    def begin(self) -> tuple[int, bool]:
        """Return the number of a new night, or of one that never ended, and whether it is one."""
        with database.writing(self.engine, 0) as connection:
            old = connection.execute(
                sa.select(nights.c.id)
                .where(nights.c.nightly == self.nightly, nights.c.ended.is_(None))
                .order_by(nights.c.id.desc())
            ).first()
            if old is not None:
                return int(old.id), True
            made = connection.execute(
                sa.insert(nights).values(
                    nightly=self.nightly,
                    started=now(),
                    data=json.dumps({"host": socket.gethostname(), "pid": os.getpid()}),
                )
            )
            return int(made.inserted_primary_key[0]), False

    def last_ended(self) -> dict[str, Any]:
        """Return what was noted of the newest night that has ended; empty before the first."""
        with database.reading(self.engine) as connection:
            row = connection.execute(
                sa.select(nights)
                .where(nights.c.nightly == self.nightly, nights.c.ended.is_not(None))
                .order_by(nights.c.id.desc())
            ).first()
        return {} if row is None else _night(row)

    def end(self, night: int, exit_code: int, data: Mapping[str, Any]) -> None:
        """Note that a night has ended."""
        with database.writing(self.engine, 0) as connection:
            connection.execute(
                sa.update(nights)
                .where(nights.c.id == night)
                .values(ended=now(), exit_code=exit_code, data=text_of(data))
            )


def _piece(row: Any) -> Measured:
    data = json_values(row.data)
    numbers = (np.array(data[k], dtype=np.float64) for k in ("values", "errors", "force"))
    return Measured(row.first, row.last, tuple(data["names"]), *numbers)


def text_of(values: Any) -> str:
    """Return JSON; numbers that are not finite are null there."""
    return json.dumps(_finite(values), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# what others read -------------------------------------------------------------------------------
def summary(folder: Path, lines: int = 30) -> list[dict[str, Any]]:
    """Return each nightly beside the files of a store, as plain values.

    ``nightly, nights`` (newest first: ``id, started, ended, exit_code`` and what was noted),
    ``calibrations`` (``name, state, why, updated`` and what each knows). Empty without any.
    """
    if not (folder / FILE).is_file():
        return []
    engine = database.engine(folder / FILE)
    try:
        with database.reading(engine) as connection:
            if connection.exec_driver_sql("PRAGMA user_version").scalar_one() not in (1, VERSION):
                return []
            own = connection.execute(sa.select(tasks).order_by(tasks.c.position)).all()
            past = connection.execute(sa.select(nights).order_by(nights.c.id.desc())).all()
    finally:
        engine.dispose()
    names = dict.fromkeys([*(n.nightly for n in reversed(past)), *(t.nightly for t in own)])
    return [
        {
            "nightly": name,
            "nights": [_night(n) for n in past if n.nightly == name][:lines],
            "calibrations": [
                {**asdict(_progress(t.data, t.updated)), "name": t.calibration}
                for t in own
                if t.nightly == name
            ],
        }
        for name in names
    ]


def told(folder: Path, nightly: str, limit: int = 2000) -> list[dict[str, Any]]:
    """Return the history of a nightly, newest first: ``night, calibration, state, at, why`` ..."""
    engine = database.engine(folder / FILE)
    try:
        return _history(engine, history.c.nightly == nightly, limit)
    finally:
        engine.dispose()


def _history(engine: Engine, where: Any, limit: int | None = None) -> list[dict[str, Any]]:
    wanted = sa.select(history).where(where).order_by(history.c.id.desc()).limit(limit)
    with database.reading(engine) as connection:
        rows = connection.execute(wanted).all()
    return [
        {
            "night": r.night,
            "calibration": r.calibration,
            "state": r.state,
            "at": r.at,
            "why": r.why,
            **json_values(r.data),
        }
        for r in rows
    ]


def _night(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "started": row.started,
        "ended": row.ended,
        "exit_code": row.exit_code,
        **json_values(row.data),
    }


def _progress(data: str, updated: str) -> Progress:
    values = json_values(data)
    values |= {
        "state": State(values["state"]),
        "boundaries": tuple(values["boundaries"]),
        "buckets": tuple(values["buckets"]),
        "aside": tuple(values.get("aside", ())),
        "updated": updated,
    }
    return Progress(**values)


# one at a time ----------------------------------------------------------------------------------
@contextmanager
def lock(folder: Path, command: str) -> Iterator[None]:
    """Hold the nightlies of a store.

    Raises
    ------
    InputError
        If another process holds them; the sentence says which.
    """
    with (
        (folder / LOCK_FILE).open("a+", encoding="utf-8") as file,
        locks.held(
            file,
            command,
            lambda who: (
                f"{folder}: a nightly is at work on this store: {who}; wait until it ends, or"
                " stop it"
            ),
        ),
    ):
        yield


def holder(folder: Path) -> str:
    """Return who is at work on the store, empty where nobody is."""
    return locks.holder(folder / LOCK_FILE)
