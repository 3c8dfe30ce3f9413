"""The core with its tail: a density, and a width that tails do not pull."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from calib.fitting.core_width import fit_core
from calib.fitting.models.core import CorePeak
from calib.results import Status

EDGES = 20 * np.sinh(np.linspace(-5, 5, 121))


def test_fractions_are_integrals_of_the_density() -> None:
    model, parameters, spread = CorePeak(EDGES, 40.0, 0.3), (0.9, 0.1, 0.08, 4.0), 0.3

    def density(x: float) -> float:
        t, w = x / 40.0 - 0.1, 0.9
        core = sum(norm.pdf(t, scale=w * np.sqrt(1 + s)) for s in (spread, -spread)) / 2
        return float((0.92 * core + 0.08 * norm.pdf(t, scale=4 * w)) / 40.0)

    expected = model(*parameters)
    assert expected.sum() == pytest.approx(1.0, abs=1e-12)
    whole = quad(density, EDGES[0], EDGES[-1], points=[0.0, 100.0], limit=200)[0]
    for i in (30, 60, 75, 100):
        one = quad(density, EDGES[i], EDGES[i + 1])[0] / whole
        assert expected[i] == pytest.approx(one, rel=1e-8)
    # the tail is a part of it, and all of it far out
    tail = model.tail(*parameters)
    assert np.all(tail <= expected + 1e-12) and tail.sum() == pytest.approx(0.08, rel=1e-6)
    assert tail[15] == pytest.approx(expected[15], rel=1e-6)


def test_spread_keeps_the_variance_and_gives_the_kurtosis() -> None:
    edges = np.linspace(-12, 12, 20_001)
    middle = 0.5 * (edges[1:] + edges[:-1])
    found = CorePeak(edges, 1.0, 0.4)(1.0, 0.0, 0.0, 3.0)
    assert found @ middle**2 == pytest.approx(1.0, rel=1e-5)
    assert found @ middle**4 == pytest.approx(3 * (1 + 0.4**2), rel=1e-5)


def with_tail(kind: str, n: int, random: np.random.Generator) -> np.ndarray:
    """Residuals of width 50."""
    x = 50 * random.normal(size=n)
    if kind == "gaussian":
        x[: n // 20] *= 4
    elif kind == "exponential":
        x[: n // 20] = 200 * random.laplace(size=n // 20)
    elif kind == "flat":
        x[: n // 50] = random.uniform(-1000, 1000, n // 50)
    return x


@pytest.mark.parametrize("kind", ["none", "gaussian", "exponential", "flat"])
def test_tails_do_not_pull_the_width(kind: str) -> None:
    random, widths, pulls = np.random.default_rng(8), [], []
    for _ in range(50):
        counts = np.histogram(with_tail(kind, 4000, random), EDGES)[0].astype(float)
        found = fit_core(EDGES, counts, counts)
        assert found.status is Status.OK
        widths.append(found.value("width"))
        pulls.append((widths[-1] - 50) / found.error("width"))
        assert abs(found.value("mean")) < 5 * found.error("mean")
    assert np.mean(widths) == pytest.approx(50, rel=0.010)  # 0.4 um is 0.8 %
    assert 0.7 < np.std(pulls) < 1.3


def test_weights_scale_and_errors_grow() -> None:
    random = np.random.default_rng(3)
    x, w = with_tail("gaussian", 20_000, random), random.choice([0.5, 2.0], 20_000)
    counts, variance = (np.histogram(x, EDGES, weights=v)[0] for v in (w, w**2))
    found, plain = (
        fit_core(EDGES, counts, variance),
        fit_core(EDGES, *(2 * [np.histogram(x, EDGES)[0].astype(float)])),
    )
    assert abs(found.value("width") - plain.value("width")) < 3 * found.error("width")
    ratio = found.error("width") / plain.error("width")
    assert ratio == pytest.approx(np.sqrt(np.mean(w**2)) / np.mean(w), rel=0.12)


def test_too_little() -> None:
    empty = np.zeros(len(EDGES) - 1)
    for found in (
        fit_core(EDGES, empty, empty),
        fit_core(EDGES, -empty, empty),
        fit_core(EDGES, empty + 1, empty + 1, within=(-1.0, 1.0)),
    ):
        assert found.status is Status.TOO_FEW_EVENTS and np.isnan(found.value("width"))
        assert found.chi2[1] == 0
