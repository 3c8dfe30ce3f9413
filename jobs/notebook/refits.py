"""Edits of a category from keywords: ``fit_range`` is ``fit.range``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from calib.errors import InputError
from jobs.config.complete import Work


def edits_with(
    work: Work, edits: Mapping[str, Mapping[str, Any]], category: str, changes: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the edits with those of one category added.

    Raises
    ------
    InputError
        If nothing is to be changed.
    """
    if not changes:
        raise InputError(
            f"refit of {category}: no settings given; name some, fit_range=(82, 98) or"
            " {'fit.range': [82, 98]}"
        )
    known = {key.replace(".", "_"): key for key in _keys(work.calibration.settings)}
    found = {name: dict(values) for name, values in edits.items()}
    own = found.setdefault(category, {})
    own |= {known.get(key, key): _plain(value) for key, value in changes.items()}
    return found


def _keys(settings: BaseModel, before: str = "") -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _keys(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _plain(value: Any) -> Any:
    """Return a value as YAML would give it."""
    if isinstance(value, (tuple, list, np.ndarray)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
