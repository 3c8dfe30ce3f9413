"""Seconds for thousands of J/psi fits beside iminuit, and how many of a hard set are right.

python benchmarks/kernel_fits.py [categories] [--stress N]

iminuit fits some of the same categories one by one, with a compiled likelihood and gradient: of
the same model in frequencies (its fastest route), and of the model with error functions. All are
compared on one core.
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

import calib
from calib.fitting.kernel import compiled_model as model
from calib.fitting.kernel.compiled_errors import saturated
from calib.fitting.kernel.problem import CUMULANTS, Problem, coefficients, problem
from tests.calib.fitting.kernel.toys import Toys, toys

STARTS = (
    (1.0, 0.012, 0.08, 0.3),
    (1.0, 0.005, 0.3, 0.0),
    (1.004, 0.02, 0.1, 0.5),
    (0.996, 0.009, 0.5, 1.0),
    (1.0, 0.003, 0.4, 0.0),
    (1.0, 0.02, 0.02, 0.0),
)


@numba.njit
def both(theta, n, g, s, work, slope):  # type: ignore[no-untyped-def]
    """Return the NLL above the saturated model's and fill its gradient."""
    model.evaluate(theta, g, s, work)
    return model.nll_and_gradient(theta, n, s, work, slope) + saturated(n, n.sum())


class Fourier:
    """iminuit on the model in frequencies."""

    def __init__(self, data: Toys, sigma: tuple[float, float]) -> None:
        filled = data.mass[data.templates[0] > 0]
        span = (float(filled.min()), float(filled.max()))
        self.shared: Problem = problem(data.edges, span, sigma, "exponential", False, (0.95, 1.05))
        x = self.shared
        self.s = model.Shared(
            x.w,
            x.basis,
            np.log(x.edges),
            x.origin,
            x.nodes,
            x.weights,
            x.low,
            x.high,
            x.n_background,
            x.signed,
            x.least,
            CUMULANTS,
            True,
        )
        self.work = model.workspace(len(x.w), x.n_bins)
        self.data = data
        self.g = coefficients(x, data.templates[:1], data.mass)[0]  # one template for all

    def fit(self, i: int, start: tuple[float, ...] = STARTS[0], hesse: bool = True) -> Minuit:
        """Return the fitted Minuit object of a category."""
        n, slope = self.data.counts[i], np.zeros(4)
        last: list[Any] = [None, 0.0]

        def at(theta: np.ndarray) -> None:
            key = theta.tobytes()
            if key != last[0]:
                last[:] = key, both(theta, n, self.g, self.s, self.work, slope)

        def value(theta: np.ndarray) -> float:
            at(theta)
            return float(last[1])

        def gradient(theta: np.ndarray) -> np.ndarray:
            at(theta)
            return slope

        begin = np.array([np.log(start[0]), start[1] ** 2, *start[2:]])
        m = Minuit(value, begin, grad=gradient, name=("lambda", "v", "f", "slope"))
        m.errordef = Minuit.LIKELIHOOD
        m.strategy = 0  # HESSE comes anyway: a third fewer calls
        m.limits = list(zip(self.shared.low[:4], self.shared.high[:4], strict=True))
        m.errors = (1e-3, 2e-5, 0.02, 0.5)
        m.migrad()
        if hesse:
            m.hesse()
        return m


def best(call: Callable[[], Any], times: int = 3) -> float:
    """Return the shortest of some times, in seconds."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def speed(n: int) -> None:
    """Print seconds and ratios."""
    data = toys(n, 1)
    counts, edges, templates, mass = data.arrays
    begin = time.perf_counter()
    calib.fit_categories(*data.arrays, engine="compiled")
    first = time.perf_counter() - begin
    some, few = min(300, n), min(40, n)
    fourier = Fourier(data, (0.005, 0.025))
    fourier.fit(0)

    def functions() -> None:
        calib.fit_categories(counts[:few], edges, templates[:few], mass, engine="minuit", threads=1)

    functions()
    slow = best(functions, 2) / few
    fast = best(lambda: [fourier.fit(i) for i in range(some)], 3) / some
    print("| engine | threads | seconds | us a fit | x Fourier iminuit | x erf iminuit |")
    print("|---|---|---|---|---|---|")
    for name, each, number in (("error functions", slow, few), ("Fourier", fast, some)):
        print(
            f"| iminuit, {name} (from {number}) | 1 | {each * n:.1f} | {1e6 * each:.0f}"
            f" | {fast / each:.2f} | {slow / each:.1f} |"
        )
    for engine in ("numpy", "compiled"):
        for threads in (1, None):
            seconds = best(
                lambda e=engine, t=threads: calib.fit_categories(*data.arrays, engine=e, threads=t),
                5,
            )
            each = seconds / n
            print(
                f"| {engine} | {threads or 'all'} | {seconds:.2f} | {1e6 * each:.1f}"
                f" | {fast / each:.0f} | {slow / each:.0f} |"
            )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nfirst compiled call {first:.2f} s; peak memory {memory:.2f} GB")


def stress(n: int) -> None:
    """Print how many of a hard set are right, marked, or neither."""
    data = toys(
        n, 22, (50, 3000), sigma=(0.003, 0.025), background=(0.0, 0.5), spread=0.01 / np.sqrt(3)
    )
    begin = time.perf_counter()
    found = calib.fit_categories(*data.arrays)
    seconds = time.perf_counter() - begin
    fourier = Fourier(data, (0.0005, 0.04))
    lowest = np.array(
        [min(fourier.fit(i, start, hesse=False).fval for start in STARTS) for i in range(n)]
    )
    right = found.nll < lowest + 0.1
    neither = ~right & found.ok
    print(
        f"{n} hard categories in {seconds:.1f} s: {right.mean():.2%} right (NLL within 0.1 of the"
        f" best of {len(STARTS)} starts of iminuit), {(~found.ok).sum()} marked,"
        f" {neither.sum()} neither ({neither.mean():.3%})"
    )
    steps = dict(zip(*np.unique(found.step, return_counts=True), strict=True))
    print("steps: " + ", ".join(f"{name} {number}" for name, number in steps.items()))
    print(f"lower than iminuit by more than 0.1: {(found.nll < lowest - 0.1).sum()}")


def main() -> None:
    """Print the table, or the hard set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("categories", nargs="?", type=int, default=12_000)
    parser.add_argument("--stress", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.stress:
        stress(arguments.stress)
    else:
        speed(arguments.categories)


if __name__ == "__main__":
    main()
