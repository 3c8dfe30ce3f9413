"""Whether the content of a file is protected: by checksums that the reader compares, or not.

Without them a damaged byte of a page is data like any other; only the lengths that a file states
in several places, and values that cannot be, give it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow.parquet as pq
import uproot

from processors.readers.checksums import pages_of

PAGES, COMPRESSION, NONE = "pages", "compression", "none"
"""Of each page; of each compressed block (what did not shrink is stored without); or none."""

WITH_CHECKSUM = (uproot.ZLIB, uproot.LZMA, uproot.LZ4)
"""Compressions whose blocks carry one that is compared; ROOT's zstd does not."""

CODES = (1, 2, 4)
"""The same, as ROOT numbers them."""

HEADER = 64
"""Bytes of a page header that are looked at: its first four numbers are enough."""

CRC = 4
"""The field of the header of a parquet page that holds its checksum."""


def of_tree(tree: Any, wanted: Iterable[str]) -> str:
    """Return what protects the branches of a TTree.

    Parameters
    ----------
    tree : uproot TTree
        Of an open file.
    wanted : iterable of str
        Branches.

    Returns
    -------
    str
        ``COMPRESSION`` or ``NONE``.
    """
    branches = [tree[name] for name in wanted]
    # uproot writes the compression of its branches for the file alone
    used = [b.compression or tree.file.compression for b in branches]
    shrunk = all(b.compressed_bytes < b.uncompressed_bytes for b in branches)
    return COMPRESSION if shrunk and all(isinstance(u, WITH_CHECKSUM) for u in used) else NONE


def of_ntuple(tree: Any, wanted: Sequence[str]) -> str:
    """Return what protects the fields of an RNTuple, by its first cluster.

    Parameters
    ----------
    tree : uproot RNTuple
        Of an open file.
    wanted : sequence of str
        Fields.

    Returns
    -------
    str
        ``PAGES``, ``COMPRESSION`` or ``NONE``.
    """
    if all(page.has_checksum for page in pages_of(tree, wanted, 0, 1)):
        return PAGES
    codes = {
        links.compression_settings // 100
        for links in tree.ntuple.page_link_list[0]
        if not links.suppressed
    }
    return COMPRESSION if codes <= set(CODES) else NONE


def of_parquet(stream: Any, metadata: pq.FileMetaData, wanted: Iterable[str]) -> str:
    """Return what protects the columns of a parquet file, by the first page of each.

    Parameters
    ----------
    stream : file
        Open for reading, in bytes.
    metadata : pyarrow.parquet.FileMetaData
        Of the file.
    wanted : iterable of str
        Columns.

    Returns
    -------
    str
        ``PAGES`` or ``NONE``.
    """
    group, names = metadata.row_group(0), set(wanted)
    columns = [group.column(i) for i in range(group.num_columns)]
    for column in columns:
        if column.path_in_schema in names:
            stream.seek(column.dictionary_page_offset or column.data_page_offset)
            if not _has_crc(stream.read(HEADER)):
                return NONE
    return PAGES


def _has_crc(header: bytes) -> bool:
    """Return whether a page header, in the compact protocol of Thrift, has the field of a CRC."""
    at = field = 0
    while at < len(header):
        step, kind = header[at] >> 4, header[at] & 15
        if kind != 5 or not step:  # the whole numbers come first
            return False
        field += step
        if field >= CRC:
            return field == CRC
        at += 1
        while at < len(header) and header[at] & 128:
            at += 1
        at += 1
    return False
