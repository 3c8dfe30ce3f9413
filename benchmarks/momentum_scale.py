"""How far A, e, M and the resolution are from the truth, over sets of toys through `calib run`.

    python benchmarks/momentum_scale.py [--events 4000000] [--sets 1] [--resonances jpsi z]

Each set is data and a simulation with biases and a resolution of its own, written as
`calib toys` writes them and calibrated as `calib run` does, in the 48 eta bins of the truth.
The toys are kept in --cache and used again; a run goes on where it stopped.

The correction of a muon is k_corr/k = 1 + A - e k + q M/k, and its error that of the fitted
parameters minus that of the true ones, in all determined eta bins and for both charges. The mean
over the bins has its error from their scatter. The weighted mean (by the errors that the published
covariance gives to each bin, with its error from all of that covariance) does not hang on the bins
with few muons. Pulls are over the same bins; those of the resolution are of a^2 and c^2, in which
the width is linear.
"""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from calib.digests import digest
from calib.toys import decay, generation
from calib.toys import truth as toys_truth
from calib.toys.generation import Truth, generate, momentum_truth
from jobs.events.toys import write_toys
from jobs.run.run import Run

SHARES = {"jpsi": 1.0, "upsilon": 0.5, "z": 0.25}
"""Events of each resonance over those of the J/psi."""

PTS = (6.0, 10.0, 20.0)
PULLS = {"A": "A", "e": "e", "M": "M", "a2": "a", "c2": "c"}


@dataclass(frozen=True)
class Found:
    """Errors of the correction by pt, shape (eta bins, 2 charges); pulls by parameter.

    ``weighted`` holds the weighted mean over the eta bins and its error, by pt.
    """

    errors: dict[float, np.ndarray]
    weighted: dict[float, tuple[float, float]]
    pulls: dict[str, np.ndarray]
    undetermined: int


# events --------------------------------------------------------------------------------------
def made(cache: Path, resonance: str, simulation: bool, events: int, seed: int) -> Path:
    """Return the folder of the toys, and make them if they are not there."""
    truth = momentum_truth(simulation=simulation, resonance=resonance)
    code = [inspect.getsource(module) for module in (generation, decay, toys_truth)]
    key = digest(json.dumps(asdict(truth)), code)[:8]
    kind = "mc" if simulation else "data"
    out = cache / f"{resonance}_{kind}_{events}_{seed}_{key}"
    if not (out / "truth.json").is_file():
        pairs = generate(resonance, events, seed=seed, truth=truth, simulation=simulation)
        write_toys(out, pairs, "stage1", files=4)
    return out


def calibrated(out: Path, folders: dict[str, list[Path]], options: argparse.Namespace) -> None:
    """Do what `calib run` does, with data and simulation of each resonance."""
    samples = [
        {
            "name": f"{resonance}_{kind}",
            "resonance": resonance,
            "format": "stage1",
            "files": [str(folder)],
            **({"simulation": True} if kind == "mc" else {}),
        }
        for resonance, both in folders.items()
        for kind, folder in zip(("data", "mc"), both, strict=False)
    ]
    cluster = {"kind": "local", "workers": options.workers}
    config = {
        "name": out.name,
        "calibration": "momentum_scale",
        "samples": samples,
        "settings": yaml.safe_load(options.settings),
        "cluster": cluster if options.workers > 1 else {"kind": "inline"},
    }
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    work = Run.prepare(path, out)
    with work.directory.lock("benchmarks/momentum_scale.py"):
        work.adopt()
        work.execute()


# what came out -------------------------------------------------------------------------------
def compared(table: pd.DataFrame, truth: Truth, covariance: np.ndarray) -> Found:
    """Return the errors and pulls of the eta bins that are determined.

    ``covariance`` is that of all A, all e, all M ... and only gives the weights.
    """
    ok = (table["status"] == "ok").to_numpy()
    true = {name: np.asarray(getattr(truth, name))[ok] for name in ("A", "e", "M", "a", "c")}
    true |= {"a2": true["a"] ** 2, "c2": true["c"] ** 2}
    fitted = {name: table[name].to_numpy()[ok] for name in PULLS}
    wrong = {name: fitted[name] - true[name] for name in PULLS}
    # the toys of data and simulation radiate alike: the systematic errors have nothing to cover
    own = {n: f"{n}_stat_err" if f"{n}_stat_err" in table else f"{n}_err" for n in PULLS}
    pulls = {name: wrong[name] / table[own[name]].to_numpy()[ok] for name in PULLS}
    errors = {
        pt: (wrong["A"] - wrong["e"] / pt)[:, None] + wrong["M"][:, None] * pt * np.array([1, -1])
        for pt in PTS
    }
    weighted = {}
    for pt, error in errors.items():
        cov = _of_correction(covariance, len(ok), pt)[np.ix_(ok, ok)]
        weight = 1 / np.diagonal(cov)
        weight /= weight.sum()
        weighted[pt] = float(weight @ error.mean(axis=1)), float(weight @ cov @ weight) ** 0.5
    return Found(errors, weighted, pulls, int(np.count_nonzero(~ok)))


