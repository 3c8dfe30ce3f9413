"""Is the verdict of the mass resolution right? Clean sets must pass, and wrong ones must not.

    python benchmarks/verdict.py [--kinds clean clean_rings radiation] [--sets 20] [--events 300000]

The events come from a second generator that shares no formula with the package
(`tests/independent.py`), the truth from 9 million independent events of it. Each line is one kind
of events (a world); a set is calibrated and closed as `calib run` does, in this process. Results
are kept in --cache, by kind, events and seed, and are not made again.

With --power: from how many events on a factor of 1.1, 1.2 or 1.3 in one category is seen, beside a
clean set of the same events. ``moved`` is by how much ln(factor) follows, of what was put in, and
``seen`` that in units of its stated error; the last line has the events for three of them.

Columns: verdicts not passed, and by which checks; root mean square of the pulls of all published
factors, the worst of them, and of those below 300 events; root mean square of the relative error
of factors with a status ok; mean over the sets of the weighted mean of ln(factor/truth), its
stated error and the chi2 of the sets; how often a verdict was passed although a factor, or the
mean of all, was off by more than --most stated errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import category_of
from calib.events.histograms import Sums, add
from calib.events.pairs import Pairs
from calib.results import Pass
from calib.schema import Sample
from processors.fill import fill
from tests.independent import World, generate, true_factors, worlds

DATA = Sample(name="data", resonance="z", format="stage1", files=("toys",))
SIMULATION = Sample(name="mc", resonance="z", format="stage1", files=("toys",), simulation=True)
KINDS = [name for name in worlds() if not name.startswith("jpsi")]


def selected(calibration: Calibration, pairs: Pairs, sample: Sample) -> Pairs:
    """Return the pairs that pass the calibration's own selection."""
    cuts = calibration.selection(sample)
    low, high = cuts["mass_window"]
    mass = pairs.mass
    keep = (pairs.leading.pt >= cuts["leading_pt"]) & (pairs.subleading.pt >= cuts["subleading_pt"])
    pairs = pairs.take(keep & (mass >= low) & (mass < high))
    for mask in calibration.rejects(pairs, sample).values():
        pairs = pairs.take(~mask)
    return pairs


