"""The parts of a finished skim: what is in its files already is not made of events again.

A part is one chunk of events. Once the files are written the parts are deleted, and it is kept
which rows they became; where inputs are added, the rows of the others are taken from the files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.storage.files import RunDirectory, whole
from processors.skim import OPTIONS

log = logging.getLogger(__name__)

NOTE = "skim.parts"


def is_there(directory: RunDirectory) -> bool:
    """Return whether the files of a finished skim still are as they were written."""
    return all(
        path.is_file() and path.stat().st_size == size for path, size in _files(directory, None)
    )


def _files(directory: RunDirectory, sample: str | None) -> list[tuple[Path, int]]:
    """Return the files of a sample (None: of all), with their sizes."""
    found = directory.note("skim").get("samples", {})
    names = found if sample is None else [sample]
    return [
        (directory.path / f["path"], int(f["size"])) for name in names for f in found[name]["files"]
    ]


def remember(directory: RunDirectory, parts: Mapping[str, Sequence[Path]]) -> None:
    """Keep which rows the parts of each sample became, in the order of its files.

    Parameters
    ----------
    directory : RunDirectory
        Of the skim.
    parts : mapping of str to sequence of Path
        By sample, in the order of its files.
    """
    directory.keep(
        NOTE,
        {
            name: [[path.stem, pq.read_metadata(path).num_rows] for path in own]
            for name, own in parts.items()
        },
    )


def restore(directory: RunDirectory, wanted: Sequence[Path]) -> int:
    """Write the parts that are wanted and that the files of an earlier skim hold; return how many.

    Parameters
    ----------
    directory : RunDirectory
        Of the skim.
    wanted : sequence of Path
        Where the parts belong; the account of each lies beside it.

    Returns
    -------
    int
        How many were written.
    """
    known = directory.note(NOTE)
    missing = {
        path.stem: path
        for path in wanted
        if not path.is_file() and path.with_suffix(".npz").is_file()
    }
    if not known or not missing or not is_there(directory):
        return 0
    n = 0
    for sample, parts in known.items():
        if not any(stem in missing for stem, _ in parts):
            continue
        rows = _Rows([path for path, _ in _files(directory, sample)])
        try:
            for stem, length in parts:
                table = rows.take(int(length))
                if stem in missing:
                    with whole(missing[stem]) as temporary:
                        pq.write_table(table, temporary, **OPTIONS)
                    n += 1
        except (OSError, pa.ArrowException) as error:
            text = " ".join(str(error).split())
            log.warning("sample %s: its skim is damaged (%s), events are read again", sample, text)
    return n


def forget_parts(folder: Path, keep: set[str]) -> None:
    """Delete the parts, and all accounts but those of ``keep``.

    Parameters
    ----------
    folder : Path
        Of the parts.
    keep : set of str
        Names whose accounts stay.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix != ".npz" or path.stem not in keep:
            path.unlink()


class _Rows:
    """The rows of some files, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._groups = _groups(paths)
        self._left: pa.Table | None = None

    def take(self, n: int) -> pa.Table:
        """Return the next n rows."""
        found = [] if self._left is None else [self._left]
        while sum(table.num_rows for table in found) < n or not found:
            found.append(next(self._groups))
        table = pa.concat_tables(found)
        self._left = table.slice(n)
        return table.slice(0, n)


def _groups(paths: Sequence[Path]) -> Iterator[pa.Table]:
    for path in paths:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)
