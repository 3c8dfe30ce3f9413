"""What each calibration should find in simulated events, beside the events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib import calibrations
from calib.calibrations.base import Calibration
from calib.calibrations.capabilities import HasTruth
from calib.documents import json_values
from calib.errors import InputError
from calib.events.pairs import Pairs
from jobs.storage.files import write_json


def add_truths(out: Path, pairs: Pairs) -> None:
    """Write into ``truth.json``, under ``calibrations``, what each calibration should find.

    Parameters
    ----------
    out : Path
        Folder of the toys, with truth.json.
    pairs : Pairs
        Simulated ones with generated muons, GeV.
    """
    path = out / "truth.json"
    found = json_values(path.read_text(encoding="utf-8"))
    found["calibrations"] = {}
    for name in calibrations.available():
        kind = calibrations.get(name)
        expected = kind.truth(pairs) if issubclass(kind, HasTruth) else None
        if expected is not None:
            found["calibrations"][name] = dict(expected)
    write_json(path, found)


def truth_of(path: Path, kind: type[Calibration]) -> Mapping[str, Any]:
    """Return what a calibration should find, from a truth.json.

    Parameters
    ----------
    path : Path
        A truth.json.
    kind : type
        Of the calibration.

    Returns
    -------
    mapping
        As `HasTruth.truth` returns it.

    Raises
    ------
    InputError
        If the file does not know.
    """
    try:
        return dict(json_values(path.read_text(encoding="utf-8"))["calibrations"][kind.name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no truth for calibration {kind.name!r} ({type(error).__name__});"
            " make the toys again with `calib toys`"
        ) from error
