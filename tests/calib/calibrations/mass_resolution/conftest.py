"""Toys straight into the calibration: no files, no cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.events.histograms import Sums, add
from calib.events.pairs import Pairs
from calib.results import Pass, Reduction
from calib.schema import Sample
from calib.toys.generation import ToyEvents, Truth, generate
from processors.fill import fill

DATA = Sample(name="data", resonance="z", format="stage1", files=("toys",))
SIMULATION = Sample(name="mc", resonance="z", format="stage1", files=("toys",), simulation=True)


@dataclass(frozen=True)
class Run:
    """A calibration with its events and sums."""

    calibration: Calibration
    events: dict[str, ToyEvents]
    pairs: dict[str, Pairs]
    sums: dict[str, Sums]

    def walk(self, walk: Pass) -> dict[str, Sums]:
        return {
            s.name: collected(self.calibration, self.pairs[s.name], s, walk)
            for s in self.calibration.samples
        }


def selected(calibration: Calibration, pairs: Pairs, sample: Sample) -> Pairs:
    cuts = calibration.selection(sample)
    low, high = cuts["mass_window"]
    mass = pairs.mass
    pairs = pairs.take(
        (pairs.leading.pt >= cuts["leading_pt"])
        & (pairs.subleading.pt >= cuts["subleading_pt"])
        & (mass >= low)
        & (mass < high)
    )
    for mask in calibration.rejects(pairs, sample).values():
        if mask.any():
            pairs = pairs.take(~mask)
    return pairs


def collected(calibration: Calibration, pairs: Pairs, sample: Sample, walk: Pass) -> Sums:
    chunks = np.array_split(np.arange(len(pairs)), max(1, len(pairs) // 300_000))
    return add(fill(calibration.collect(pairs.take(c), sample, walk)) for c in chunks)


def make(settings: Settings, data: ToyEvents, simulation: ToyEvents | None = None) -> Run:
    samples = [DATA] + ([SIMULATION] if simulation else [])
    calibration = Calibration(settings, samples, seed=1)
    events = {"data": data} | ({"mc": simulation} if simulation else {})
    pairs = {s.name: selected(calibration, events[s.name].pairs, s) for s in samples}
    sums = {s.name: collected(calibration, pairs[s.name], s, Pass()) for s in samples}
    return Run(calibration, events, pairs, sums)


@pytest.fixture(scope="session")
def small() -> Run:
    """80 000 events: enough for the large categories."""
    return make(Settings(copies=6, compare=()), generate("z", 80_000, seed=12))


@pytest.fixture(scope="session")
def reduced(small: Run) -> Reduction:
    return small.calibration.reduce(small.sums, {})


@pytest.fixture(scope="session")
def large_data() -> ToyEvents:
    return generate("z", 600_000, seed=102)


@pytest.fixture(scope="session")
def embedded(large_data: ToyEvents) -> Run:
    return make(Settings(), large_data)


@pytest.fixture(scope="session")
def simulation(large_data: ToyEvents) -> Run:
    too_good = generate(
        "z", 1_200_000, seed=22, simulation=True, truth=Truth(resolution_scale=0.88)
    )
    return make(Settings(compare=()), large_data, too_good)
