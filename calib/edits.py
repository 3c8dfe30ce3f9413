"""Settings of single categories, changed by hand and kept: what of them can be."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from calib.errors import InputError


def require_known(
    edits: Mapping[str, Mapping[str, Any]], names: Collection[str], editable: Sequence[str]
) -> None:
    """Refuse edits of categories and keys that do not exist.

    Parameters
    ----------
    edits : mapping
        Category: key: value.
    names : collection of str
        Categories there are.
    editable : sequence of str
        Keys that can be set.

    Raises
    ------
    InputError
        With the nearest category, or the keys that can be set.
    """
    for category, changes in edits.items():
        if category not in names:
            near = difflib.get_close_matches(category, sorted(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "fits.csv has the names"
            raise InputError(f"category {category!r} does not exist; {hint}")
        for key in changes:
            if key not in editable:
                raise InputError(
                    f"category {category}: key {key!r} cannot be set for one category;"
                    f" these can: {', '.join(editable)}"
                )


def require_none(edits: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Refuse any edits, where nothing can be set by hand.

    Parameters
    ----------
    edits : mapping
        Category: key: value.
    what : str
        What it is whose categories cannot be set: ``an audit``.

    Raises
    ------
    InputError
        If there are some.
    """
    if edits:
        raise InputError(
            f"category {next(iter(edits))!r}: nothing of {what} can be set by hand; change its"
            " settings"
        )


def left_out(edits: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the categories whose key ``use`` is false.

    Raises
    ------
    InputError
        If its value is neither true nor false.
    """
    found = set()
    for category, changes in edits.items():
        value = changes.get("use", True)
        if not isinstance(value, bool):
            raise InputError(
                f"category {category}: key 'use': found {value!r}, expected true or false"
            )
        if not value:
            found.add(category)
    return frozenset(found)
