"""The calibrations: one file or folder each, found by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import pkgutil
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.payload.by_run import is_joined
from calib.schema import Configured, validated

log = logging.getLogger(__name__)

FRAMEWORK = ("audit", "base", "capabilities", "validation")
"""Modules here that are no calibrations."""

OTHERS = {"m_data": "calib.payload.scale_smearing:ScaleSmearing"}
"""Corrections of files that no calibration writes as its payload, and what applies these."""

GROUP = "dimucal.calibrations"
"""Entry points of calibrations in other packages."""


@dataclass(frozen=True)
class Plugin:
    """Where a calibration is: its name, ``module:Class``, and the package that brings it."""

    name: str
    target: str
    package: str
    version: str
    ours: bool

    def __str__(self) -> str:
        return f"calibration {self.name!r} of package {self.package} {self.version}".rstrip()


def plugins() -> tuple[Plugin, ...]:
    """Return the calibrations by name, ours and those of installed packages; none is imported.

    Ours come first where two have the same name.
    """
    found = list(_ours())
    for entry in entry_points(group=GROUP):
        package = getattr(entry, "dist", None)
        name, version = (package.name, package.version) if package else (entry.value, "")
        found.append(Plugin(entry.name, entry.value, name, version, False))
    return tuple(sorted(found, key=lambda p: (p.name, not p.ours)))


def _ours() -> tuple[Plugin, ...]:
    names = [m.name for m in pkgutil.iter_modules(__path__) if m.name not in FRAMEWORK]
    return tuple(Plugin(n, f"{__name__}.{n}:Calibration", "dimucal", "", True) for n in names)


def available() -> tuple[str, ...]:
    """Return the names of the calibrations, ours and those of installed plug-ins, sorted."""
    return tuple(dict.fromkeys(p.name for p in plugins()))


def get(name: str) -> type[Calibration]:
    """Return a calibration's class by its name.

    Parameters
    ----------
    name : str
        One of `available`, or ``package.module:Class`` of any class that can be imported.

    Raises
    ------
    InputError
        If there is none of this name, or it cannot be imported.
    """
    if ":" in name:
        return _imported(name, repr(name))
    # the packages that are installed are only looked through where it is none of ours
    for known in (_ours, plugins):
        for plugin in known():
            if plugin.name == name:
                return _imported(plugin.target, str(plugin))
    near = difflib.get_close_matches(name, available(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(available())}"
    raise InputError(f"key 'calibration': there is no calibration {name!r}; {hint}")


def _imported(target: str, what: str) -> type[Calibration]:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a package of others may raise anything
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"key 'calibration': {what} cannot be imported ({type(error).__name__}: {text});"
            f" expected {target} to be a class on the Python path: mend its package"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Calibration)):
        raise InputError(
            f"key 'calibration': {what}: {target} is {found!r}, expected a subclass of"
            " Calibration; name the class"
        )
    return found


def build(config: Configured, where: str = "configuration") -> Calibration:
    """Return the calibration of a configuration, its settings validated, defaults filled in.

    Parameters
    ----------
    config : Configured
        Name of the calibration, settings, samples, seed and selection.
    where : str
        What the sentence of an error begins with.

    Returns
    -------
    Calibration
        For the samples of the configuration.

    Raises
    ------
    InputError
        If there is no such calibration, or its settings or samples do not fit.
    """
    kind = get(config.calibration)
    if inspect.isabstract(kind):
        raise InputError(
            f"{where}: key 'calibration': {config.calibration} applies files of others and makes"
            f" none; choose one of {', '.join(available())}"
        )
    settings = validated(kind.Settings, config.settings, where, "settings")
    return kind(settings, config.samples, config.seed, config.selection)


def of_payload(document: Mapping[str, Any]) -> type[Calibration]:
    """Return the calibration that a payload comes from.

    Raises
    ------
    InputError
        If no calibration writes such a correction.
    """
    return get(name_of_payload(document))


def name_of_payload(document: Mapping[str, Any]) -> str:
    """Return the name by which `get` finds the calibration that a payload comes from.

    Calibrations that cannot be imported are left alone.

    Raises
    ------
    InputError
        If no calibration writes such a correction, or it is a file for all runs.
    """
    if is_joined(document):
        raise InputError(
            "payload: a file for all runs, which correctionlib reads but nothing here; take that"
            " of one run by `calib store get STORE --run RUN`"
        )
    names = {c.get("name") for c in document.get("corrections", ())}
    broken = []
    for name in available():
        try:
            first = get(name).payload_names[0]
        except (InputError, AttributeError, IndexError) as error:
            log.debug("%s", error)
            broken.append(name)
            continue
        if first in names:
            return name
    for first, target in OTHERS.items():
        if first in names:
            return target
    loaded = _loaded(names)
    if loaded is not None:
        return loaded
    hint = f" (broken, and not asked: {', '.join(broken)})" if broken else ""
    raise InputError(
        f"payload: corrections {sorted(map(str, names))} belong to no calibration known here{hint};"
        f" one of your own is found by an entry point in the group {GROUP!r} of its package"
    )


def _loaded(names: AbstractSet[Any]) -> str | None:
    """Return ``module:Class`` of a calibration that a configuration has named by its class.

    Of those that are imported already: a payload must not say what is imported.
    """
    kinds = list(Calibration.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
        first = next(iter(getattr(kind, "payload_names", ())), None)
        where = f"{kind.__module__}:{kind.__qualname__}"
        if first in names and getattr(sys.modules.get(kind.__module__), kind.__name__, 0) is kind:
            return where
    return None
