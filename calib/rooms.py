"""The packages of this distribution, calib, processors and jobs, are the ones that Python finds.

A folder ``processors/`` or ``jobs/`` of somebody else's, as analyses with coffea have them, may
stand before ours on the path: in the working directory, for a notebook or a script.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from calib.errors import InputError

ROOMS = ("processors", "jobs")


def require_rooms() -> None:
    """Look where the other packages of this distribution would be imported from.

    Raises
    ------
    InputError
        If one of them is somebody else's; names the folder or file that stands in the way.
    """
    here = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        place = _place(room)
        if place is None or place.resolve() == here / room:
            continue
        raise InputError(
            f"{place}: stands in the way of the package {room!r} of dimucal, which is in {here}:"
            " Python finds it first; rename it, or start Python in another directory (and leave"
            f" {place.parent} out of PYTHONPATH)"
        )


def _place(room: str) -> Path | None:
    """Return the folder or the file that is imported under a name, None where there is none."""
    loaded = sys.modules.get(room)
    spec = find_spec(room) if loaded is None else loaded.__spec__
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
