"""Settings of a single category, changed by hand and kept: whether it takes part."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from calib.errors import InputError

EDITABLE = ("use",)


def left_out(edits: Mapping[str, Mapping[str, Any]], names: frozenset[str]) -> frozenset[str]:
    """Return the categories that an edit leaves out.

    Raises
    ------
    InputError
        If an edit names a category or a key that does not exist, or its value does not fit.
    """
    found = set()
    for category, changes in edits.items():
        if category not in names:
            near = difflib.get_close_matches(category, sorted(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "fits.csv has the names"
            raise InputError(f"category {category!r} does not exist; {hint}")
        for key, value in changes.items():
            if key not in EDITABLE:
                raise InputError(
                    f"category {category}: key {key!r} cannot be set for one category;"
                    f" these can: {', '.join(EDITABLE)}"
                )
            if not isinstance(value, bool):
                raise InputError(
                    f"category {category}: key 'use': found {value!r}, expected true or false"
                )
            if not value:
                found.add(category)
    return frozenset(found)
