"""The calibrations: one file or folder each, found by name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from calib.calibrations.base import Calibration
from calib.config import Config, validated
from calib.errors import InputError

GROUP = "dimucal.calibrations"
"""Entry points of calibrations in other packages."""


def available() -> tuple[str, ...]:
    """Return the names of the calibrations, ours and those of installed plug-ins, sorted."""
    ours = {m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"}
    return tuple(sorted(ours | {e.name for e in entry_points(group=GROUP)}))


def get(name: str) -> type[Calibration]:
    """Return a calibration's class by its name.

    Parameters
    ----------
    name : str
        One of `available`, or ``package.module:Class`` of any class that can be imported.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if ":" in name:
        return _imported(name)
    if any(m.name == name != "base" for m in pkgutil.iter_modules(__path__)):
        found: type[Calibration] = importlib.import_module(f"{__name__}.{name}").Calibration
        return found
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _imported(entry.value)
    near = difflib.get_close_matches(name, available(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(available())}"
    raise InputError(f"key 'calibration': there is no calibration {name!r}; {hint}")


def _imported(name: str) -> type[Calibration]:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"key 'calibration': {name!r} cannot be imported ({error});"
            " expected package.module:Class on the Python path"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Calibration)):
        raise InputError(
            f"key 'calibration': {name!r} is {found!r}, expected a subclass of Calibration;"
            " name the class"
        )
    return found


def build(config: Config, where: str = "configuration") -> Calibration:
    """Return the calibration of a configuration, its settings validated, defaults filled in."""
    kind = get(config.calibration)
    settings = validated(kind.Settings, config.settings, f"{where}: settings")
    return kind(settings, config.samples, config.seed, config.selection)


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
