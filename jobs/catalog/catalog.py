"""The catalogue as the commands use it: add files, keep luminosities, ask, mark, check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from calib.digests import digest
from calib.errors import InputError
from calib.quality.buckets import RunLuminosity
from calib.schema import Sample
from jobs.catalog import luminosities, tables
from jobs.catalog.language import Condition, condition
from jobs.catalog.looking import SeenFile, look_at, look_at_all
from jobs.catalog.luminosities import batches
from jobs.events.addresses import expand, is_remote
from jobs.run import provenance
from jobs.storage.database import reading, writing

if TYPE_CHECKING:
    from jobs.progress import Progress

PRESENT = "present"


@dataclass(frozen=True)
class Added:
    """What became of the files that were to be added; ``problems`` are sentences."""

    added: int
    replaced: int
    there: int
    events: int
    runs: tuple[int, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Totals:
    """How much a query matches; ``luminosity`` is the sum over files, None where not all know."""

    files: int
    runs: int
    events: int
    luminosity: float | None
    first: int | None
    last: int | None


class Catalog:
    """A catalogue of files.

    Parameters
    ----------
    engine : Engine
    place : str
        Its path or address.
    """

    def __init__(self, engine: Engine, place: str) -> None:
        self.engine, self.place = engine, place

    @classmethod
    def open(cls, place: str, *, new: bool = False) -> Catalog:
        """Return the catalogue at a path or address.

        Parameters
        ----------
        place : str
            Path or address.
        new : bool
            Whether it is made where there is none.

        Returns
        -------
        Catalog
            Open.

        Raises
        ------
        InputError
            If there is none, it is something else, or of another version.
        """
        return cls(tables.engine_of(place, new=new), place)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # files ---------------------------------------------------------------------------------------
    def add(
        self,
        sample: Sample,
        *,
        quality: str = "unknown",
        luminosity: float | None = None,
        checksum: bool = True,
        update: bool = False,
        workers: int = 1,
        progress: Progress = lambda text, done, total: None,
    ) -> Added:
        """Add the files of a sample; those that are there and have not changed are passed over.

        Parameters
        ----------
        sample : Sample
            ``files`` are globs, directories or addresses.
        quality : str
            Of the new entries.
        luminosity : float, optional
            fb^-1 of all the new files together, shared out by their events.
        checksum : bool
            Whether local files are read whole for a checksum.
        update : bool
            Whether a file that changed or moved replaces its entry.
        workers : int
            Processes that look at files.
        progress : callable
            Told how far it is.

        Returns
        -------
        Added
            What became of the files.

        Raises
        ------
        InputError
            If there are no such files, or the catalogue has the sample with another format.
        """
        from pathlib import Path

        paths = expand(sample, Path.cwd())
        with writing(self.engine, tables.LOCK) as connection:
            sample_id = _sample_id(connection, sample)
        todo = list(self.unknown(list(dict.fromkeys(paths))))
        look = partial(look_at, format=sample.format, checksum=checksum)
        done, added, replaced = len(paths) - len(todo), 0, 0
        there = done
        rows: list[tuple[int, int, int]] = []
        problems: list[str] = []
        progress("look", done, len(paths))
        for batch in look_at_all(todo, [look] * len(todo), workers):
            with writing(self.engine, tables.LOCK) as connection:
                for seen in batch:
                    sentence, old = _objection(connection, seen, update)
                    if sentence:
                        problems.append(f"{seen.path}: {sentence}")
                        continue
                    file_id = _enter(connection, seen, sample_id, quality, old)
                    added, replaced = added + (old is None), replaced + (old is not None)
                    rows += [(file_id, part.run, part.events) for part in seen.runs]
                luminosities.share_out(connection, [r for s in batch for r in _runs(s)])
            done += len(batch)
            progress("look", done, len(paths))
        if luminosity is not None and rows:
            with writing(self.engine, tables.LOCK) as connection:
                _share_evenly(connection, rows, luminosity)
        runs = tuple(sorted({run for _, run, _ in rows}))
        events = sum(n for _, _, n in rows)
        return Added(added, replaced, there, events, runs, tuple(problems))

    def unknown(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield the paths that are not there as they are on disk."""
        import os

        f = tables.files.c
        for some in batches(list(paths)):
            with reading(self.engine) as connection:
                rows = connection.execute(
                    sa.select(f.path, f.size, f.mtime).where(f.path.in_(some), f.state == PRESENT)
                ).all()
            known = {row.path: (row.size, row.mtime) for row in rows}
            for path in some:
                if path not in known:
                    yield path
                elif not is_remote(path):
                    found = os.stat(path)
                    if (found.st_size, found.st_mtime_ns) != known[path]:
                        yield path

    def keep_luminosities(self, table: luminosities.Table) -> None:
        """Put a table of luminosities in; files that are there or come later get their share."""
        with writing(self.engine, tables.LOCK) as connection:
            luminosities.keep(connection, table)

    def mark(self, query: str, quality: str) -> int:
        """Give the entries that a query matches a quality; return how many there are.

        Parameters
        ----------
        query : str
            As of `jobs.catalog.language`.
        quality : str
            The new one.

        Returns
        -------
        int
            Entries.
        """
        asked = condition(query)
        e = tables.entries.c
        chosen = chosen_from(asked, [e.file_id, e.run]).subquery()
        statement = (
            sa.update(tables.entries)
            .where(sa.tuple_(e.file_id, e.run).in_(sa.select(chosen.c.file_id, chosen.c.run)))
            .values(quality=quality)
        )
        with writing(self.engine, tables.LOCK) as connection:
            return int(connection.execute(statement).rowcount)

    # questions -----------------------------------------------------------------------------------
    def samples(self) -> list[dict[str, Any]]:
        """Return each sample with its files, runs, events and luminosity."""
        e, f, s = tables.entries.c, tables.files.c, tables.samples.c
        with reading(self.engine) as connection:
            counted = sa.select(f.sample_id, sa.func.count()).group_by(f.sample_id)
            n_files = {row[0]: row[1] for row in connection.execute(counted)}
            sums = {
                row.sample_id: row
                for row in connection.execute(
                    sa.select(
                        e.sample_id,
                        sa.func.count(e.run.distinct()).label("runs"),
                        sa.func.sum(e.events).label("events"),
                        *_luminosity(),
                        sa.func.min(e.run).label("first"),
                        sa.func.max(e.run).label("last"),
                    ).group_by(e.sample_id)
                )
            }
            rows = connection.execute(sa.select(tables.samples).order_by(s.name)).all()
        found = []
        for row in rows:
            total = _totals(n_files.get(row.id, 0), sums.get(row.id))
            found.append(
                {
                    "sample": row.name,
                    "format": row.format,
                    "resonance": row.resonance,
                    "simulation": row.simulation,
                    **vars(total),
                }
            )
        return found

    def totals(self, query: str) -> Totals:
        """Return how much a query matches."""
        e = tables.entries.c
        columns = [
            sa.func.count(e.file_id.distinct()).label("files"),
            sa.func.count(e.run.distinct()).label("runs"),
            sa.func.sum(e.events).label("events"),
            *_luminosity(),
            sa.func.min(e.run).label("first"),
            sa.func.max(e.run).label("last"),
        ]
        with reading(self.engine) as connection:
            row = connection.execute(chosen_from(condition(query), columns)).one()
        return _totals(row.files, row)

    def entries(self, query: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Return what a query matches, a row for each run of each file, by run and path.

        Parameters
        ----------
        query : str
            As of `jobs.catalog.language`.
        limit : int, optional
            Rows at most.

        Returns
        -------
        list of dict
            Luminosities in fb^-1.
        """
        e, f, s = tables.entries.c, tables.files.c, tables.samples.c
        columns = [
            f.path,
            e.run,
            e.events,
            e.luminosity,
            e.quality,
            s.name.label("sample"),
            s.format,
            s.resonance,
            s.simulation,
            f.size,
            f.checksum,
            f.uuid,
            f.added,
            f.state,
            f.n_runs,
        ]
        statement = chosen_from(replace(condition(query), needs_files=True), columns)
        statement = statement.order_by(e.run, e.file_id).limit(limit)
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def runs(self, query: str) -> tuple[RunLuminosity, ...]:
        """Return the runs that a query matches, as `calib.quality.buckets` wants them.

        The luminosity of a run is that of the sample that has most of it: samples of several
        resonances come from the same collisions. ``content`` changes with the files.

        Raises
        ------
        InputError
            If the luminosity of a run is not known.
        """
        e, f = tables.entries.c, tables.files.c
        columns = [e.run, e.sample_id, e.events, e.luminosity, f.uuid]
        statement = chosen_from(replace(condition(query), needs_files=True), columns)
        by_run: dict[int, dict[int, list[Any]]] = {}
        with reading(self.engine) as connection:
            for row in connection.execute(statement.order_by(e.run, f.uuid)):
                if row.luminosity is None:
                    raise InputError(
                        f"{self.place}: run {row.run}: its luminosity is not known; give it by"
                        f" `calib catalog add {self.place} --luminosity-table FILE`"
                    )
                by_run.setdefault(row.run, {}).setdefault(row.sample_id, []).append(row)
        return tuple(
            RunLuminosity(
                run,
                max(sum(row.luminosity for row in rows) for rows in own.values()),
                digest(sorted((row.uuid, row.events) for rows in own.values() for row in rows)),
            )
            for run, own in by_run.items()
        )


# one file ----------------------------------------------------------------------------------------
def _sample_id(connection: Connection, sample: Sample) -> int:
    s = tables.samples.c
    row = connection.execute(sa.select(tables.samples).where(s.name == sample.name)).one_or_none()
    mine = {k: getattr(sample, k) for k in ("resonance", "format", "simulation")}
    if row is None:
        made = connection.execute(tables.samples.insert().values(name=sample.name, **mine))
        return int(made.inserted_primary_key[0])
    for key, value in mine.items():
        if getattr(row, key) != value:
            raise InputError(
                f"sample {sample.name!r}: {key} is {getattr(row, key)} in the catalogue, found"
                f" {value}; give the new files another --sample"
            )
    return int(row.id)


def _objection(connection: Connection, seen: SeenFile, update: bool) -> tuple[str, Any]:
    """Return why a file is not added, empty where it is, and the entry that it replaces."""
    import os

    f = tables.files.c
    if seen.error:
        return seen.error, None
    old = connection.execute(sa.select(tables.files).where(f.path == seen.path)).one_or_none()
    same = connection.execute(sa.select(tables.files).where(f.uuid == seen.uuid)).one_or_none()
    if same is None and seen.checksum:
        same = connection.execute(
            sa.select(tables.files).where(f.checksum == seen.checksum).limit(1)
        ).first()
    if same is not None and same.path != seen.path:
        gone = not is_remote(same.path) and not os.path.exists(same.path)
        if gone and update and old is None:
            return "", same
        moved = ", which is no longer there; --update enters it under its new name" if gone else ""
        return f"the same content as {same.path}{moved}", None
    if old is not None and old.uuid != seen.uuid and not update:
        return "changed since it was added; --update replaces its entry", None
    return "", old


def _enter(connection: Connection, seen: SeenFile, sample_id: int, quality: str, old: Any) -> int:
    """Write a file and its runs; qualities and luminosities of the entry it replaces stay."""
    e, f = tables.entries.c, tables.files.c
    values = {
        "sample_id": sample_id,
        "path": seen.path,
        "uuid": seen.uuid,
        "checksum": seen.checksum,
        "size": seen.size,
        "mtime": seen.mtime,
        "total": seen.events,
        "n_runs": len(seen.runs),
        "added": provenance.now(),
        "state": PRESENT,
        "checked": None,
    }
    before: dict[int, Any] = {}
    if old is None:
        made = connection.execute(tables.files.insert().values(**values))
        file_id = int(made.inserted_primary_key[0])
    else:
        file_id = int(old.id)
        rows = connection.execute(sa.select(tables.entries).where(e.file_id == file_id))
        before = {row.run: row for row in rows}
        connection.execute(sa.delete(tables.entries).where(e.file_id == file_id))
        connection.execute(sa.update(tables.files).where(f.id == file_id).values(**values))
    connection.execute(
        tables.entries.insert(),
        [
            {
                "file_id": file_id,
                "run": part.run,
                "sample_id": sample_id,
                "events": part.events,
                "sections": part.sections,
                "luminosity": before[part.run].luminosity if part.run in before else None,
                "quality": before[part.run].quality if part.run in before else quality,
            }
            for part in seen.runs
        ],
    )
    return file_id


def _runs(seen: SeenFile) -> Iterator[int]:
    yield from (part.run for part in seen.runs)


def _share_evenly(
    connection: Connection, rows: Sequence[tuple[int, int, int]], luminosity: float
) -> None:
    e = tables.entries.c
    total = sum(n for _, _, n in rows)
    connection.execute(
        sa.update(tables.entries)
        .where(e.file_id == sa.bindparam("f"), e.run == sa.bindparam("r"))
        .values(luminosity=sa.bindparam("v")),
        [{"f": f, "r": r, "v": luminosity * n / total} for f, r, n in rows],
    )


# questions ---------------------------------------------------------------------------------------
def chosen_from(asked: Condition, columns: Iterable[Any]) -> sa.Select[Any]:
    """Return a selection of entries, with the tables that it needs.

    Parameters
    ----------
    asked : Condition
        Of a query.
    columns : iterable of columns
        What is selected.

    Returns
    -------
    Select
        Not executed.
    """
    e, f, s = tables.entries, tables.files, tables.samples
    source: Any = e.join(s, s.c.id == e.c.sample_id)
    if asked.needs_files:
        source = source.join(f, f.c.id == e.c.file_id)
    return sa.select(*columns).select_from(source).where(asked.clause)


def _luminosity() -> tuple[Any, Any]:
    e = tables.entries.c
    known = sa.func.count(e.luminosity).label("known")
    return sa.func.sum(e.luminosity).label("luminosity"), (sa.func.count() - known).label("unknown")


def _totals(n_files: int, row: Any) -> Totals:
    if row is None or row.events is None:
        return Totals(n_files, 0, 0, None, None, None)
    luminosity = None if row.unknown else float(row.luminosity)
    return Totals(n_files, row.runs, int(row.events), luminosity, row.first, row.last)
