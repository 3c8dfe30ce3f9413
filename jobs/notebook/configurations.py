"""A configuration from whatever a notebook has: a file, a dictionary, or a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calib.calibrations.base import Calibration
from calib.errors import InputError
from jobs.config.complete import complete, filled
from jobs.config.schema import Config, configuration
from jobs.config.template import first_for

FORMATS = {".root": "nanoaod", ".parquet": "stage1"}

Source = str | Path | Mapping[str, Any] | Config
"""A file with a configuration, its values, or a configuration itself."""


def completed(source: Source) -> tuple[Config, Calibration, str]:
    """Return a complete configuration, its calibration, and its name in messages.

    Files in values are relative to the working directory, those in a file to that file.

    Raises
    ------
    InputError
        If it does not fit the schema.
    """
    if isinstance(source, (str, Path)):
        return *complete(Path(source)), str(source)
    where = "configuration"
    config = source if isinstance(source, Config) else configuration(source, where)
    return *filled(config, where, Path.cwd()), where


def of_files(
    files: str | Path | Sequence[str | Path],
    *,
    resonance: str = "z",
    calibration: str | None = None,
    format: str | None = None,
    simulation: bool = False,
    name: str = "data",
    **keys: Any,
) -> dict[str, Any]:
    """Return the values of a configuration with one sample.

    Parameters
    ----------
    files : path, or sequence of paths
        Names, globs, directories.
    resonance : str
        Of the events.
    calibration : str, optional
        By default the first that takes the resonance.
    format : str, optional
        By default told from the names of the files.
    simulation : bool
        Whether the events are simulated.
    name : str
        Of the sample.
    **keys : Any
        Others of the configuration (``settings``, ``selection``).

    Returns
    -------
    dict
        Plain values.
    """
    names = [str(files)] if isinstance(files, (str, Path)) else [str(f) for f in files]
    sample = {
        "name": name,
        "resonance": resonance,
        "format": format or _format(names),
        "files": names,
        "simulation": simulation,
    }
    return {
        "name": name,
        "calibration": calibration or first_for(resonance),
        "samples": [sample],
        **keys,
    }


def _format(names: Sequence[str]) -> str:
    """Return the format that all names of files, or the files in a directory, have."""
    found = {FORMATS.get(suffix, "") for name in names for suffix in _suffixes(name)}
    if len(found) == 1 and "" not in found:
        return found.pop()
    raise InputError(
        f"files {', '.join(names)[:200]}: expected .root (nanoaod) or .parquet (stage1) files, all"
        " of one kind; give format='nanoaod' or format='stage1'"
    )


def _suffixes(name: str) -> set[str]:
    path = Path(name)
    if path.is_dir():
        return {p.suffix for p in path.iterdir() if p.suffix in FORMATS}
    return {path.suffix}


def is_configuration(source: Any) -> bool:
    """Return whether this is a configuration, and not the name of files with events."""
    if isinstance(source, (Mapping, Config)):
        return True
    return isinstance(source, (str, Path)) and Path(source).suffix in (".yaml", ".yml")
