"""Constants that correct nothing: new runs are measured again, and compared with those in force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calib.quality.publication_gate import Effects, relative
from calib.toys.generation import generate
from jobs.events.toys import truth_of_toys, write_stage1
from jobs.nightly.states import State

from .conftest import Place

EVENTS = 40_000
WORSE = 1.3


def write(place: Place, run: int, worse: float = 1.0) -> None:
    """Write a run of J/psi with impact parameters, d0 times a factor."""
    truth = truth_of_toys("impact-parameter", "jpsi", False)
    pairs = generate("jpsi", EVENTS, seed=run, truth=truth).pairs
    muons = [
        replace(m, extra={**m.extra, "dxy": worse * np.asarray(m.extra["dxy"])})
        for m in (pairs.leading, pairs.subleading)
    ]
    moved = replace(pairs, leading=muons[0], subleading=muons[1], run=np.full_like(pairs.run, run))
    folder = place.folder / "incoming"
    folder.mkdir(exist_ok=True)
    write_stage1(folder / f"{run}.parquet", moved, False)


def test_a_resolution_that_gets_worse_is_seen_in_the_night_it_comes(place: Place) -> None:
    place.configure(
        samples=[
            {
                "name": "jpsi",
                "resonance": "jpsi",
                "format": "stage1",
                "watch": ["incoming/*.parquet"],
            }
        ],
        buckets={"minimum": EVENTS, "unit": "events"},
        calibrations=[
            {
                "name": "ip",
                "calibration": "impact_parameter",
                "settings": {"eta": [-2.4, -0.8, 0.8, 2.4]},
                "test": {"limit": 0.05, "fraction": 1.0},
                "gate": {"cut": 0.02, "max": 0.6, "error_max": 0.3},
            }
        ],
    )
    write(place, 1001)
    place.night()
    assert place.intervals("impact_parameter") == [(1001, 1001)]
    write(place, 1002)
    [found] = place.night().calibrations
    assert found.state is State.WAITING and "are good" in found.why
    assert place.intervals("impact_parameter") == [(1001, 1002)]
    before = place.store.payload(place.store.at(1001, "impact_parameter"))
    write(place, 1003, WORSE)
    place.night()
    assert place.intervals("impact_parameter") == [(1001, 1002), (1003, 1003)]
    assert place.store.payload(place.store.at(1002, "impact_parameter")) == before


def test_relative_changes() -> None:
    change = Effects(
        ("a", "b", "c"), np.array([0.5, 0.1, 0.0]), np.diag([0.01, 0.04, 0.0]), np.ones(3, bool)
    )
    before = Effects(("a", "b", "c"), np.array([-5.0, 0.0, np.nan]), np.eye(3), np.ones(3, bool))
    found = relative(change, before)
    assert found.values[0] == pytest.approx(0.1) and found.errors[0] == pytest.approx(0.02)
    assert np.isnan(found.values[1])  # of nothing there is no share
    assert found.values[2] == 0.0  # it was nowhere, and is
