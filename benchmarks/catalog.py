"""How fast a catalogue of a million files answers: `python benchmarks/catalog.py`.

Files that do not exist, 200 in each of 5 000 runs, in four samples, one in ten of bad quality.
Seconds are of the processor (SQLite has no other), the best of three; the rows that stand for the
files of a configuration are read into Python, all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jobs.catalog import tables
from jobs.catalog.catalog import Catalog
from jobs.storage.database import writing

SAMPLES = ("data", "nano", "jpsi", "mc")
QUERIES = (
    'run >= 315252 and quality == "good" and format == "stage1"',
    'run >= 319000 and run < 319050 and quality == "good"',
    'sample == "jpsi"',
    '"/9999" in path',
)


def rows_of(n: int) -> Iterator[tuple[int, int, int, int, str]]:
    """Yield number, sample, run, events and quality of each file."""
    for i in range(n):
        yield i, 1 + i % 4, 315_000 + i // 200, 1000 + i % 7, "bad" if i % 10 == 0 else "good"


def fill(opened: Catalog, n: int) -> None:
    """Enter the files."""
    with writing(opened.engine, tables.LOCK) as connection:
        connection.execute(
            tables.samples.insert(),
            [
                {
                    "id": i + 1,
                    "name": name,
                    "resonance": "z",
                    "simulation": name == "mc",
                    "format": "nanoaod" if name == "nano" else "stage1",
                }
                for i, name in enumerate(SAMPLES)
            ],
        )
        connection.exec_driver_sql(
            "insert into catalogue_files values (?,?,?,?,?,?,?,?,1,'','present',null)",
            [
                (i, s, f"/data/{r}/{i}.parquet", str(i), None, 10**9, 1, e)
                for i, s, r, e, _ in rows_of(n)
            ],
        )
        connection.exec_driver_sql(
            "insert into catalogue_entries values (?,?,?,?,'1-900',0.001,?)",
            [(i, r, s, e, q) for i, s, r, e, q in rows_of(n)],
        )


def seconds(work: Callable[[], Any]) -> float:
    """Return the best of three."""
    found = []
    for _ in range(3):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Fill a catalogue and ask it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "catalog.sqlite"
        opened = Catalog.open(str(place), new=True)
        start = time.process_time()
        fill(opened, asked.files)
        print(
            f"{asked.files} files entered in {time.process_time() - start:.1f} s,"
            f" {place.stat().st_size / 1e6:.0f} MB"
        )
        print(f"list: {seconds(opened.samples):.2f} s")
        for query in QUERIES:
            total = opened.totals(query)
            counted = seconds(lambda query=query: opened.totals(query))
            shown = seconds(lambda query=query: opened.entries(query, 20))
            print(f"{query}: {total.files} files; totals {counted:.2f} s, first 20 {shown:.2f} s")
        start = time.process_time()
        rows = opened.entries(QUERIES[1])
        print(f"as input: {len(rows)} rows in {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
