"""Digests of values and of our own source: what tells one collection from another."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel


def digest(*values: Any) -> str:
    """Return 32 hexadecimal digits that depend on the values alone, not on the process.

    Parameters
    ----------
    values
        Numbers, strings, bytes, paths, arrays, models, dataclasses, and mappings, sequences and
        sets of these.

    Raises
    ------
    TypeError
        If a value is none of them: an object's address must not enter.
    """
    state = hashlib.blake2b(digest_size=16)
    for value in values:
        for piece in _pieces(value):
            state.update(piece)
    return state.hexdigest()


def _pieces(value: Any) -> Iterable[bytes]:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex)):
        yield f"{type(value).__name__}:{value!r};".encode()
    elif isinstance(value, (str, bytes, Path)):
        raw = value if isinstance(value, bytes) else str(value).encode()
        yield f"{'bytes' if isinstance(value, bytes) else 'text'}:{len(raw)}:".encode() + raw
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects has no digest")
        yield f"array:{value.dtype.str}:{value.shape}:".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, BaseModel):
        yield from _pieces(value.model_dump(mode="json"))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _pieces({f.name: getattr(value, f.name) for f in fields(value)})
    elif isinstance(value, Mapping):
        yield b"mapping:%d:" % len(value)
        for key in sorted(value, key=repr):
            yield from _pieces(key)
            yield from _pieces(value[key])
    elif isinstance(value, AbstractSet):
        yield from _pieces(sorted(digest(v) for v in value))
    elif isinstance(value, Sequence):
        yield b"sequence:%d:" % len(value)
        for item in value:
            yield from _pieces(item)
    else:
        raise TypeError(f"{type(value).__name__} has no digest")


def code_version(folders: Iterable[Path], *objects: object) -> str:
    """Return a digest of the Python source in the folders and of the modules of the objects.

    Parameters
    ----------
    folders : iterable of Path
        Packages; all ``*.py`` below count, by their place in the folder.
    *objects : object
        Classes that may live elsewhere (a calibration of another package).

    Returns
    -------
    str
        Hexadecimal.
    """
    sources: dict[str, bytes] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            sources[f"{folder.name}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    for item in objects:
        module = inspect.getmodule(item)
        file = Path(getattr(module, "__file__", None) or "")
        if file.suffix == ".py" and file.is_file():
            sources.setdefault(getattr(module, "__name__", ""), file.read_bytes())
    return digest(sources)
