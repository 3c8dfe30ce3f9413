"""What a query in a configuration gives: files, the runs of them that are meant, and a digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calib.digests import digest
from calib.errors import InputError
from calib.schema import Query, Sample


@dataclass(frozen=True)
class Wanted:
    """A file as a sample wants it.

    ``runs`` are those that are used, None for all; ``uuid`` and ``checksum`` (SHA-256) are those
    that the catalogue knows.
    """

    path: str
    runs: tuple[int, ...] | None = None
    uuid: str | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a query gave, for the provenance."""

    files: tuple[Wanted, ...]
    asked: dict[str, Any]


def answer(sample: Sample) -> Answer:
    """Return what the catalogue gives for a sample whose files are a query.

    Raises
    ------
    InputError
        If it gives nothing, or files of another kind than those of the sample.
    """
    query = sample.files
    assert isinstance(query, Query)
    where = f"sample {sample.name!r}, key 'files.query'"
    from jobs.catalog.catalog import Catalog  # loads the database

    catalog = Catalog.open(query.catalog)
    try:
        rows = catalog.entries(query.query)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    finally:
        catalog.close()
    if not rows:
        raise InputError(
            f"{where}: {query.query!r} matches nothing in {query.catalog}; `calib catalog list`"
            " says what is there"
        )
    _require_kind(sample, rows, where)
    by_path: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_path.setdefault(row["path"], []).append(row)
    files = tuple(
        Wanted(
            path,
            None if len(own) == own[0]["n_runs"] else tuple(r["run"] for r in own),
            own[0]["uuid"],
            own[0]["checksum"],
        )
        for path, own in sorted(by_path.items())
    )
    known = [row["luminosity"] for row in rows]
    return Answer(
        files,
        {
            "sample": sample.name,
            "catalog": query.catalog,
            "query": query.query,
            "files": len(files),
            "runs": len({row["run"] for row in rows}),
            "events": sum(row["events"] for row in rows),
            "luminosity": None if None in known else sum(known),
            "digest": digest([(f.uuid, f.runs) for f in files]),
        },
    )


def _require_kind(sample: Sample, rows: list[dict[str, Any]], where: str) -> None:
    for key in ("format", "resonance", "simulation"):
        mine = getattr(sample, key)
        others = [row for row in rows if row[key] != mine]
        if others:
            text = repr(mine) if isinstance(mine, bool) else f'"{mine}"'
            raise InputError(
                f"{where}: gives {len({r['path'] for r in others})} files with {key}"
                f" {others[0][key]} ({others[0]['path']}), expected {mine}; add `and {key} =="
                f" {text}`"
            )
