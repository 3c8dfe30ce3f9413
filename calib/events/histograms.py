"""Sums over events that add: fill, merge, write and read, without code in the files."""

from __future__ import annotations

import errno
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import CalibError, InputError
from calib.types import AnyArray, Array, IntArray

MAX_BYTES = 4 * 1024**3
"""Most bytes of arrays in one file that is read."""

MAX_AXES = 8

_LARGE = 10_000
"""Values of an array from which on its size matters."""

Sums = dict[str, AnyArray]
"""Named arrays; the sums of two disjoint sets of events are the sums of the arrays."""


@dataclass(frozen=True)
class Fill:
    """Columns of one chunk for one histogram per category.

    Parameters
    ----------
    category : int array, shape (n,)
        Flat category, negative where an entry belongs to none.
    n_categories : int
    value : array, shape (n,)
        Observable. Entries outside the edges are counted in the means but in no bin.
    edges : array, shape (bins + 1,)
    weight : array, shape (n,)
    means : mapping of name to array, shape (n,)
        Their weighted sums are kept per category over the entries that fall in a bin: a bin's
        centre is not its mean.
    """

    category: IntArray
    n_categories: int
    value: Array
    edges: Array
    weight: Array
    means: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What the rows and the bins of a histogram among the sums are, for people.

    ``rows`` are the axes of the flat category, each with its labels, the last one fastest;
    ``edges`` those of the observable.
    """

    rows: Mapping[str, tuple[str, ...]]
    edges: Array
    observable: str = "mass"
    unit: str = "GeV"


def add(parts: Iterable[Sums]) -> Sums:
    """Return the sum of some sums, in the order given; missing names count as zero.

    Whole numbers, which a chunk may keep in few bytes, are added in 64 bits.
    """
    total: Sums = {}
    for part in parts:
        for name, values in part.items():
            if name in total:
                total[name] += values
            else:
                narrow = values.dtype.kind in "iu" and values.dtype.itemsize < 8
                total[name] = values.astype(np.int64) if narrow else values.copy()
    return total


def narrow(sums: Sums) -> Sums:
    """Return the same with large arrays of counts in as few bytes as their values need.

    For the way from a worker to a file: `add` takes them back to 64 bits. Nothing else may add
    them, they would overflow.
    """
    return {name: _narrowed(values) for name, values in sums.items()}


def _narrowed(values: AnyArray) -> AnyArray:
    if values.size < _LARGE or values.dtype.kind not in "iu" or values.min() < 0:
        return values
    return values.astype(np.min_scalar_type(values.max()), copy=False)


class ChunkSums(Mapping[str, AnyArray]):
    """Sums of one chunk, or of several: added in the order of the chunks, however they came.

    coffea adds results in the order in which workers end, and sums of numbers that are not whole
    depend on the order in their last bit. So ``+`` keeps the chunks apart (whole numbers in as few
    bytes as they need), and they are added when they are read: by file name, then by entry, as
    `add` does. When not to use: for thousands of chunks in one process, which `calib collect` keeps
    in files.

    Parameters
    ----------
    sums : Sums
    chunk : (str, int)
        File name and first entry.

    Examples
    --------
    >>> import numpy as np
    >>> late = ChunkSums({"w": np.array([2.0])}, ("a.root", 500))
    >>> early = ChunkSums({"w": np.array([1.0])}, ("a.root", 0))
    >>> (late + early)["w"]
    array([3.])
    """

    def __init__(self, sums: Sums, chunk: tuple[str, int]) -> None:
        self._parts: list[tuple[tuple[str, int], _Part]] = []
        self._own: tuple[tuple[str, int], Sums] | None = (chunk, sums)
        self._total: Sums | None = sums

    def __add__(self, other: ChunkSums) -> ChunkSums:
        if not isinstance(other, ChunkSums):
            return NotImplemented
        both = ChunkSums({}, ("", 0))
        both._own = both._total = None
        both._parts = [*self._small(), *other._small()]
        return both

    def __getitem__(self, name: str) -> AnyArray:
        return self.total()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.total())

    def __len__(self) -> int:
        return len(self.total())

    def total(self) -> Sums:
        """Return the sums over all chunks, as plain arrays."""
        if self._total is None:
            ordered = sorted(self._parts, key=lambda part: part[0])
            self._total = add(
                {name: values.astype(dtype) for name, (dtype, values) in part.items()}
                for _, part in ordered
            )
        return self._total

    def _small(self) -> list[tuple[tuple[str, int], _Part]]:
        if self._own is not None:
            chunk, sums = self._own
            part = {name: (values.dtype, _in_few_bytes(values)) for name, values in sums.items()}
            return [(chunk, part)]
        return self._parts


_Part = dict[str, tuple[np.dtype[Any], AnyArray]]
"""Arrays of a chunk, each with the type that it has when it is added."""


def _in_few_bytes(values: AnyArray) -> AnyArray:
    """Return the values in a smaller type that holds each of them exactly, if there is one."""
    if values.dtype.kind not in "iuf" or not values.size or np.signbit(values).any():
        return values
    most = values.max()
    if not most < 2**32 or not np.array_equal(values, np.floor(values)):
        return values
    return values.astype(np.min_scalar_type(int(most)))


def write(path: Path, sums: Sums) -> None:
    """Write the sums as an .npz: whole or not at all, no code in the file.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    sums : mapping of array
        By name.

    Raises
    ------
    CalibError
        If there is no space for it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **sums)  # type: ignore[arg-type]
        temporary.replace(path)
    except OSError as error:
        raise no_space(path, error) or error from None
    finally:
        temporary.unlink(missing_ok=True)