def collected(calibration: Calibration, pairs: Pairs, sample: Sample, walk: Pass) -> Sums:
    """Return the sums of a sample, chunk by chunk."""

    def parts() -> Iterator[Sums]:
        for rows in np.array_split(np.arange(len(pairs)), max(1, len(pairs) // 250_000)):
            yield fill(calibration.collect(pairs.take(rows), sample, walk))

    return add(parts())


def world_of(kind: str) -> tuple[World, World | None]:
    """Return the world of the data, and that of the simulation where there is one."""
    found = worlds()[kind]
    return found if isinstance(found, tuple) else (found, None)


def one(kind: str, events: int, seed: int, settings: dict[str, object], cache: Path) -> dict:
    """Return verdict and factors of one set."""
    digest = f"{kind}-{events}-{seed}" + "".join(f"-{k}={v}" for k, v in settings.items())
    kept = cache / f"{digest}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    data, simulation = world_of(kind)
    samples = [DATA] if simulation is None else [DATA, SIMULATION]
    calibration = Calibration(Settings(compare=(), **settings), samples, seed=1)
    events_of = {"data": generate("z", events, data, seed=seed)[0]}
    if simulation is not None:
        events_of["mc"], _ = generate("z", 2 * events, simulation, seed=seed, simulation=True)
    pairs = {s.name: selected(calibration, events_of[s.name], s) for s in samples}
    sums = {s.name: collected(calibration, pairs[s.name], s, Pass()) for s in samples}
    reduction = calibration.reduce(sums, {})
    walk = calibration.closure_pass(reduction)
    closure = calibration.closure(
        {s.name: collected(calibration, pairs[s.name], s, walk) for s in samples}, reduction
    )
    checks = (*reduction.checks, *closure.checks)
    table = reduction.tables["factors"]
    covariance = reduction.arrays["covariance"]
    found = {
        "failed": [c.name for c in checks if not c.passed],
        "texts": [c.text for c in checks if not c.passed],
        "checks": {c.name: float(c.value) for c in checks},
        **{k: table[k].tolist() for k in ("factor", "factor_err", "status", "n_events")},
        "covariance": covariance["covariance"].tolist(),
    }
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


def line(kind: str, found: list[dict], cache: Path, most: float) -> str:
    """Return the line of the table for one kind."""
    truth = true_factors(world_of(kind)[0], folder=cache / "truth")
    relative = truth.factor_err / truth.factor
    pulls, few, errors, means, wrong, far = [], [], [], [], 0, []
    for f in found:
        factor, error = np.array(f["factor"], dtype=float), np.array(f["factor_err"], dtype=float)
        size = error / factor
        ratio = np.log(factor / truth.factor)
        pull = ratio / np.hypot(size, relative)
        pulls.append(pull)
        few.append(np.array(f["n_events"]) < 300)
        errors.append(np.where(np.array(f["status"]) == "ok", factor / truth.factor - 1, np.nan))
        covariance = np.array(f["covariance"]) / np.outer(factor, factor) + np.diag(relative**2)
        weight = 1 / np.diag(covariance) / np.sum(1 / np.diag(covariance))
        means.append((weight @ ratio, np.sqrt(weight @ covariance @ weight)))
        worst = max(float(np.nanmax(np.abs(pull))), abs(means[-1][0] / means[-1][1]))
        far.append(worst)
        wrong += worst > most and not f["failed"]
    pulls, few, errors, means = (np.array(x) for x in (pulls, few, errors, means))
    names = sorted({name for f in found for name in f["failed"]})
    text = ", ".join(f"{n} {sum(n in f['failed'] for f in found)}" for n in names)
    few_rms = np.sqrt(np.nanmean(pulls[few] ** 2)) if few.any() else np.nan
    chi2 = float(np.sum((means[:, 0] / means[:, 1]) ** 2))
    failed = sum(bool(f["failed"]) for f in found)
    return (
        f"| {kind} | {len(found)} | {failed}{f' ({text})' if text else ''} |"
        f" {np.sqrt(np.nanmean(pulls**2)):.2f} | {np.nanmax(np.abs(pulls)):.1f} | {few_rms:.2f} |"
        f" {100 * np.sqrt(np.nanmean(errors**2)):.1f} % |"
        f" {100 * means[:, 0].mean():+.2f} ± {100 * means[:, 1].mean():.2f} % |"
        f" {chi2:.1f}/{len(found)} | {wrong} |"
    )


FACTORS = (1.1, 1.2, 1.3)
"""By which the resolution of one category is another than predicted."""


def moved(events: int, seed: int, category: int, factor: float, cache: Path) -> dict:
    """Return ln(factor) of a category and its error, where its resolution is so much worse."""
    kept = cache / f"power-{events}-{seed}-{category}-{factor:g}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    calibration = Calibration(Settings(compare=()), [DATA], seed=1)
    pairs = selected(calibration, generate("z", events, world_of("clean")[0], seed=seed)[0], DATA)
    odd = np.where(category_of(pairs, calibration.settings) == category, factor, 1.0)
    muons = (
        replace(m, pt_err=np.asarray(m.pt_err) / odd) for m in (pairs.leading, pairs.subleading)
    )
    pairs = replace(pairs, **dict(zip(("leading", "subleading"), muons, strict=True)))
    reduction = calibration.reduce({"data": collected(calibration, pairs, DATA, Pass())}, {})
    row = reduction.tables["factors"].iloc[category]
    size = float(row["factor_err"] / row["factor"])
    found = {
        "name": row["category"],
        "n_events": int(row["n_events"]),
        "status": str(row["status"]),
        "value": float(np.log(row["factor"])),
        "error": size,
    }
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


def power(events: int, seed: int, every: int, jobs: int, cache: Path) -> str:
    """Return the table of what is seen of one odd category, for each one of so many."""
    numbers = range(0, 36, every)
    with ProcessPoolExecutor(jobs) as pool:
        tasks = {
            (c, f): pool.submit(moved, events, seed, c, f, cache)
            for c in numbers
            for f in (1.0, *FACTORS)
        }
        found = {key: task.result() for key, task in tasks.items()}
    lines, needed = [], {f: [] for f in FACTORS}
    for c in sorted(numbers, key=lambda c: found[c, 1.0]["n_events"]):
        plain, cells = found[c, 1.0], []
        for f in FACTORS:
            one = found[c, f]
            step = one["value"] - plain["value"]
            cells.append(f"{step / np.log(f):.2f} | {step / one['error']:.1f} ({one['status']})")
            needed[f].append(one["n_events"] * (3 * one["error"] / max(step, 1e-3)) ** 2)
        lines.append(f"| {plain['name']} | {plain['n_events']} | {' | '.join(cells)} |")
    enough = " | ".join(f"| {np.median(n):.0f}" for n in needed.values())
    return "\n".join(
        (
            f"| category | events | {' | '.join(f'{f:g}: moved | seen' for f in FACTORS)} |",
            "|---|---:|" + "---:|---:|" * len(FACTORS),
            *lines,
            f"| median of events for 3 | {enough} |",
        )
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--most", type=float, default=4.0, help="stated errors")
    parser.add_argument("--apply", choices=("category", "muon"), default="category")
    parser.add_argument("--cache", type=Path, default=Path("verdict-cache"))
    parser.add_argument("--power", action="store_true", help="of one odd category, nothing else")
    parser.add_argument("--every", type=int, default=3, help="category, with --power")
    options = parser.parse_args()
    if options.power:
        print(power(options.events, options.seed, options.every, options.jobs, options.cache))
        return
    settings = {} if options.apply == "category" else {"apply": options.apply}
    print(
        "| events | sets | not passed | pull rms | worst | below 300 events | rms error of ok |"
        " mean | chi2 of the means | passed and wrong |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    with ProcessPoolExecutor(options.jobs) as pool:
        for kind in options.kinds:
            seeds = range(options.seed, options.seed + options.sets)
            tasks = [
                pool.submit(one, kind, options.events, s, settings, options.cache) for s in seeds
            ]
            print(line(kind, [t.result() for t in tasks], options.cache, options.most), flush=True)


if __name__ == "__main__":
    main()