def _of_correction(covariance: np.ndarray, n: int, pt: float) -> np.ndarray:
    """Return the covariance of A - e/pt of the eta bins, shape (n, n); NaN as infinite."""
    jacobian = np.hstack([np.eye(n), -np.eye(n) / pt])
    known = np.where(np.isfinite(covariance[: 2 * n, : 2 * n]), covariance[: 2 * n, : 2 * n], 0.0)
    return jacobian @ known @ jacobian.T


def row(name: str, found: Sequence[Found]) -> str:
    """Return a line of the table: all sets together."""
    errors = {pt: np.concatenate([f.errors[pt].ravel() for f in found]) for pt in PTS}
    pulls = {p: np.concatenate([f.pulls[p] for f in found]) for p in PULLS}
    of_bins = {pt: np.concatenate([f.errors[pt].mean(axis=1) for f in found]) for pt in PTS}
    biases = ", ".join(
        f"{1e5 * x.mean():+.1f} ± {1e5 * x.std() / np.sqrt(len(x)):.1f}" for x in of_bins.values()
    )
    heavy = ", ".join(_weighted([f.weighted[pt] for f in found]) for pt in PTS)
    means = ", ".join(f"{x.mean():+.2f}" for x in pulls.values())
    widths = ", ".join(f"{x.std():.2f}" for x in pulls.values())
    bins = sum(len(f.pulls["A"]) for f in found), sum(f.undetermined for f in found)
    return (
        f"| {name} | {bins[0]} ({bins[1]} not) | {biases} | {heavy} |"
        f" {1e5 * errors[10.0].std():.1f} | {means} | {widths} |"
    )


def _weighted(sets: Sequence[tuple[float, float]]) -> str:
    mean, error = np.mean([m for m, _ in sets]), np.sqrt(np.sum([e**2 for _, e in sets]))
    return f"{1e5 * mean:+.1f} ± {1e5 * error / len(sets):.1f}"


def numbers(out: Path) -> str:
    """Return lines about the chi2, the passes and the seconds of one run."""
    extraction = pd.read_csv(out / "extraction.csv")
    lines = [
        f"- {r['kind']}, {r['method']}: chi2/ndf {r['chi2']:.0f}/{r['ndf']} ="
        f" {r['chi2'] / r['ndf']:.3f}, {r['n_categories']} categories"
        for _, r in extraction.iterrows()
    ]
    made = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["steps"]
    seconds = ", ".join(f"{step} {spent['wall_s']:.1f}" for step, spent in made.items())
    verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    failed = [c["name"] for c in verdict["checks"] if not c["passed"]]
    return "\n".join(
        [*lines, f"- seconds: {seconds}", f"- checks not passed: {', '.join(failed) or 'none'}"]
    )


def tables_of(out: Path) -> dict[str, tuple[pd.DataFrame, Truth]]:
    """Return each table of parameters in a run, with its truth."""
    data, simulation = momentum_truth(), momentum_truth(simulation=True)
    wanted = {
        "data, published": ("parameters", data),
        "data, chi2": ("parameters_chi2", data),
        "data, likelihood": ("parameters_likelihood", data),
        "simulation": ("parameters_simulation", simulation),
    }
    return {
        name: (pd.read_csv(out / f"{file}.csv"), truth)
        for name, (file, truth) in wanted.items()
        if (out / f"{file}.csv").is_file()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=4_000_000, help="J/psi pairs of the data")
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--resonances", nargs="+", default=["jpsi"], choices=sorted(SHARES))
    parser.add_argument("--simulated", type=float, default=1.0, help="over the data; 0: none")
    parser.add_argument("--settings", default="{}", help="of the calibration, as YAML")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "calib-momentum-scale"
    )
    parser.add_argument("--keep", action="store_true", help="keep and go on with the runs")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Found]] = {}
    for seed in range(options.seed, options.seed + options.sets):
        begun = time.perf_counter()
        folders = {
            r: [
                made(options.cache, r, simulation, round(SHARES[r] * share * options.events), seed)
                for simulation, share in ((False, 1.0), (True, options.simulated))
                if share > 0
            ]
            for r in options.resonances
        }
        toys_s, begun = time.perf_counter() - begun, time.perf_counter()
        asked = digest(options.resonances, options.events, options.simulated, options.settings)
        out = options.cache / f"run_{seed}_{asked[:8]}"
        if out.exists() and not options.keep:
            shutil.rmtree(out)
        calibrated(out, folders, options)
        run_s = time.perf_counter() - begun
        sys.stdout.write(f"set {seed}: toys {toys_s:.1f} s, run {run_s:.1f} s, in {out}\n")
        sys.stdout.write(numbers(out) + "\n")
        with np.load(out / "covariance.npz") as file:
            covariance = file["covariance_stat"]
        for name, (table, truth) in tables_of(out).items():
            found.setdefault(name, []).append(compared(table, truth, covariance))
    pts = ", ".join(f"{pt:g}" for pt in PTS)
    sys.stdout.write(
        f"\n| what | eta bins | bias of k_corr/k at pt {pts} GeV, 1e-5 | weighted, 1e-5 |"
        " rms at 10 GeV, 1e-5 |"
        " pull means A, e, M, a2, c2 | pull widths |\n|---|---|---|---|---|---|---|\n"
    )
    for name, sets in found.items():
        sys.stdout.write(row(name, sets) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
