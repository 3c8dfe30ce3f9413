"""A run to its payload, without the page: as `calib run` does it, in this process."""

from __future__ import annotations

from pathlib import Path

from calib.calibrations.capabilities import following_pass
from calib.results import Pass
from jobs.clusters import Workers
from jobs.config.complete import adopt, prepare
from jobs.event_loop import collection
from jobs.run import steps

NUMBERS = ("factors.csv", "parameters.csv", "payload.json", "fits.csv", "accounting.json")


def reduced(config: Path, out: Path) -> dict[str, bytes]:
    """Return the files with numbers that a configuration leaves in a directory."""
    work = prepare(config, out)
    adopt(work)
    inspection = steps.inspect(work)
    walk: Pass | None = Pass()
    with Workers(work.config.cluster, work.calibration) as workers:
        while walk is not None:
            collection.collect(work, inspection, walk, workers, steps.silent)
            found = steps.reduce_sums(work, walk, {})
            walk = following_pass(work.calibration, found.reduction, walk)
    steps.write_reduction(work, found)
    return {name: (out / name).read_bytes() for name in NUMBERS if (out / name).is_file()}
