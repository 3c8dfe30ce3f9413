"""A payload in the layout of others, and what that layout cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calib import calibrations
from calib.calibrations.capabilities import Exports
from calib.errors import InputError
from calib.payload.payload import read
from calib.results import MAIN
from jobs.run import payloads
from jobs.run.run import Run


def export_payload(source: Path, out: Path, layout: str | None, at: float | None) -> dict[str, Any]:
    """Write a payload in another layout; return what was written and what is lost.

    Parameters
    ----------
    source : Path
        A payload, or the directory of a run: then its sums are there as well.
    out : Path
        ``.json``, or ``.json.gz``.
    layout : str, optional
        By default the usual one of the calibration.
    at : float, optional
        pt in GeV where both agree.

    Returns
    -------
    dict
        ``path, calibration, layout, corrections, lost, numbers``.

    Raises
    ------
    InputError
        If the payload cannot be read or has no such layout, or OUT exists.
    """
    payload = source / "payload.json" if source.is_dir() else source
    document = read(payload)
    kind = calibrations.of_payload(document)
    if out.exists():
        raise InputError(f"{out}: exists already; remove it or choose another name")
    if not out.name.lower().endswith((".json", ".json.gz")):
        raise InputError(f"{out}: a payload is a JSON file; name it *.json or *.json.gz")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no directory {out.parent}; make it first")
    if not issubclass(kind, Exports):
        raise InputError(
            f"option --layout: found {layout or 'none'}, but {kind.name} has no other layouts; use"
            " payload.json as it is"
        )
    layout = layout or kind.layouts[0]
    more: dict[str, Any] = {}
    if source.is_dir() and layout in kind.layouts_of_sums:
        more["sums"] = Run.resume(source).sums(MAIN)
    made = kind.export(document, layout, at, **more)
    payloads.write(out, made.document)
    return {
        "path": str(out),
        "calibration": kind.name,
        "layout": layout,
        "corrections": [c["name"] for c in made.document["corrections"]],
        "lost": list(made.lost),
        "numbers": dict(made.numbers),
    }
