"""Seconds for the 36 fits of the mass resolution, each model, on toys made once in memory.

python benchmarks/fits.py
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from truth import DATA, collected, selected

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.widths.reduction import ReductionInput
from calib.toys.generation import generate


def main() -> None:
    """Print the table."""
    calibration = Calibration(Settings(), [DATA], seed=1)
    pairs = selected(calibration, generate("z", 600_000, seed=1).pairs, DATA)
    sums = collected(calibration, pairs, DATA)
    start = ReductionInput(sums, None, "data", "z", calibration.categories, calibration.settings)
    seconds: dict[str, float] = {}
    for model in ("embedded", "breit_wigner"):
        at = start.curves_at(model, (0, 1))
        at.curves(np.zeros(3))  # compile
        with timed(seconds, f"36 fits, {model}"):
            start.curves_at(model, (0, 1)).curves(np.zeros(3))
    with timed(seconds, "what they have in common, embedded"):
        start.fit_set("embedded", (0, 1))
    with timed(seconds, "whole reduction: halves, reference and its bias, muons"):
        calibration.reduce({"data": sums}, {})
    baseline = seconds["36 fits, breit_wigner"]
    print("| step | seconds | share of the 36 fits of the reference |")
    print("|---|---:|---:|")
    for step, value in seconds.items():
        print(f"| {step} | {value:.2f} | {value / baseline:.2f} |")


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Keep the seconds that a block takes."""
    begin = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - begin


if __name__ == "__main__":
    main()
