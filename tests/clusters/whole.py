"""A run to its payload, without the page: as `calib run` does it, in this process."""

from __future__ import annotations

from pathlib import Path

from calib.calibrations.capabilities import following_pass
from calib.results import Pass
from jobs.clusters import Workers
from jobs.event_loop import collection
from jobs.progress import silent
from jobs.run.run import Run

NUMBERS = ("factors.csv", "parameters.csv", "payload.json", "fits.csv", "accounting.json")


def reduced(config: Path, out: Path) -> dict[str, bytes]:
    """Return the files with numbers that a configuration leaves in a directory."""
    work = Run.prepare(config, out)
    work.adopt()
    inspection = work.inspect()
    walk: Pass | None = Pass()
    with Workers(work.config.cluster, work.calibration) as workers:
        while walk is not None:
            collection.collect(work, inspection, walk, workers, silent)
            found = work.reduced(walk, {})
            walk = following_pass(work.calibration, found.reduction, walk)
    work.write_reduction(found)
    return {name: (out / name).read_bytes() for name in NUMBERS if (out / name).is_file()}