def packed(sums: Sums) -> bytes:
    """Return the content of a file for `read`, of sums that are read once.

    Compression takes longer than the events themselves. An array that is mostly zeros is kept as
    the places and values of the others.
    """
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in sums.items():
            for member, array in _members(name, np.asarray(values)):
                with archive.open(zipfile.ZipInfo(f"{member}.npy"), "w", force_zip64=True) as out:
                    np.lib.format.write_array(out, array, allow_pickle=False)
    return file.getvalue()


_WHERE, _VALUES, _SHAPE = "@where", "@values", "@shape"


def _members(name: str, values: AnyArray) -> Iterator[tuple[str, AnyArray]]:
    if values.size >= _LARGE and values.size < 2**32:
        # counting is five times faster than finding
        if np.count_nonzero(values) * (4 + values.itemsize) < values.nbytes // 2:
            where = np.flatnonzero(values).astype(np.uint32)
            yield name + _WHERE, where
            yield name + _VALUES, values.ravel()[where]
            yield name + _SHAPE, np.array(values.shape, dtype=np.int64)
            return
    yield name, values


def _unpacked(arrays: Sums) -> Sums:
    """Return the arrays, those that are kept by places as they were.

    Raises
    ------
    ValueError
        If they do not fit together, or take more than `MAX_BYTES`.
    """
    found, room = {}, MAX_BYTES - sum(v.nbytes for v in arrays.values())
    for member, values in arrays.items():
        name, mark, what = member.partition("@")
        if not mark:
            found[name] = values
        elif mark + what == _WHERE:
            shape = arrays[name + _SHAPE]
            filled = arrays[name + _VALUES]
            if shape.dtype.kind not in "iu" or not 0 < shape.size <= MAX_AXES or shape.min() < 0:
                raise ValueError(f"{name}: shape {shape.tolist()}")
            size = math.prod(shape.tolist())
            room -= size * filled.itemsize
            if room < 0:
                raise ValueError(f"{name}: shape {shape.tolist()}, more than {MAX_BYTES} bytes")
            if values.dtype.kind not in "iu" or len(values) != len(filled) or filled.ndim != 1:
                raise ValueError(f"{name}: {len(filled)} values at {len(values)} places")
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < size:
                raise ValueError(f"{name}: places beyond its {size}")
            dense = np.zeros(size, dtype=filled.dtype)
            dense[values] = filled
            found[name] = dense.reshape(shape)
    return found


def no_space(path: Path, error: OSError) -> CalibError | None:
    """Return the error for a disk or a quota that is full, None for any other.

    Parameters
    ----------
    path : Path
        What was being written.
    error : OSError
        What the system said.

    Returns
    -------
    CalibError or None
        To be raised.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return CalibError(
        f"{path}: no space to write it ({os.strerror(error.errno)}); what was done is kept, make"
        " space and run the same command again"
    )


def read(path: Path, only: str = "") -> Sums:
    """Return the sums written by `write`; sizes are checked before memory is taken.

    Parameters
    ----------
    path : Path
    only : str
        Beginning of the names that are wanted.

    Returns
    -------
    dict of array
        By name.

    Raises
    ------
    InputError
        If the file is not a whole .npz of plain arrays, or holds more than `MAX_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            _require_plain(members)
            wanted = {m.filename.removesuffix(".npy"): m for m in members}
            return _unpacked(
                {
                    name: _array(file, member)
                    for name, member in wanted.items()
                    if name.startswith(only)
                }
            )
    except Exception as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: not a readable histogram file ({text}); expected an .npz of plain arrays;"
            " delete it and run `calib collect` again"
        ) from error


def _require_plain(members: Iterable[zipfile.ZipInfo]) -> None:
    """Raise ValueError where there is more than arrays of a reasonable size."""
    total, names = 0, set()
    for member in members:
        if not member.filename.endswith(".npy") or member.filename in names:
            raise ValueError(f"a member {member.filename[:80]!r}, expected arrays, each once")
        names.add(member.filename)
        total += member.file_size
    if total > MAX_BYTES:
        raise ValueError(f"{total} bytes of arrays announced, more than {MAX_BYTES}")


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> AnyArray:
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename}: .npy of version {version}")
        readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, in_columns, dtype = readers[version[0]](stream)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "biufcU" or len(shape) > MAX_AXES or min(shape, default=0) < 0:
            raise ValueError(f"{member.filename}: shape {shape} of {dtype}")
        if size != member.file_size - stream.tell():
            raise ValueError(
                f"{member.filename}: shape {shape} of {dtype} takes {size} bytes, found"
                f" {member.file_size - stream.tell()}"
            )
        raw = bytearray(stream.read(size + 1))  # to its end, where the checksum is compared
    if len(raw) != size:
        raise ValueError(f"{member.filename}: {len(raw)} bytes, expected {size}")
    values: AnyArray = np.frombuffer(raw, dtype=dtype).reshape(
        shape, order="F" if in_columns else "C"
    )
    return values
