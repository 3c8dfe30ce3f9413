"""Seconds for thousands of J/psi fits, both engines, beside iminuit on some of the same.

python benchmarks/kernel_fits.py [categories]
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import calib
from tests.kernel.toys import toys


def best(call: Callable[[], Any], times: int = 3) -> float:
    """Return the shortest of some times, in seconds."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def main() -> None:
    """Print the table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 12_000
    data = toys(n, 1)
    counts, edges, templates, mass = data.arrays
    some = min(40, n)
    begin = time.perf_counter()
    calib.fit_categories(*data.arrays, engine="compiled")
    first = time.perf_counter() - begin

    def minuit() -> None:
        calib.fit_categories(counts[:some], edges, templates[:some], mass, engine="minuit")

    minuit()
    reference = best(minuit, 2) / some
    print(f"| engine | seconds for {n} | per fit, us | times faster than iminuit |")
    print("|---|---|---|---|")
    print(f"| iminuit, compiled likelihood with gradient, 1 core | {reference * n:.0f}"
          f" (from {some}) | {1e6 * reference:.0f} | 1 |")  # fmt: skip
    for engine in ("numpy", "compiled"):
        seconds = best(lambda e=engine: calib.fit_categories(*data.arrays, engine=e))
        ratio = reference * n / seconds
        print(f"| {engine} | {seconds:.2f} | {1e6 * seconds / n:.0f} | {ratio:.0f} |")
    print(f"\nfirst compiled call {first:.2f} s; peak memory"
          f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")  # fmt: skip


if __name__ == "__main__":
    main()
