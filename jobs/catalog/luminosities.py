"""Luminosity by run or by section, from a table of the user; fb^-1 inside."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from calib.documents import json_values
from calib.errors import InputError
from jobs.catalog import tables
from jobs.catalog.looking import unpacked

UNITS = {"/ub": 1e-9, "/nb": 1e-6, "/pb": 1e-3, "/fb": 1.0}
WHOLE_RUN = 0

Table = dict[tuple[int, int], float]
"""(run, section) to fb^-1; section 0 is the whole run."""


def read_table(path: Path) -> Table:
    """Return the luminosities in a file.

    CSV with a header as brilcalc writes it (``run:fill, ls, ..., recorded(/pb)``), or with
    ``run``, optionally ``luminosityBlock``, and ``luminosity`` in fb^-1 (``luminosity(/pb)`` for
    another unit). JSON is ``{"run": fb^-1}`` or ``{"run": {"section": fb^-1}}``.

    Raises
    ------
    InputError
        If it cannot be read, or a value is no number >= 0.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; correct --luminosity-table") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected CSV or JSON") from None
    rows = _from_json(path, text) if text.lstrip().startswith("{") else _from_csv(path, text)
    found: Table = {}
    for run, section, value in rows:
        if not 0.0 <= value < math.inf:
            raise InputError(f"{path}: run {run}: luminosity {value}, expected a number >= 0")
        if (run, section) in found:
            where = f"run {run}" + (f", section {section}" if section else "")
            raise InputError(f"{path}: {where} is there twice; correct the table")
        found[run, section] = value
    if not found:
        raise InputError(f"{path}: no luminosities in it; expected a row for each run")
    return found


Row = tuple[int, int, float]


def _from_json(path: Path, text: str) -> Iterator[Row]:
    try:
        values = json_values(text)
        for run, value in values.items():
            if isinstance(value, Mapping):
                yield from ((int(run), int(s), _number(v)) for s, v in value.items())
            else:
                yield int(run), WHOLE_RUN, _number(value)
    except (ValueError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f'{path}: not a table of luminosities ({text}); expected {{"315252": 0.012}} or'
            ' {"315252": {"1": 0.00002}}, in fb^-1'
        ) from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"found {value!r}")
    return float(value)


def _from_csv(path: Path, text: str) -> Iterator[Row]:
    names: list[str] = []
    for number, cells in enumerate(csv.reader(text.splitlines()), start=1):
        cells = [cell.strip() for cell in cells]
        if not names and cells and _run_name(cells[0]):
            names = [cell.lstrip("#").strip() for cell in cells]
            run, section, value, unit = _places(path, names)
            continue
        if not cells or not cells[0] or cells[0].startswith("#"):
            continue
        if not names:
            break
        try:
            block = int(cells[section].split(":")[0]) if section is not None else WHOLE_RUN
            yield int(cells[run].split(":")[0]), block, float(cells[value]) * unit
        except (ValueError, IndexError):
            raise InputError(
                f"{path}: line {number}: found {','.join(cells)[:80]!r}, expected numbers under"
                f" {', '.join(names)}; correct the table"
            ) from None
    if not names:
        raise InputError(f"{path}: no header; expected a first line such as run,luminosity(/fb)")


def _run_name(cell: str) -> bool:
    return cell.lstrip("#").strip().lower() in ("run", "run:fill")


def _places(path: Path, names: list[str]) -> tuple[int, int | None, int, float]:
    """Return where run, section and luminosity are, and the unit in fb^-1."""
    plain = [re.sub(r"\(.*\)", "", n).strip().lower() for n in names]
    sections = [i for i, n in enumerate(plain) if n in ("ls", "luminosityblock", "section")]
    for wanted in ("recorded", "luminosity", "lumi", "delivered"):
        if wanted in plain:
            value = plain.index(wanted)
            match = re.search(r"\((.*)\)", names[value])
            unit = match.group(1).strip().lower() if match else "/fb"
            factor = UNITS.get(unit if unit.startswith("/") else f"/{unit.removesuffix('^-1')}")
            if factor is None:
                raise InputError(
                    f"{path}: unit {unit[:40]!r} of column {names[value][:80]!r}, expected one of"
                    " /ub, /nb, /pb, /fb"
                )
            return 0, sections[0] if sections else None, value, factor
    raise InputError(
        f"{path}: no column recorded or luminosity (found {', '.join(names)[:200]}); add one"
    )


# in the catalogue --------------------------------------------------------------------------------
def keep(connection: sa.Connection, table: Table) -> None:
    """Put a table into the catalogue; the runs in it replace what was known of them.

    Parameters
    ----------
    connection : Connection
        In a transaction.
    table : mapping of (run, section) to float
        In fb^-1.
    """
    runs = {run for run, _ in table}
    for some in batches(sorted(runs)):
        connection.execute(sa.delete(tables.luminosity).where(tables.luminosity.c.run.in_(some)))
    rows = [{"run": r, "section": s, "value": v} for (r, s), v in table.items()]
    connection.execute(tables.luminosity.insert(), rows)
    share_out(connection, runs)


def share_out(connection: sa.Connection, runs: Iterable[int]) -> None:
    """Write the luminosity of each file in these runs, where the table knows it.

    By sections: of those that the file holds; a section that several files of a sample hold is
    shared evenly. By run: shared in proportion to the events of the files of a sample.

    Parameters
    ----------
    connection : Connection
        In a transaction.
    runs : iterable of int
        Whose files get theirs.
    """
    known = tables.luminosity
    for some in batches(sorted(set(runs))):
        by_run: dict[int, dict[int, float]] = defaultdict(dict)
        rows = connection.execute(sa.select(known).where(known.c.run.in_(some)))
        for run, section, value in rows:
            by_run[run][section] = value
        if by_run:
            _share(connection, by_run)


def _share(connection: sa.Connection, by_run: Mapping[int, Mapping[int, float]]) -> None:
    e, s = tables.entries.c, tables.samples.c
    wanted = (
        sa.select(e.file_id, e.run, e.sample_id, e.events, e.sections)
        .join(tables.samples, s.id == e.sample_id)
        .where(e.run.in_(list(by_run)), ~s.simulation)
    )
    groups: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for row in connection.execute(wanted):
        groups[row.run, row.sample_id].append(row)
    updates = [
        {"f": row.file_id, "r": run, "v": value}
        for (run, _), rows in groups.items()
        for row, value in _shared(rows, by_run[run])
    ]
    if updates:
        connection.execute(
            sa.update(tables.entries)
            .where(e.file_id == sa.bindparam("f"), e.run == sa.bindparam("r"))
            .values(luminosity=sa.bindparam("v")),
            updates,
        )


def _shared(rows: list[Any], known: Mapping[int, float]) -> Iterator[tuple[Any, float]]:
    sections = {row.file_id: list(unpacked(row.sections)) for row in rows}
    if WHOLE_RUN in known or not all(sections.values()):
        total = sum(row.events for row in rows)
        for row in rows:
            yield row, math.fsum(known.values()) * row.events / total
        return
    holders: dict[int, int] = defaultdict(int)
    for own in sections.values():
        for section in own:
            holders[section] += 1
    for row in rows:
        own = sections[row.file_id]
        yield row, math.fsum(known.get(n, 0.0) / holders[n] for n in own)


def batches(values: list[Any], n: int = 500) -> Iterator[list[Any]]:
    """Yield the values, some at a time: databases limit how many a statement may hold.

    Parameters
    ----------
    values : list
        In any order.
    n : int
        At most at a time.

    Yields
    ------
    list
        In the same order.
    """
    for start in range(0, len(values), n):
        yield values[start : start + n]
