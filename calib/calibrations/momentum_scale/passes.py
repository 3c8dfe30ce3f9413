"""The passes over the events: main, 2, 3 ... and the one over the corrected events."""

from __future__ import annotations

from calib.results import MAIN, Pass

CLOSURE = "closure"
"""The pass over the corrected events."""


def pass_number(walk: Pass) -> int:
    """Return the number of a pass, from 1."""
    return 1 if walk.name == MAIN.name else int(walk.name)
