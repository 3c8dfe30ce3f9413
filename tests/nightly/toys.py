"""Nights of toy events: one run a night, in a folder that is watched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calib.toys.generation import Truth, generate, momentum_truth
from jobs.events.toys import write_stage1

ETA = [-2.4, 2.4]
FIRST = 1001


def truth(shift: float = 0.0) -> Truth:
    """Return a scale in one eta bin; ``shift`` is added to A."""
    made = momentum_truth(n_eta=len(ETA) - 1)
    return replace(made, A=tuple(a + shift for a in made.A))


def write_run(folder: Path, run: int, events: int, shift: float = 0.0, seed: int = 0) -> Path:
    """Write the J/psi of one run, whole when it has its name."""
    made = generate("jpsi", events, seed=run + 100_000 * seed, truth=truth(shift)).pairs
    pairs = replace(made, run=np.full(len(made), run, dtype=made.run.dtype))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"jpsi_{run}{'' if not seed else f'_{seed}'}.parquet"
    write_stage1(folder / f".{path.name}", pairs, False)
    os.replace(folder / f".{path.name}", path)
    return path


def scale(**changes: Any) -> dict[str, Any]:
    """Return the momentum scale as one of the calibrations of a nightly."""
    settings = {"eta": ETA, "method": "chi2", "embedded_copies": 4, "max_passes": 8}
    return {
        "name": "scale",
        "calibration": "momentum_scale",
        "settings": settings,
        "test": {"limit": 5e-4, "false_alarm": 1e-4},
        "gate": {"cut": 3e-4, "max": 0.02},
        **changes,
    }


def write_config(folder: Path, **changes: Any) -> Path:
    """Write the configuration of a nightly; its files are in ``folder``."""
    values: dict[str, Any] = {
        "name": "prompt",
        "store": "store",
        "directory": "nightly",
        "samples": [
            {
                "name": "jpsi",
                "resonance": "jpsi",
                "format": "stage1",
                "watch": ["incoming/*.parquet"],
            }
        ],
        "complete": {"unchanged": 0},
        "buckets": {"minimum": 8000, "unit": "events"},
        "calibrations": [scale()],
        "cluster": {"kind": "inline"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nightly.yaml"
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path
