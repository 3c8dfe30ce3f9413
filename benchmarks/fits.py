"""Seconds for the 36 fits of the mass resolution, each model, on toys made once in memory.

python benchmarks/fits.py
"""

from __future__ import annotations

import time

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
    print("| step | seconds |")
    print("|---|---|")
    for model in ("embedded", "breit_wigner"):
        fitter = start.fitter(model, (0, 1))
        begin = time.perf_counter()
        rings = ring_factors(fitter, rings_of(categories), 3)
        if model == "embedded":
            print(f"| factors of the rings, {model} | {time.perf_counter() - begin:.2f} |")
        begin = time.perf_counter()
        for c, name in enumerate(categories.names):
            fitter.category(name, [c], rings)
        print(f"| 36 fits, {model} | {time.perf_counter() - begin:.2f} |")
    begin = time.perf_counter()
    calibration.reduce({"data": sums}, {})
    print(f"| whole reduction, halves and reference included | {time.perf_counter() - begin:.2f} |")


if __name__ == "__main__":
    main()
