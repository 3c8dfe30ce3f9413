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
from calib.calibrations.mass_resolution.fallbacks import rings_of
from calib.calibrations.mass_resolution.fits import ring_factors
from calib.calibrations.mass_resolution.reduction import Input
from calib.calibrations.mass_resolution.settings import Settings
from calib.toys import generate


def main() -> None:
    """Print the table."""
    calibration = Calibration(Settings(), [DATA], seed=1)
    pairs = selected(calibration, generate("z", 600_000, seed=1).pairs, DATA)
    sums = collected(calibration, pairs, DATA)
    categories, settings = calibration.categories, calibration.settings
    start = Input(sums, None, "data", "z", categories, settings)
    fitters = {model: start.fitter(model, (0, 1)) for model in ("embedded", "breit_wigner")}
    rings = np.zeros(3)
    seconds: dict[str, float] = {}
    with timed(seconds, "factors of the rings, embedded"):
        rings = ring_factors(fitters["embedded"], rings_of(categories), 3)
    for model, fitter in fitters.items():
        fitter.category(categories.names[0], [0], rings)  # compile
        with timed(seconds, f"36 fits, {model}"):
            for c, name in enumerate(categories.names):
                fitter.category(name, [c], rings)
    with timed(seconds, "whole reduction: merged, halves, reference and its bias"):
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
