"""A, e, M and the resolution from thousands of categories: seconds, bias and pulls.

python benchmarks/extraction.py [--categories 12000] [--replicas 20] [--events 1250]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numba
import numpy as np
from iminuit import Minuit

from calib.fitting.scale import chi2, likelihood
from calib.fitting.scale.model import KINDS, Extraction, Means, mu2
from tests.calib.fitting.scale import toys

N_ETA = 48


def best(call: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """Return the shortest of some times, in seconds, and the last result."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        result = call()
        found.append(time.perf_counter() - begin)
    return min(found), result


@numba.njit
def cost(x, i, j, k1, k2, p1, p2, measured, weight, n_eta):  # type: ignore[no-untyped-def]
    """Return the chi2 of mu^2 and its gradient."""
    total, slope = 0.0, np.zeros(3 * n_eta)
    for c in range(len(i)):
        a, b = i[c], j[c]
        plus = 1 + x[a] - x[n_eta + a] * k1[c] + x[2 * n_eta + a] * p1[c]
        minus = 1 + x[b] - x[n_eta + b] * k2[c] - x[2 * n_eta + b] * p2[c]
        r = measured[c] - plus * minus
        total += weight[c] * r * r
        d = -2 * weight[c] * r
        slope[a] += d * minus
        slope[n_eta + a] -= d * minus * k1[c]
        slope[2 * n_eta + a] += d * minus * p1[c]
        slope[b] += d * plus
        slope[n_eta + b] -= d * plus * k2[c]
        slope[2 * n_eta + b] -= d * plus * p2[c]
    return total, slope


def by_minuit(m: Means, measured: np.ndarray, err: np.ndarray) -> Minuit:
    """Return the fit of A, e, M by MIGRAD and HESSE, with a compiled cost and its gradient."""
    size = np.repeat([1e-3, 1e-3, 1e-5], N_ETA)
    given = (
        m.eta_plus,
        m.eta_minus,
        m.k_plus,
        m.k_minus,
        m.inverse_k_plus,
        m.inverse_k_minus,
        measured,
        err**-2,
        N_ETA,
    )
    found = Minuit(
        lambda x: cost(x * size, *given)[0],
        np.zeros(3 * N_ETA),
        grad=lambda x: cost(x * size, *given)[1] * size,
    )
    found.strategy = 1
    found.migrad()
    found.hesse()
    return found


def speed(n: int = 22_779) -> None:
    """Print the seconds of the chi2 of A, e, M beside iminuit's."""
    c = toys.categories(n, N_ETA, seed=2)
    random = np.random.default_rng(5)
    err = 2 * np.sqrt(c.theta[:, 1] / c.events)
    measured = mu2(c.means, c.truth.A, c.truth.e, c.truth.M) + err * random.standard_normal(n)
    cov = np.zeros((n, 2, 2))
    cov[:, 0, 0] = err**2

    def ours() -> Extraction:
        zero = np.zeros(n)
        return chi2.extract(c.means, measured, zero, cov, n_eta=N_ETA, resolution=False)

    ours()
    by_minuit(c.means, measured, err)
    seconds, found = best(ours, 10)
    theirs, minuit = best(lambda: by_minuit(c.means, measured, err), 2)
    size = np.repeat([1e-3, 1e-3, 1e-5], N_ETA)
    other = np.array(minuit.covariance) * size[:, None] * size
    scale = np.outer(found.errors, found.errors)
    worst = np.abs((found.covariance - other) / scale).max()
    print(f"| chi2, {n} categories x {3 * N_ETA} parameters | seconds | ratio |")
    print("|---|---:|---:|")
    print(f"| iminuit, compiled cost with gradient, MIGRAD + HESSE | {theirs:.2f} | 1 |")
    print(
        f"| calib.extract_scale, {found.iterations} iterations | {seconds:.4f} |"
        f" {theirs / seconds:.0f} |"
    )
    print(
        f"\nLargest difference of the two covariances: {worst:.1e} of the errors."
        f" Condition {found.condition:.0f}.\n"
    )


def truth(n: int, replicas: int, events: float) -> None:
    """Print bias and pulls of the three extractions over sets of the same categories."""
    c = toys.categories(n, N_ETA, events=events)
    methods = ("chi2", "chi2, smoothed errors", "likelihood")
    off: dict[str, list[np.ndarray]] = {m: [] for m in methods}
    err: dict[str, list[np.ndarray]] = {m: [] for m in methods}
    seconds, iterations = [], []
    for seed in range(replicas):
        data = toys.part(c, seed)
        ratio, width, cov, fits = toys.fitted(data)
        total = (fits.sigma / fits.mu) ** 2
        plain = chi2.extract(data.means, ratio, width, cov, n_eta=N_ETA)
        smooth = chi2.extract(
            data.means, ratio, width, cov, n_eta=N_ETA, errors="smoothed", width2=total
        )
        begin = time.perf_counter()
        shared = likelihood.extract([toys.started(data, fits)], N_ETA, smooth)
        seconds.append(time.perf_counter() - begin)
        iterations.append(shared.iterations)
        for name, found in zip(methods, (plain, smooth, shared), strict=True):
            assert found.converged and found.determined.all(), name
            off[name].append(found.values - c.truth.vector)
            err[name].append(found.errors)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{n} categories, {events * n / 1e6:.0f} M events, {N_ETA} eta bins, {replicas} sets.")
    print(
        f"Likelihood: {np.median(seconds):.1f} s a set, {min(seconds):.1f} s the fastest,"
        f" {np.median(iterations):.0f} iterations; peak memory {memory:.2f} GB.\n"
    )
    print("| method | parameter | bias | its error | pull mean | its error | pull width |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in methods:
        values, errors = np.array(off[name]), np.array(err[name])
        for kind, v, p in zip(
            KINDS, np.split(values, 5, 1), np.split(values / errors, 5, 1), strict=True
        ):
            print(
                f"| {name} | {kind} | {v.mean():+.1e} | {of_mean(v):.1e} |"
                f" {p.mean():+.3f} | {of_mean(p):.3f} | {p.std():.3f} |"
            )


def of_mean(values: np.ndarray) -> float:
    """Return the error of the mean from the sets, which are independent; eta bins are not."""
    return float(values.mean(1).std(ddof=1) / np.sqrt(len(values)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--categories", type=int, default=12_000)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--events", type=float, default=1_250)
    chosen = parser.parse_args()
    speed()
    truth(chosen.categories, chosen.replicas, chosen.events)


if __name__ == "__main__":
    main()
