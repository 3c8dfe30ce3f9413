"""Toys straight into the calibration, pass after pass: no files, no cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from calib.calibrations.momentum_scale import Calibration
from calib.calibrations.momentum_scale.settings import Settings
from calib.events.histograms import Sums, add
from calib.events.pairs import Pairs
from calib.results import Pass, Reduction
from calib.schema import Sample
from calib.toys.generation import generate, momentum_truth
from calib.types import Array
from processors.fill import fill

ETA = tuple(np.linspace(-2.4, 2.4, 9).round(10))


@dataclass(frozen=True)
class Run:
    """A calibration with its events, the passes it asked for, and what came of the last."""

    calibration: Calibration
    pairs: Mapping[str, Pairs]
    walks: tuple[Pass, ...]
    sums: Mapping[str, Sums]
    reduction: Reduction

    def walk(self, walk: Pass) -> dict[str, Sums]:
        return collected(self.calibration, self.pairs, walk)


def sample(resonance: str, simulation: bool = False) -> Sample:
    name = f"{resonance}-mc" if simulation else resonance
    return Sample(
        name=name, resonance=resonance, format="stage1", files=("-",), simulation=simulation
    )


def selected(calibration: Calibration, pairs: Pairs, of: Sample) -> Pairs:
    cuts = calibration.selection(of)
    low, high = cuts["mass_window"]
    return pairs.take(
        (pairs.leading.pt >= cuts["leading_pt"])
        & (pairs.subleading.pt >= cuts["subleading_pt"])
        & (pairs.mass >= low)
        & (pairs.mass < high)
    )


def collected(calibration: Calibration, pairs: Mapping[str, Pairs], walk: Pass) -> dict[str, Sums]:
    out = {}
    for s in calibration.samples:
        own = pairs[s.name]
        chunks = np.array_split(np.arange(len(own)), max(1, len(own) // 300_000))
        out[s.name] = add(fill(calibration.collect(own.take(c), s, walk)) for c in chunks)
    return out


def calibrate(settings: Settings, events: Sequence[tuple[Sample, Pairs]]) -> Run:
    calibration = Calibration(settings, [s for s, _ in events], seed=1)
    pairs = {s.name: selected(calibration, p, s) for s, p in events}
    walks, following = [], Pass()
    while following is not None:
        walks.append(following)
        sums = collected(calibration, pairs, following)
        reduction = calibration.reduce(sums, {}, following)
        following = calibration.next_pass(reduction, following)
    return Run(calibration, pairs, tuple(walks), sums, reduction)


def toys(resonance: str, n: int, seed: int, simulation: bool = False) -> Pairs:
    truth = momentum_truth(n_eta=len(ETA) - 1, simulation=simulation, resonance=resonance)
    return generate(resonance, n, seed=seed, truth=truth, simulation=simulation).pairs


def pulls(reduction: Reduction, truth: object, kind: str, table: str = "parameters") -> Array:
    """Return (fitted - true)/error of the eta bins that are determined."""
    rows = reduction.tables[table]
    good = rows["status"] == "ok"
    found = (rows[kind] - np.asarray(getattr(truth, kind))) / rows[f"{kind}_err"]
    return found[good].to_numpy()


@pytest.fixture(scope="session")
def jpsi() -> Run:
    """J/psi data with a simulation that has a scale and a resolution of its own."""
    return calibrate(
        Settings(eta=ETA),
        [
            (sample("jpsi"), toys("jpsi", 400_000, 31)),
            (sample("jpsi", True), toys("jpsi", 400_000, 32, simulation=True)),
        ],
    )
