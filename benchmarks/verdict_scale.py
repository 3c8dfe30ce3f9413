"""Whether a verdict on the momentum scale can be trusted: right results pass, wrong ones do not.

    python benchmarks/verdict_scale.py [--sets 3] [--events 500000] [--z 300000] [--eta 24]
        [--cases clean radiation background tails phi phi_first]

A set is J/psi data and as many simulated ones (with biases and a resolution of their own), and Z of
both kinds. ``clean`` sets have nothing that the calibration does not describe; the others have
one thing in the J/psi data that it does not know of:

- ``radiation``: photons 1.2 times as often, in the data alone;
- ``background``: 15 % under the peak, rising from nothing below 3 GeV;
- ``tails``: 2 % of the muons with 2.5 times the resolution;
- ``phi``: A + 5e-4 cos(2 phi);
- ``phi_first``: A + 5e-4 cos(phi), in the truth of the toys, in 48 bins of phi.

The table has the checks that did not pass, the mean of the mass along each axis, and the largest
and mean error of the correction k_corr/k at 10 GeV, also in units of what is stated (the
statistical error and the systematic ones together). Everything runs in this process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy.special import ndtr

from calib.calibrations.momentum_scale import Calibration
from calib.calibrations.momentum_scale.settings import Settings
from calib.events.histograms import Sums, add
from calib.events.pairs import Muons, Pairs
from calib.results import Closure, Pass, Reduction
from calib.schema import Sample
from calib.toys import decay
from calib.toys.generation import ToyEvents, Truth, generate, momentum_truth
from processors.fill import fill

CHUNK = 250_000
AT = 10.0
"""GeV, where the correction is compared with the truth."""


# events --------------------------------------------------------------------------------------
def radiating(strength: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Return the toys' photons, as often as a strength says; 1 is what they are."""

    def fraction(mass: np.ndarray, random: np.random.Generator) -> np.ndarray:
        rate = strength * decay.ALPHA / np.pi * (2 * np.log(mass / decay.MUON_MASS) - 1)
        x = decay.MIN_PHOTON ** random.random(len(mass))
        emits = random.random(len(mass)) < rate * -np.log(decay.MIN_PHOTON)
        accepted = random.random(len(mass)) < (1 + (1 - x) ** 2) / 2
        return np.where(emits & accepted, x, 0.0)

    return fraction


def scaled(pairs: Pairs, factor: Callable[[Muons], np.ndarray]) -> Pairs:
    """Return the pairs with every pt times a factor of the muon."""
    first, second = pairs.leading, pairs.subleading
    return replace(
        pairs,
        leading=replace(first, pt=first.pt * factor(first)),
        subleading=replace(second, pt=second.pt * factor(second)),
    )


def with_turn_on(made: ToyEvents, n: int, seed: int) -> Pairs:
    """Return pairs whose background rises from nothing at 2.95 GeV, over 0.1 GeV."""
    random = np.random.default_rng([seed, 5])
    kept = random.random(len(made.pairs)) < ndtr((made.pairs.mass - 2.95) / 0.1)
    return made.pairs.take(np.flatnonzero(~made.background | kept)[:n])


def with_tails(pairs: Pairs, truth: Truth, seed: int) -> Pairs:
    """Return pairs with 2 % of the muons measured 2.5 times worse."""
    random = np.random.default_rng([seed, 6])

    def factor(muon: Muons) -> np.ndarray:
        at = truth.bins(muon.eta)
        width = np.hypot(np.asarray(truth.a)[at], np.asarray(truth.c)[at] * muon.pt)
        bad = random.random(len(muon.pt)) < 0.02
        more = np.sqrt(2.5**2 - 1) * width * random.standard_normal(len(muon.pt))
        return 1 / np.where(bad, 1 + more, 1.0)

    return scaled(pairs, factor)


