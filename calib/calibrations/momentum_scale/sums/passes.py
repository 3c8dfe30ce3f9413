"""The passes over the events: main, 2, 3 ... and the one over the corrected events.

Each pass applies one correction of the published form, the total of all moves so far: what the
last pass has tested is what is published, and what composing leaves out (second order in the
move, see `calib.fitting.scale.model.composed`) goes away with the moves.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calib.results import MAIN, Pass
from calib.types import AnyArray

CLOSURE = "closure"
"""The pass over the corrected events."""

LAST = 1_000_000
"""Its number: no other follows."""


def values_of(state: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return what a pass needs: corrections and resolution so far, and the merging.

    Parameters
    ----------
    state : mapping of str to array
        Of a reduction.

    Returns
    -------
    dict of str to array
        ``data_steps, data_a2, data_c2`` and the like.
    """
    values = {k: np.asarray(v) for k, v in state.items() if "_group_" in k or "_dropped_" in k}
    for name, prefix in (("data", ""), ("simulation", "simulation_")):
        if f"{prefix}A" in state:
            scale = np.stack([np.asarray(state[prefix + k]) for k in ("A", "e", "M")])
            values[f"{name}_steps"] = scale[None]
            values[f"{name}_a2"] = np.asarray(state[f"{prefix}a2"])
            values[f"{name}_c2"] = np.asarray(state[f"{prefix}c2"])
    return values


def pass_number(walk: Pass) -> int:
    """Return the number of a pass, from 1."""
    if walk.name == CLOSURE:
        return LAST
    return 1 if walk.name == MAIN.name else int(walk.name)
