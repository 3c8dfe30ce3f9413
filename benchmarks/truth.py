"""How far the factors are from the truth, over many sets of toys: bias, pulls, errors.

    python benchmarks/truth.py --sets 8 --events 600000

Each line is one kind of events; the weighted mean of factor/true - 1 is over all categories of at
least 4000 events of all sets, and so are the pulls.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.events.histograms import Sums, add
from calib.events.pairs import Pairs
from calib.results import Pass
from calib.schema import Sample
from calib.toys.generation import Truth, generate
from processors.fill import fill

DATA = Sample(name="data", resonance="z", format="stage1", files=("toys",))
SIMULATION = Sample(name="mc", resonance="z", format="stage1", files=("toys",), simulation=True)

KINDS = {
    "embedded": Truth(),
    "embedded, resolution 1.5 times wider": Truth(resolution_scale=1.5),
    "embedded, 10 % background": Truth(background=0.10),
    "embedded, pair pt 10 GeV": Truth(pair_pt=10.0),
    "simulation, 12 % too good": Truth(),
}


def selected(calibration: Calibration, pairs: Pairs, sample: Sample) -> Pairs:
    """Return the pairs that pass the calibration's own selection."""
    cuts = calibration.selection(sample)
    mass = pairs.mass
    pairs = pairs.take(
        (pairs.leading.pt >= cuts["leading_pt"])
        & (pairs.subleading.pt >= cuts["subleading_pt"])
        & (mass >= cuts["mass_window"][0])
        & (mass < cuts["mass_window"][1])
    )
    for mask in calibration.rejects(pairs, sample).values():
        pairs = pairs.take(~mask) if mask.any() else pairs
    return pairs


def collected(calibration: Calibration, pairs: Pairs, sample: Sample) -> Sums:
    """Return the sums of a sample, chunk by chunk."""

    def parts() -> Iterator[Sums]:
        for rows in np.array_split(np.arange(len(pairs)), max(1, len(pairs) // 250_000)):
            yield fill(calibration.collect(pairs.take(rows), sample, Pass()))

    return add(parts())


def one(kind: str, seed: int, events: int) -> tuple[np.ndarray, np.ndarray]:
    """Return factor/true - 1 and its error for the categories of one set."""
    data = generate("z", events, seed=seed, truth=KINDS[kind])
    samples = [DATA]
    calibration = Calibration(Settings(compare=()), samples, seed=1)
    pairs = {"data": selected(calibration, data.pairs, DATA)}
    if kind.startswith("simulation"):
        samples = [DATA, SIMULATION]
        calibration = Calibration(Settings(compare=()), samples, seed=1)
        simulated = generate(
            "z", 2 * events, seed=seed, simulation=True, truth=Truth(resolution_scale=0.88)
        )
        pairs["mc"] = selected(calibration, simulated.pairs, SIMULATION)
    sums = {s.name: collected(calibration, pairs[s.name], s) for s in samples}
    table = calibration.reduce(sums, {}).tables["factors"]
    table = table[(table["n_events"] >= 4000) & (table["status"] == "ok")]
    truth = Calibration.truth(pairs["data"])
    assert truth is not None
    true = np.array([truth["truth"][name] for name in table["category"]])
    return (table["factor"] / true - 1).to_numpy(), (
        table["factor_err"] / table["factor"]
    ).to_numpy()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    print("| events | mean of factor/true - 1 | pull rms | worst pull | median error |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        found = [one(kind, options.seed + i, options.events) for i in range(options.sets)]
        relative, error = (np.concatenate(x) for x in zip(*found, strict=True))
        weight, pulls = error**-2, relative / error
        mean, mean_error = np.average(relative, weights=weight), weight.sum() ** -0.5
        print(
            f"| {kind} | {100 * mean:+.2f} ± {100 * mean_error:.2f} % |"
            f" {np.sqrt(np.mean(pulls**2)):.2f} | {np.abs(pulls).max():.1f} |"
            f" {100 * np.median(error):.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
