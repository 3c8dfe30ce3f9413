"""The calibrations: one file or folder each, found by name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from calib.calibrations.base import Calibration
from calib.config import Config, validated
from calib.errors import InputError


def available() -> tuple[str, ...]:
    """Return the names of the calibrations, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"))


def get(name: str) -> type[Calibration]:
    """Return a calibration's class by its name.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(available())}"
        raise InputError(f"key 'calibration': there is no calibration {name!r}; {hint}")
    found: type[Calibration] = importlib.import_module(f"{__name__}.{name}").Calibration
    return found


def build(config: Config, where: str = "configuration") -> Calibration:
    """Return the calibration of a configuration, its settings validated, defaults filled in."""
    kind = get(config.calibration)
    settings = validated(kind.Settings, config.settings, f"{where}: settings")
    return kind(settings, config.samples, config.seed)


def of_payload(document: Mapping[str, Any]) -> type[Calibration]:
    """Return the calibration that a payload comes from.

    Raises
    ------
    InputError
        If no calibration writes such a correction.
    """
    names = {c.get("name") for c in document.get("corrections", ())}
    for name in available():
        if get(name).payload_names[0] in names:
            return get(name)
    raise InputError(
        f"payload: corrections {sorted(map(str, names))} belong to no calibration known here"
    )
