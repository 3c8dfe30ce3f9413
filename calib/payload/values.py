"""The values in a payload as a table, and how far two such tables are apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from calib.later import pandas as pd
from calib.results import Status
from calib.types import Array

COLUMNS = ("name", "kind", "value", "error", "status")


def table(names: Any, kind: str, values: Any, errors: Any, codes: Any) -> pd.DataFrame:
    """Return values of one kind with their errors, and codes of `Status` in words.

    Parameters
    ----------
    names : sequence of str
        One of each value.
    kind : str
        The same for all.
    values, errors : array_like
        In the unit of the values; NaN where there is none.
    codes : sequence of float
        Codes of `Status`.

    Returns
    -------
    DataFrame
        ``name, kind, value, error, status``.
    """
    columns = (names, kind, values, errors, [word(code) for code in codes])
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def word(code: float) -> str:
    """Return the word for the code of a status in a payload."""
    known = {float(s.code): s.value for s in Status}
    return known.get(float(code), f"unknown ({code:g})")


def numbers(document: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Return every number in a correction, named by its place; without errors.

    When to use: for a payload of which nothing else is known.

    Parameters
    ----------
    document : mapping
        The payload.
    name : str
        Of a correction of it.

    Returns
    -------
    DataFrame
        ``name, kind, value, error, status``; errors are NaN.
    """
    correction = next(c for c in document["corrections"] if c["name"] == name)
    found = dict(_leaves(correction["data"], name))
    nothing = np.full(len(found), np.nan)
    columns = (list(found), name, list(found.values()), nothing, "")
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _leaves(node: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(node, (int, float)):
        yield place, float(node)
        return
    if not isinstance(node, Mapping):
        return
    inner = node.get("content", node.get("parameters", node.get("value")))
    parts = inner if isinstance(inner, list) else [inner]
    for i, part in enumerate(parts):
        key, value = i, part
        if isinstance(part, Mapping) and "key" in part:
            key, value = part["key"], part["value"]
        yield from _leaves(value, f"{place}/{key}")


def apart(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the values of both tables side by side, and their distance in standard deviations.

    The errors are taken as independent. What only one of them has, has no distance.

    Parameters
    ----------
    one, other : DataFrame
        Of `table`.

    Returns
    -------
    DataFrame
        ``name``, the columns of both with ``_1`` and ``_2``, ``difference`` and ``sigma``.
    """
    names = list(dict.fromkeys([*one["name"], *other["name"]]))
    sides = [
        side.set_index("name")[list(COLUMNS[1:])].reindex(names).add_suffix(f"_{i}")
        for i, side in ((1, one), (2, other))
    ]
    found = pd.concat(sides, axis=1).reset_index(names="name")
    found["difference"] = found["value_2"] - found["value_1"]
    error = np.hypot(found["error_1"].to_numpy(dtype=float), found["error_2"].to_numpy(dtype=float))
    found["sigma"] = _ratio(found["difference"].to_numpy(dtype=float), error)
    return found


def _ratio(difference: Array, error: Array) -> Array:
    out = np.full(len(error), np.nan)
    known = np.isfinite(difference) & (error > 0)
    out[known] = difference[known] / error[known]
    return out
