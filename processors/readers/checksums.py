"""The checksums of RNTuple pages, which uproot reads past: ROOT writes one after each page."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from queue import Queue
from typing import Any, NamedTuple

import xxhash

from calib.errors import InputError

SIZE = 8
"""Bytes of a checksum (XXH3, little endian), after the bytes of its page."""


class RNTuplePage(NamedTuple):
    """Where a page is in its file."""

    start: int
    stop: int
    has_checksum: bool


def pages_of(tree: Any, names: Iterable[str], start: int, stop: int) -> Iterator[RNTuplePage]:
    """Yield the pages of some fields of an RNTuple that are read for some entries.

    Parameters
    ----------
    tree : uproot RNTuple
        Of an open file.
    names : iterable of str
        Of the fields.
    start, stop : int
        Entries, stop not included.

    Yields
    ------
    RNTuplePage
        Its bytes in the file.
    """
    ntuple = tree.ntuple
    columns = _columns(tree, list(names))
    clusters = zip(ntuple.cluster_summaries, ntuple.page_link_list, strict=True)
    for cluster, links in clusters:
        first = cluster.num_first_entry
        if first >= stop or first + cluster.num_entries <= start:
            continue
        for column in columns:
            for page in links[column].pages if column < len(links) else ():
                at = page.locator.offset
                yield RNTuplePage(at, at + page.locator.num_bytes, bool(page.has_checksum))


def _columns(tree: Any, names: list[str]) -> list[int]:
    """Return the columns of fields: all representations of each, of which one is filled."""
    form, _ = tree.to_akform(filter_name=names)
    records = tree.ntuple.column_records
    keys = re.findall(r'"form_key":\s*"column-(\d+)', form.to_json())
    fields = {records[int(key)].field_id for key in keys}
    return [i for i, record in enumerate(records) if record.field_id in fields]


def require_pages(tree: Any, names: Iterable[str], start: int, stop: int) -> None:
    """Refuse pages that are not as they were written.

    Pages without a checksum (uproot writes none) pass.

    Parameters
    ----------
    tree : uproot RNTuple
        Of an open file.
    names : iterable of str
        Of the fields.
    start, stop : int
        Entries, stop not included.

    Raises
    ------
    InputError
        If a page does not fit its checksum.
    """
    wanted = [page for page in pages_of(tree, names, start, stop) if page.has_checksum]
    if not wanted:
        return
    source = tree.file.source
    chunks = source.chunks([(page.start, page.stop + SIZE) for page in wanted], Queue())
    for page, chunk in zip(wanted, chunks, strict=True):
        raw = memoryview(chunk.get(page.start, page.stop + SIZE, None, {}))
        (expected,) = struct.unpack("<Q", raw[-SIZE:])
        if xxhash.xxh3_64_intdigest(raw[:-SIZE]) != expected:
            raise InputError(
                f"{tree.file.file_path}: the page at byte {page.start} does not fit its checksum;"
                " the file is damaged, copy it again or leave it out"
            )