def jpsi(case: str, n: int, seed: int, n_eta: int, strength: float = 1.2) -> Pairs:
    """Return the J/psi data of a case; ``strength`` is that of the radiation in its case."""
    truth = momentum_truth(n_eta)
    if case == "radiation":
        with patch.object(decay, "photon_fraction", radiating(strength)):
            return generate("jpsi", n, seed=seed, truth=truth).pairs
    if case == "background":  # about a sixth of it goes with the turn-on
        made = generate("jpsi", int(1.1 * n), seed=seed, truth=replace(truth, background=0.19))
        return with_turn_on(made, n, seed)
    if case == "phi_first":
        edges = np.linspace(-np.pi, np.pi, 49)
        wave = tuple((5e-4 * np.cos(0.5 * (edges[1:] + edges[:-1]))).tolist())
        flat = ((0.0,) * len(wave),) * n_eta
        truth = replace(truth, phi_edges=tuple(edges.tolist()), A_phi=(wave,) * n_eta, M_phi=flat)
    pairs = generate("jpsi", n, seed=seed, truth=truth).pairs
    if case == "tails":
        return with_tails(pairs, truth, seed)
    if case == "phi":
        return scaled(pairs, lambda muon: 1 + 5e-4 * np.cos(2 * muon.phi))
    return pairs


CASES = ("clean", "radiation", "background", "tails", "phi", "phi_first")


def events(case: str, n: int, n_z: int, seed: int, n_eta: int) -> list[tuple[Sample, Pairs]]:
    """Return the samples of a set with their pairs."""
    found = [
        (sample("jpsi"), jpsi(case, n, 10 * seed + 1, n_eta)),
        (sample("jpsi", True), _simulated("jpsi", n, 10 * seed + 2, n_eta)),
    ]
    if n_z:
        truth = momentum_truth(n_eta, resonance="z")
        z = generate("z", n_z, seed=10 * seed + 3, truth=truth).pairs
        found += [(sample("z"), z), (sample("z", True), _simulated("z", n_z, 10 * seed + 4, n_eta))]
    return found


def _simulated(resonance: str, n: int, seed: int, n_eta: int) -> Pairs:
    truth = momentum_truth(n_eta, True, resonance=resonance)
    return generate(resonance, n, seed=seed, truth=truth, simulation=True).pairs


def sample(resonance: str, simulation: bool = False) -> Sample:
    """Return a sample without files."""
    name = f"{resonance}-mc" if simulation else resonance
    return Sample(
        name=name, resonance=resonance, format="stage1", files=("-",), simulation=simulation
    )


# the calibration -----------------------------------------------------------------------------
def selected(calibration: Calibration, pairs: Pairs, of: Sample) -> Pairs:
    """Return the pairs that the event loop would take."""
    cuts = calibration.selection(of)
    low, high = cuts["mass_window"]
    mass = pairs.mass
    return pairs.take(
        (pairs.leading.pt >= cuts["leading_pt"])
        & (pairs.subleading.pt >= cuts["subleading_pt"])
        & (mass >= low)
        & (mass < high)
    )


