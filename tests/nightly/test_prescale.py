"""One event in so many, by its numbers: the same ones in any chunk, and all accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from calib.quality.buckets import kept
from calib.results import Pass
from calib.toys.generation import generate
from jobs.event_loop import collection
from jobs.events.toys import write_toys
from jobs.run.run import Run


def test_a_prescale_uses_the_same_events_whatever_the_chunks(tmp_path: Path) -> None:
    made = generate("z", 4000, seed=3)
    write_toys(tmp_path / "data", made, "stage1", 1)
    found = []
    for name, chunk in (("one", 4000), ("many", 500)):
        values = {
            "name": "z",
            "calibration": "mass_resolution",
            "chunk_size": chunk,
            "samples": [
                {
                    "name": "data",
                    "resonance": "z",
                    "format": "stage1",
                    "files": [str(tmp_path / "data")],
                }
            ],
            "selection": {"prescale": 4},
            "settings": {"copies": 1},
            "cluster": {"kind": "inline"},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        work = Run.prepare(path, tmp_path / name)
        work.adopt()
        work.collect()
        found.append(collection.sums(work, Pass())["data"]["mass/counts"])
        totals = json.loads((tmp_path / name / "accounting.json").read_text())
        totals = totals["samples"]["data"]["totals"]
        lost = sum(totals["rejected"].values())
        assert totals["selected"] + lost == 4000
        assert 0.6 < totals["rejected"]["prescaled"] / (4000 - lost) / 3 < 1.6
    np.testing.assert_array_equal(*found)
    numbers = (made.pairs.run, made.pairs.luminosityBlock, made.pairs.event)
    assert abs(kept(*numbers, 4.0).mean() - 0.25) < 0.03
