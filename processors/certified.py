"""Certified luminosity sections: which collision data are good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calib.documents import json_values
from calib.errors import InputError
from calib.types import AnyArray, BoolArray

Sections = tuple[tuple[int, int, int], ...]
"""Certified sections as (run, first, last), sorted, without overlap."""


def is_other_run(run: AnyArray, runs: tuple[int, ...]) -> BoolArray:
    """Return whether each event is of none of these runs.

    Parameters
    ----------
    run : int array, shape (n,)
        Of the events.
    runs : tuple of int
        Those that are asked for.

    Returns
    -------
    bool array, shape (n,)
        True where it is none of them.
    """
    return np.asarray(~np.isin(run, np.array(runs, dtype=np.uint64)), dtype=np.bool_)


def load_certified(path: Path) -> Sections:
    """Return the certified sections of a JSON file, ``{"run": [[first, last], ...]}``.

    Raises
    ------
    InputError
        If the file cannot be read or does not have this form.
    """
    where = f"{path}: key 'selection.certified'"
    try:
        found = json_values(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file; correct the path") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f'{where}: not readable as JSON ({error}); expected {{"run": [[first, last], ...]}},'
            " give a file of certified luminosity sections"
        ) from None
    if not isinstance(found, dict) or not found:
        raise InputError(
            f'{where}: found {_short(found)}, expected {{"run": [[first, last], ...]}};'
            " give a file of certified luminosity sections"
        )
    ranges: list[tuple[int, int, int]] = []
    for run, sections in found.items():
        if not (run.isascii() and run.isdigit() and len(run) <= 10 and int(run) < 2**32):
            raise InputError(f"{where}: run {_short(run)}, expected a number of a run; correct it")
        if not isinstance(sections, list) or not all(_is_range(s) for s in sections):
            raise InputError(
                f"{where}: run {run}: found {_short(sections)}, expected [[first, last], ...]"
                " with first <= last; correct it"
            )
        ranges += [(int(run), first, last) for first, last in sections]
    return _joined(ranges)


def _is_range(section: Any) -> bool:
    return (
        isinstance(section, list)
        and len(section) == 2
        and all(isinstance(s, int) and not isinstance(s, bool) for s in section)
        and 0 <= section[0] <= section[1] < 2**32
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _joined(ranges: list[tuple[int, int, int]]) -> Sections:
    joined: list[tuple[int, int, int]] = []
    for run, first, last in sorted(ranges):
        if joined and joined[-1][0] == run and first <= joined[-1][2] + 1:
            joined[-1] = (run, joined[-1][1], max(last, joined[-1][2]))
        else:
            joined.append((run, first, last))
    return tuple(joined)


def is_certified(run: AnyArray, luminosityBlock: AnyArray, sections: Sections) -> BoolArray:
    """Return whether each event lies in a certified section.

    Parameters
    ----------
    run, luminosityBlock : int array, shape (n,)
        Of the events.
    sections : sequence of (run, first, last)
        Ascending, first and last section included.

    Returns
    -------
    bool array, shape (n,)
        True where it is good.
    """
    table = np.array(sections, dtype=np.uint64).reshape(-1, 3)
    shift = np.uint64(32)
    first = (table[:, 0] << shift) | table[:, 1]
    last = (table[:, 0] << shift) | table[:, 2]
    key = (run.astype(np.uint64) << shift) | luminosityBlock.astype(np.uint64)
    found = np.searchsorted(first, key, side="right") - 1
    inside = found >= 0
    if len(last):
        inside &= key <= last[np.maximum(found, 0)]
    return np.asarray(inside, dtype=np.bool_)