def collected(calibration: Calibration, pairs: Mapping[str, Pairs], walk: Pass) -> dict[str, Sums]:
    """Return the sums of a pass."""
    out = {}
    for s in calibration.samples:
        own = pairs[s.name]
        chunks = np.array_split(np.arange(len(own)), max(1, len(own) // CHUNK))
        out[s.name] = add(fill(calibration.collect(own.take(c), s, walk)) for c in chunks)
    return out


def calibrated(settings: Settings, of: Sequence[tuple[Sample, Pairs]]) -> tuple[Reduction, Closure]:
    """Do what `calib run` does: pass after pass, then the closure."""
    calibration = Calibration(settings, [s for s, _ in of], seed=1)
    pairs = {s.name: selected(calibration, p, s) for s, p in of}
    following: Pass | None = Pass()
    while following is not None:
        reduction = calibration.reduce(collected(calibration, pairs, following), {}, following)
        following = calibration.next_pass(reduction, following)
    walk = calibration.closure_pass(reduction)
    return reduction, calibration.closure(collected(calibration, pairs, walk), reduction)


# what came out -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Outcome:
    """One set: checks that failed, means of the axes (value, error), bias over stated error."""

    failed: tuple[str, ...]
    means: dict[str, tuple[float, float]]
    off: np.ndarray
    stated: np.ndarray
    mean_off: float
    mean_stated: float
    seconds: float


def outcome(case: str, seed: int, n: int, n_z: int, n_eta: int, **options: Any) -> Outcome:
    """Calibrate one set and compare it with its truth; ``options`` are settings."""
    begun = time.perf_counter()
    edges = tuple(float(x) for x in np.linspace(-2.4, 2.4, n_eta + 1).round(10))
    settings = Settings(eta=edges, **options)
    reduction, closure = calibrated(settings, events(case, n, n_z, seed, n_eta))
    off, covariance = correction_errors(reduction, momentum_truth(n_eta), n_eta)
    weight = 1 / np.diagonal(covariance)
    weight /= weight.sum()
    return Outcome(
        tuple(c.name for c in (*reduction.checks, *closure.checks) if not c.passed),
        axis_means(closure),
        off,
        np.sqrt(np.diagonal(covariance)),
        float(weight @ off),
        float(np.sqrt(weight @ covariance @ weight)),
        time.perf_counter() - begun,
    )


def correction_errors(
    reduction: Reduction, truth: Truth, n_eta: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the error of k_corr/k at 10 GeV in both charges' mean, and its covariance."""
    found = reduction.arrays["covariance"]
    values, covariance = found["values"][: 2 * n_eta], found["covariance"]
    jacobian = np.hstack([np.eye(n_eta), -np.eye(n_eta) / AT])
    off = jacobian @ (values - np.concatenate([truth.A, truth.e]))
    good = np.isfinite(off)
    matrix = jacobian @ covariance[: 2 * n_eta, : 2 * n_eta] @ jacobian.T
    return off[good], matrix[np.ix_(good, good)]


def axis_means(closure: Closure) -> dict[str, tuple[float, float]]:
    """Return the weighted mean of the mass over the bins of each axis, minus 1."""
    table = closure.table[closure.table["kind"].isin(["axis", "axis_fit"])]
    table = table[(table["half"] == "all") & (table["error"] > 0)]
    out = {}
    for (name, variable), rows in table.groupby(["sample", "variable"], sort=False):
        own = rows[rows["charge"] == "plus"]  # every event once
        weight = own["error"].to_numpy() ** -2.0
        mean = float((weight * (own["fitted"].to_numpy() - 1)).sum() / weight.sum())
        out[f"{name} {variable}"] = mean, float(weight.sum() ** -0.5)
    return out


def row(case: str, seed: int, found: Outcome) -> str:
    """Return a line of the table."""
    means = ", ".join(f"{k} {1e5 * m:+.1f}" for k, (m, _) in found.means.items())
    pulls = found.off / found.stated
    return (
        f"| {case} {seed} | {'passed' if not found.failed else 'not passed'} |"
        f" {', '.join(found.failed) or '-'} | {means} |"
        f" {1e5 * found.mean_off:+.1f} ± {1e5 * found.mean_stated:.1f} |"
        f" {np.sqrt(np.mean(pulls**2)):.2f}, {np.abs(pulls).max():.1f} | {found.seconds:.0f} |"
    )


def summary(case: str, sets: Sequence[Outcome]) -> str:
    """Return what all sets of a case say together."""
    bad = sum(bool(found.failed) for found in sets)
    means = []
    for name in sets[0].means:
        values = np.array([found.means[name][0] for found in sets])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        means.append(f"{name} {1e5 * values.mean():+.1f} ± {1e5 * error:.1f}")
    return f"{case}: {bad} of {len(sets)} not passed; means, 1e-5: {', '.join(means)}"


HEADER = (
    "| set | verdict | checks not passed | mean along axes, 1e-5 | k_corr/k at 10 GeV, 1e-5 |"
    " off / stated: rms, worst | seconds |\n|---|---|---|---|---:|---:|---:|\n"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--events", type=int, default=500_000, help="J/psi, of data and simulation")
    parser.add_argument("--z", type=int, default=300_000, help="Z, of data and simulation; 0: none")
    parser.add_argument("--eta", type=int, default=24, help="eta bins")
    parser.add_argument("--cases", nargs="+", default=["clean"], choices=CASES)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(HEADER)
    lines = []
    for case in options.cases:
        sets = []
        for seed in range(options.seed, options.seed + options.sets):
            sets.append(outcome(case, seed, options.events, options.z, options.eta))
            sys.stdout.write(row(case, seed, sets[-1]) + "\n")
            sys.stdout.flush()
        lines.append(summary(case, sets))
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
