"""Whether the files of a catalogue still are what they were: size, checksum, readability."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from calib.errors import InputError
from jobs.catalog import tables
from jobs.catalog.catalog import PRESENT, Catalog, chosen_from
from jobs.catalog.language import condition
from jobs.catalog.looking import SeenFile, content_of, look_at, look_at_all
from jobs.events.addresses import is_remote
from jobs.run import provenance
from jobs.storage.database import reading, writing

if TYPE_CHECKING:
    from jobs.progress import Progress

CHANGED, VANISHED, UNREADABLE = "changed", "vanished", "unreadable"


@dataclass(frozen=True)
class Known:
    """What the catalogue knows of a file."""

    path: str
    format: str
    uuid: str
    size: int
    checksum: str | None


@dataclass(frozen=True)
class FileVerdict:
    """What became of a file; ``text`` says how it differs."""

    path: str
    state: str
    text: str = ""


def check(
    catalog: Catalog,
    query: str = "",
    *,
    quick: bool = False,
    workers: int = 1,
    progress: Progress = lambda text, done, total: None,
) -> tuple[int, list[FileVerdict]]:
    """Look at the files again; return how many there are, and those that are not as they were.

    Parameters
    ----------
    catalog : Catalog
    query : str
        Which files; all, if empty.
    quick : bool
        Whether files are opened only, and not read whole for their checksum.
    workers : int
        Processes that look at files.
    progress : callable
        Told how far it is.

    Returns
    -------
    int
        Files that were looked at.
    list of FileVerdict
        Those that are not as they were, by path.
    """
    known = _known(catalog, query)
    paths = [k.path for k in known]
    looks = [partial(look_again, known=k, quick=quick, format=k.format) for k in known]
    done, wrong = 0, []
    progress("check", 0, len(paths))
    for batch in look_at_all(paths, looks, workers):
        found = [_verdict(seen) for seen in batch]
        _note(catalog, found)
        wrong += [v for v in found if v.state != PRESENT]
        done += len(batch)
        progress("check", done, len(paths))
    return len(paths), sorted(wrong, key=lambda v: v.path)


def _known(catalog: Catalog, query: str) -> list[Known]:
    f, s = tables.files.c, tables.samples.c
    columns = [f.path, s.format, f.uuid, f.size, f.checksum]
    if query:
        asked = replace(condition(query), needs_files=True)
        statement: Any = chosen_from(asked, columns).distinct()
    else:
        both = tables.files.join(tables.samples, s.id == f.sample_id)
        statement = sa.select(*columns).select_from(both)
    with reading(catalog.engine) as connection:
        return [Known(*row) for row in connection.execute(statement.order_by(f.path))]


def look_again(path: str, *, known: Known, quick: bool, format: str) -> SeenFile:
    """Return what a file says now.

    Parameters
    ----------
    path : str
        File or address.
    known : Known
        What the catalogue knows.
    quick : bool
        Whether the checksum is left out.
    format : str
        Of the file.

    Returns
    -------
    SeenFile
        Without the runs.

    Raises
    ------
    InputError
        If it is not what it was; begins with the new state.
    """
    if not is_remote(path):
        if not os.path.exists(path):
            raise InputError(f"{path}: {VANISHED}: there is no such file any more")
        size = os.path.getsize(path)
        if size != known.size:
            raise InputError(f"{path}: {CHANGED}: {known.size} bytes when it was added, {size} now")
    try:
        seen = look_at(path, format, checksum=False, runs=False)
    except InputError as error:
        raise InputError(f"{path}: {UNREADABLE}: {str(error).removeprefix(f'{path}: ')}") from None
    if seen.uuid != known.uuid or seen.size != known.size:
        raise InputError(f"{path}: {CHANGED}: another content than when it was added")
    if known.checksum and not quick and content_of(path) != known.checksum:
        raise InputError(f"{path}: {CHANGED}: another checksum than when it was added")
    return seen


def _verdict(seen: SeenFile) -> FileVerdict:
    if not seen.error:
        return FileVerdict(seen.path, PRESENT)
    state, _, text = seen.error.partition(": ")
    if state not in (CHANGED, VANISHED, UNREADABLE):  # its reader crashed
        return FileVerdict(seen.path, UNREADABLE, seen.error)
    return FileVerdict(seen.path, state, text)


def _note(catalog: Catalog, found: list[FileVerdict]) -> None:
    f, now = tables.files.c, provenance.now()
    with writing(catalog.engine, tables.LOCK) as connection:
        connection.execute(
            sa.update(tables.files)
            .where(f.path == sa.bindparam("p"))
            .values(state=sa.bindparam("s"), checked=now),
            [{"p": v.path, "s": v.state} for v in found],
        )
