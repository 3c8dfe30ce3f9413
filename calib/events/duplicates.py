"""Events that are there twice, found by their keys, in time and memory that 100 M events allow.

Keys are hashes, even in all their bits. A chunk groups its own by the first byte, in one walk
(sorting them would take as long as the rest of the event loop); then a group of all chunks is
counted after the other, in a table that fits in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numba
import numpy as np

from calib.types import IntArray, UIntArray

GROUPS = 256


@numba.njit(cache=True, nogil=True)
def _group(keys, out):  # type: ignore[no-untyped-def]
    first = np.uint64(56)
    edges = out[:GROUPS]
    for key in keys:
        edges[np.int64(key >> first)] += np.uint64(1)
    at = np.empty(GROUPS, dtype=np.int64)
    where = np.int64(GROUPS)
    for i in range(GROUPS):
        at[i] = where
        where += np.int64(edges[i])
        edges[i] = where - GROUPS
    for key in keys:
        group = np.int64(key >> first)
        out[at[group]] = key
        at[group] += 1


def grouped(keys: UIntArray) -> UIntArray:
    """Return the keys grouped by their first byte.

    Parameters
    ----------
    keys : array, shape (n,)

    Returns
    -------
    array, shape (256 + n,)
        Where each group ends, then the keys.
    """
    out = np.zeros(GROUPS + len(keys), dtype=np.uint64)
    _group(np.ascontiguousarray(keys, dtype=np.uint64), out)
    return out


def n_keys(chunk: UIntArray) -> int:
    """Return the number of keys of `grouped`.

    Parameters
    ----------
    chunk : uint array, shape (256 + n,)
        Ends of the groups, then the keys.

    Returns
    -------
    int
        n.

    Raises
    ------
    ValueError
        If these are no grouped keys.
    """
    n = len(chunk) - GROUPS
    ends = np.asarray(chunk[:GROUPS])
    if chunk.dtype != np.uint64 or n < 0 or ends[-1] != n or np.any(ends[1:] < ends[:-1]):
        raise ValueError(f"{len(chunk)} numbers, expected where the groups end, then the keys")
    return n


def count_doubles(chunks: Sequence[UIntArray], at_once: int) -> int:
    """Return how many events are there again: n copies of one are n - 1.

    Parameters
    ----------
    chunks : sequence of arrays as `grouped` returns them
        May be maps of files: they are read a few groups at a time.
    at_once : int
        Keys in memory at a time, about; a group (a 256th of all) at least.

    Returns
    -------
    int
        Number of superfluous events.
    """
    return sum(_doubles(keys) for keys, _ in _parts(chunks, at_once))


def later_ones(chunks: Sequence[UIntArray], at_once: int) -> list[tuple[UIntArray, UIntArray]]:
    """Return what must go so that each event is there once, in the first chunk that has it.

    Parameters
    ----------
    chunks, at_once
        As of `count_doubles`; the order of the chunks decides.

    Returns
    -------
    list of (array, array), one of each chunk
        Keys that an earlier chunk has; keys that are several times in the chunk, and in no
        earlier one. Ascending, each once.
    """
    found: list[tuple[list[UIntArray], list[UIntArray]]] = [([], []) for _ in chunks]
    for keys, ends in _parts(chunks, at_once):
        chunk_of = np.repeat(np.arange(len(chunks)), np.diff(ends))
        size = _size(len(keys))
        place = np.zeros(len(keys), dtype=np.uint8)
        _later(keys, chunk_of, np.zeros(size, np.uint64), np.zeros(size, np.int64), place)
        for kind in (EARLIER, AGAIN):
            at = np.flatnonzero(place == kind)
            edges = np.searchsorted(chunk_of[at], np.arange(len(chunks) + 1))
            for i in np.flatnonzero(np.diff(edges)):
                found[i][kind - EARLIER].append(keys[at[edges[i] : edges[i + 1]]])
    return [(_joined(earlier), _joined(again)) for earlier, again in found]


def _joined(parts: Sequence[UIntArray]) -> UIntArray:
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.uint64)


EARLIER, AGAIN = 1, 2


@numba.njit(cache=True, nogil=True)
def _later(keys, chunk_of, table, owner, place):  # type: ignore[no-untyped-def]
    """Mark keys that an earlier chunk has, or that their own has before; 0 is an empty place."""
    mask, zero = np.uint64(len(table) - 1), np.int64(-1)
    for i in range(len(keys)):
        key = keys[i]
        if key == 0:
            first = zero
            if zero < 0:
                zero = chunk_of[i]
        else:
            at = key & mask
            while table[at] != 0 and table[at] != key:
                at = (at + np.uint64(1)) & mask
            first = owner[at] if table[at] == key else np.int64(-1)
            if first < 0:
                table[at], owner[at] = key, chunk_of[i]
        if first >= 0:
            place[i] = AGAIN if first == chunk_of[i] else EARLIER


def _parts(chunks: Sequence[UIntArray], at_once: int) -> Iterator[tuple[UIntArray, IntArray]]:
    """Yield the keys of all chunks in a few groups after the other, and where each chunk ends."""
    if not chunks:
        return
    ends = [np.concatenate([[0], c[:GROUPS]]).astype(np.int64) for c in chunks]
    total = sum(int(e[-1]) for e in ends)
    step = max(1, int(GROUPS * min(1.0, at_once / max(total, 1))))
    for low in range(0, GROUPS, step):
        high = min(low + step, GROUPS)
        parts = [c[GROUPS + e[low] : GROUPS + e[high]] for c, e in zip(chunks, ends, strict=True)]
        yield np.concatenate(parts), np.cumsum([0, *map(len, parts)])


@numba.njit(cache=True, nogil=True)
def _count(keys, table):  # type: ignore[no-untyped-def]
    """Return the keys that are in the table already; 0 marks an empty place."""
    mask = np.uint64(len(table) - 1)
    found, zeros = 0, 0
    for key in keys:
        if key == 0:
            zeros += 1
            continue
        at = key & mask
        while table[at] != 0 and table[at] != key:
            at = (at + np.uint64(1)) & mask
        if table[at] == key:
            found += 1
        else:
            table[at] = key
    return found + max(zeros - 1, 0)


def _doubles(keys: UIntArray) -> int:
    return int(_count(keys, np.zeros(_size(len(keys)), dtype=np.uint64)))


def _size(n: int) -> int:
    """Return the length of a table for n keys, a power of two."""
    return 1 << max(4, (2 * n - 1).bit_length())
