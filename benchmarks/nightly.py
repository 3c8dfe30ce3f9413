"""How often the nightly is wrong, and how soon it is right: nights replayed with real events.

    python benchmarks/nightly.py --nights 200              # without a shift
    python benchmarks/nightly.py --nights 20 --shift 2e-3 --at 10

Each night has one run of J/psi toys in one eta bin, and goes through the whole machine: catalogue,
cheap test, calibration, gate, store. Prints alarms, publications, the pulls of the residuals (with
the error of the constants in force, which all nights share), and seconds a night.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.nightly.night import nightly
from jobs.nightly.settings import load
from tests.nightly.toys import FIRST, scale, write_config, write_run


def main() -> None:
    """Replay the nights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--events", type=int, default=8000, help="a night")
    parser.add_argument("--shift", type=float, default=0.0, help="of A")
    parser.add_argument("--at", type=int, default=0, help="night with which it comes")
    parser.add_argument("--passes", type=int, default=1, help="of the cheap test")
    parser.add_argument("--limit", type=float, default=5e-4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        replay(Path(folder), asked)


def replay(folder: Path, asked: argparse.Namespace) -> None:
    """Go through the nights and print what came of them."""
    test = {"limit": asked.limit, "false_alarm": 1e-4, "passes": asked.passes}
    config = write_config(
        folder, calibrations=[scale(test=test)], buckets={"minimum": 8000, "unit": "events"}
    )
    outcomes, published, residuals, seconds = [], [], [], []
    for i in range(asked.nights):
        shift = asked.shift if asked.shift and i >= asked.at else 0.0
        write_run(folder / "incoming", FIRST + i, asked.events, shift)
        began = time.process_time()
        found = nightly(load(config), "benchmark")
        seconds.append(time.process_time() - began)
        for step in found.told:
            if step["state"] == "published":
                published.append((i, step["why"]))
        tested = [s["numbers"]["test"] for s in found.told if "test" in s["numbers"]]
        if tested:
            outcomes.append(tested[0]["outcome"])
            if tested[0]["value"] is not None:
                residuals.append((tested[0]["value"], tested[0]["error"]))
        if found.exit_code:
            print(f"night {i}: {found.calibrations[0].state}: {found.calibrations[0].why}")
    print(f"{asked.nights} nights of {asked.events} events, shift {asked.shift:g}")
    said = ", ".join(f"{o} {outcomes.count(o)}" for o in ("within", "outside", "undecided"))
    print(f"cheap tests: {said}; published {len(published)}:")
    for night, why in published:
        print(f"  night {night}: {why}")
    if len(residuals) > 1:
        values = [v for v, _ in residuals]
        stated = statistics.mean(e for _, e in residuals)
        print(
            f"residuals: mean {statistics.mean(values):+.2e}, spread {statistics.stdev(values):.2e}"
        )
        print(f"stated error, with that of the constants in force: {stated:.2e}")
    print(f"median {statistics.median(seconds):.2f} s of CPU a night, most {max(seconds):.1f} s")


if __name__ == "__main__":
    main()
