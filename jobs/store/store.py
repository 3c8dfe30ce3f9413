"""The store itself: what the commands, the nightly and the page stand on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from calib.documents import json_values
from calib.errors import InputError
from calib.payload.validity import Validity
from jobs.storage import database
from jobs.storage.files import RunDirectory
from jobs.store import changes, opening, rows, runs
from jobs.store import revisions as rules
from jobs.store.content import Content
from jobs.store.revisions import MAIN, Interval, Revision, Tag
from jobs.store.rows import everything

Revisions = tuple[Revision, ...]


@dataclass(frozen=True)
class Store:
    """A store that is open: ``Store.open(address)``.

    Parameters
    ----------
    address : str
        The directory, or the address of the database.
    content : Content
        Its files.
    engine : Engine
        Its database.
    """

    address: str
    content: Content
    engine: Engine

    # open --------------------------------------------------------------------------------------
    @classmethod
    def create(cls, address: str | Path, files: Path | None = None) -> Store:
        """Return a store, made where there is none, its tables brought up to date.

        Parameters
        ----------
        address : str or Path
            Directory, or address of a PostgreSQL database.
        files : Path or None
            Directory of the files, needed for a database; a directory has them inside.
        """
        opening.make(address, files)
        return cls.open(address)

    @classmethod
    def open(cls, address: str | Path) -> Store:
        """Return the store at a directory or an address of a database.

        Raises
        ------
        InputError
            If there is none, it is of another version, or its files are not where they were.
        """
        engine, folder = opening.opened(address)
        return cls(str(address), Content(folder), engine)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: connections end with each call."""

    # read --------------------------------------------------------------------------------------
    def revisions(
        self, calibration: str | None = None, tag: str | None = None, as_of: int | None = None
    ) -> Revisions:
        """Return the revisions, oldest first; those that touch a calibration, of a tag."""
        with database.reading(self.engine) as connection:
            found = everything(connection)
        return tuple(
            r
            for r in found
            if (as_of is None or r.number <= as_of)
            and (calibration is None or r.calibration in (calibration, None))
            and (tag is None or r.tag == tag)
        )

    def revision(self, number: int) -> Revision:
        """Return the revision of a number."""
        return changes.numbered(self.revisions(), number)

    def calibrations(self) -> tuple[str, ...]:
        """Return the calibrations of which something was published."""
        return changes.calibrations(self.revisions())

    def tags(self) -> tuple[Tag, ...]:
        """Return the tags, ``main`` first."""
        found = rules.tags(self.revisions())
        return tuple(sorted(found.values(), key=lambda t: (t.name != MAIN, t.name)))

    def intervals(
        self, calibration: str | None = None, tag: str = MAIN, as_of: int | None = None
    ) -> tuple[Interval, ...]:
        """Return what holds for which runs, in order of the runs.

        Parameters
        ----------
        calibration : str or None
            None: the only one in the store.
        tag : str
        as_of : int or None
            As it was when this revision was the newest; None: now.
        """
        found = self.revisions()
        changes.require_tag(found, tag)
        if as_of is not None:
            changes.numbered(found, as_of)
        return rules.intervals(found, changes.chosen(found, calibration), tag, as_of)

    def interval(
        self, run: int, calibration: str | None = None, tag: str = MAIN, as_of: int | None = None
    ) -> Interval:
        """Return the interval in which a run is.

        Raises
        ------
        InputError
            If it is in none: no constants hold for it.
        """
        found = self.intervals(calibration, tag, as_of)
        for interval in found:
            if interval.validity.contains(run):
                return interval
        raise InputError(
            f"run {run}: no constants in tag {tag!r} of {self.address}; there are some for runs"
            f" {', '.join(str(i.validity) for i in found[-5:]) or 'none'}"
        )

    def at(
        self, run: int, calibration: str | None = None, tag: str = MAIN, as_of: int | None = None
    ) -> Revision:
        """Return the publication whose payload holds for a run."""
        return self.interval(run, calibration, tag, as_of).revision

    def payload(self, revision: Revision) -> bytes:
        """Return the payload of a revision, the same to the byte; its checksum is verified."""
        return self.content.payload(changes.published(revision, revision.payload))

    def document(self, revision: Revision) -> dict[str, Any]:
        """Return the payload of a revision as plain values."""
        found: dict[str, Any] = json_values(self.payload(revision).decode("utf-8"))
        return found

    def files(self, revision: Revision) -> Mapping[str, Mapping[str, Any]]:
        """Return the files kept of the run of a revision, ``{name: {sha256, size}}``."""
        return self.content.listed(changes.published(revision, revision.files))

    def file(self, revision: Revision, name: str) -> bytes:
        """Return a file kept of the run of a revision (``report.html``), checksum verified."""
        return self.content.file(changes.published(revision, revision.files), name)

    def by_run(
        self, calibration: str | None = None, tag: str = MAIN, as_of: int | None = None
    ) -> dict[str, Any]:
        """Return one correctionlib document for all runs, with ``run`` as the first input."""
        from calib.payload.by_run import joined

        found = self.intervals(calibration, tag, as_of)
        if not found:
            raise InputError(f"{self.address}: tag {tag!r} holds nothing; publish something first")
        return joined([(i.validity, self.document(i.revision)) for i in found])

    # write -------------------------------------------------------------------------------------
    def publish(
        self,
        directory: Path,
        calibration: str | None,
        since: int,
        until: int | None = None,
        tag: str = MAIN,
        *,
        force: bool = False,
        why: str = "",
        replace: bool = False,
    ) -> Revision:
        """Return the revision under which the payload of a finished run is published.

        An open interval that began earlier ends where a later open one begins. Any other
        overlap is refused, unless ``replace`` says that the new payload takes over its runs.
        The same payload for the same runs again is the revision that is there.

        Parameters
        ----------
        directory : Path
            Of a finished run.
        calibration : str or None
            Which one it must be; None: the one of the run.
        since, until : int, int or None
            First and last run; None: open.
        tag : str
        force : bool
            Publish although the verdict is not passed; ``why`` is then needed, and stays.
        why : str
        replace : bool

        Raises
        ------
        NotPublishable
            If the verdict is not passed.
        InputError
            If the run is not finished, the tag unknown or frozen, or runs overlap.
        """
        validity = Validity(since, until)
        why = changes.reason(why)
        if force and not why:
            raise InputError("option --why is missing: --force needs a reason, which stays")
        with RunDirectory(directory).reading():
            run = runs.finished(directory, calibration)  # as it stays meanwhile
            changes.require_publishable(run, force)
            with self.content.staging(directory) as staged:
                runs.require_payload_of(run, staged.document)
                with self.writing() as (connection, found):
                    wanted = changes.Publication(run, staged, validity, tag, why, replace)
                    there = changes.already(found, wanted)
                    if there is None:
                        changes.require_same_origin(found, wanted, self.document)
                        self.content.take_in(staged)
                        there = changes.publish(connection, found, wanted)
        return there

    def extend(self, revision: int, until: int | None, why: str = "") -> Revision:
        """Return the revision by which an interval of validity is prolonged.

        Parameters
        ----------
        revision : int
            The publication (or an extension of it) that goes on to hold.
        until : int or None
            The new last run; None: open.
        why : str
        """
        with self.writing() as (connection, found):
            return changes.extend(connection, found, revision, until, changes.reason(why))

    def again(
        self, revision: int, since: int, until: int | None, tag: str = MAIN, why: str = ""
    ) -> Revision:
        """Return the revision by which what an earlier one has published holds for other runs.

        Parameters
        ----------
        revision : int
            The publication whose payload is taken, with what was kept of its run.
        since, until : int, int or None
            First and last run; None: open.
        tag, why : str
        """
        with self.writing() as (connection, found):
            validity, text = Validity(since, until), changes.reason(why)
            return changes.again(connection, found, revision, validity, tag, text)

    def rollback(
        self, to: int, calibration: str | None = None, tag: str = MAIN, why: str = ""
    ) -> Revision:
        """Return the revision by which a tag says again what it said as of another one.

        Parameters
        ----------
        to : int
            The revision whose state is taken back; 0: nothing published yet.
        calibration : str or None
            None: the only one in the store.
        tag, why : str
        """
        with self.writing() as (connection, found):
            return changes.rollback(connection, found, to, calibration, tag, changes.reason(why))

    def tag(
        self,
        name: str,
        *,
        of: str | None = MAIN,
        as_of: int | None = None,
        frozen: bool = False,
        why: str = "",
    ) -> Tag:
        """Return a tag: new, or one that was open and is frozen now.

        Parameters
        ----------
        name : str
        of, as_of : str, int or None
            A new one takes the state of this tag, as of a revision; None: it is empty.
        frozen : bool
            Whether nothing may come into it any more.
        why : str
        """
        with self.writing() as (connection, found):
            made = changes.tag(connection, found, name, of, as_of, frozen, changes.reason(why))
            return rules.tags((*found, made))[name]

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, Revisions]]:
        """Yield the connection of the only writer, and all revisions of that moment."""
        with database.writing(self.engine, opening.LOCK) as connection:
            yield connection, everything(connection)

    # care --------------------------------------------------------------------------------------
    def problems(self) -> list[str]:
        """Return a sentence for each row or file that is gone or not what was published."""
        with database.reading(self.engine) as connection:
            found = rows.problems(connection)
        return found + self.content.problems(*_named(self.revisions()))

    def sweep(self) -> list[str]:
        """Remove what killed publishers have left; return the names."""
        self.content.sweep_incoming()
        with self.writing() as (_, found):  # nobody publishes meanwhile
            orphans = self.content.orphans(*_named(found))
            for path in orphans:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return [str(path) for path in orphans]


def _named(found: Revisions) -> tuple[set[str], set[str]]:
    return {r.payload for r in found if r.payload}, {r.files for r in found if r.files}
