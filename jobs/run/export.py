"""A payload in the layout of others, and what that layout cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calib import calibrations
from calib.calibrations.capabilities import Exports
from calib.errors import InputError
from calib.payload.payload import read
from jobs.run import payloads


def export_payload(
    payload: Path, out: Path, layout: str | None, at: float | None
) -> dict[str, Any]:
    """Write a payload in another layout; return what was written and what is lost.

    Parameters
    ----------
    payload, out : Path
        The file, and the one to write.
    layout : str or None
        One of those of the calibration; None: the usual one.
    at : float or None
        pt in GeV where both agree.

    Returns
    -------
    dict
        What was written and what is lost.

    Raises
    ------
    InputError
        If the payload cannot be read or has no such layout, or OUT exists.
    """
    document = read(payload)
    kind = calibrations.of_payload(document)
    if out.exists():
        raise InputError(f"{out}: exists already; remove it or choose another name")
    if out.suffix.lower() != ".json":
        raise InputError(f"{out}: a payload is a JSON file; name it *.json")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no directory {out.parent}; make it first")
    if not issubclass(kind, Exports):
        raise InputError(
            f"option --layout: found {layout or 'none'}, but {kind.name} has no other layouts; use"
            " payload.json as it is"
        )
    layout = layout or kind.layouts[0]
    made = kind.export(document, layout, at)
    payloads.write(out, made.document)
    return {
        "path": str(out),
        "calibration": kind.name,
        "layout": layout,
        "corrections": [c["name"] for c in made.document["corrections"]],
        "lost": list(made.lost),
        "numbers": dict(made.numbers),
    }
