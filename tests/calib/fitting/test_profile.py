"""The batched profile likelihood against iminuit, with a model written again here."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from iminuit import Minuit
from scipy.stats import norm

from calib.fitting.profile import MU_RANGE, Window, fractions, profile

EDGES = np.linspace(80, 100, 61)
SHAPE_EDGES = np.linspace(75, 105, 361)
WINDOW = Window(EDGES, 75.0, float(SHAPE_EDGES[1] - SHAPE_EDGES[0]))
POINTS = np.linspace(-0.4, 0.4, 5)
TRUTH = [  # events, mu, background, slope
    (300, 1.0, 0.05, 0.5),
    (3_000, 1.002, 0.10, 2.0),
    (30_000, 0.998, 0.30, -1.0),
    (30_000, 1.0, 0.03, 0.5),
    (100_000, 1.001, 0.15, 1.0),
]


def peak(mass, x):
    """Return the cumulative distribution of a peak with a tail, exp(x) times as wide."""
    sigma = 1.5 * np.exp(x)
    return 0.8 * norm.cdf(mass, 91.2, sigma) + 0.2 * norm.cdf(mass, 89.8, 1.7 * sigma)


def expected(mu, share, slope, x):
    """Return fractions per bin: the peak is analytic, the background a quadrature."""
    signal = np.diff(peak(EDGES / mu, x))
    node, weight = np.polynomial.legendre.leggauss(8)
    u = (EDGES - EDGES[0]) / (EDGES[-1] - EDGES[0])
    middle, half = 0.5 * (u[1:] + u[:-1]), 0.5 * np.diff(u)
    falling = np.exp(-slope * (middle[:, None] + half[:, None] * node)) @ weight * half
    return (1 - share) * signal / signal.sum() + share * falling / falling.sum()


def nll(counts, mu, share, slope, x):
    model = expected(mu, share, slope, x) * counts.sum()
    log = np.log(np.where(counts > 0, counts, 1.0) / model)
    return np.sum(model - counts + counts * log) + 0.5 * (slope / 5) ** 2


def shapes(rows, scale=1.0):
    cumulative = scale * np.array([peak(SHAPE_EDGES, x) for x in POINTS])
    return np.tile(cumulative, (rows, 1, 1))


@pytest.fixture(scope="module")
def counts():
    random = np.random.default_rng(8)
    return np.array(
        [random.poisson(n * expected(*rest, 0.05)) for n, *rest in TRUTH], dtype=np.float64
    )


@pytest.fixture(scope="module")
def found(counts):
    return profile(counts, shapes(len(counts)), np.zeros(len(counts)), WINDOW)


def by_minuit(counts, x, start):
    minuit = Minuit(lambda mu, share, slope: nll(counts, mu, share, slope, x), *start)
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.limits = [MU_RANGE, (0, 0.9), (-10, 10)]
    minuit.errors = [1e-3, 0.01, 0.3]
    minuit.strategy = 2
    minuit.migrad()
    minuit.hesse()
    return minuit


@pytest.mark.parametrize("row", range(len(TRUTH)))
def test_the_same_as_minuit(row, counts, found):
    assert found.converged[row].all()
    for j, x in enumerate(POINTS):
        minuit = by_minuit(counts[row], x, TRUTH[row][1:])
        assert minuit.valid
        assert found.nll[row, j] == pytest.approx(minuit.fval, abs=0.02)
        if minuit.values["share"] < 3 * minuit.errors["share"]:
            continue  # at the limit: slope and errors mean little
        own = (found.mu[row, j], found.background[row, j], found.slope[row, j])
        for value, name in zip(own, ("mu", "share", "slope"), strict=True):
            assert value == pytest.approx(minuit.values[name], abs=0.05 * minuit.errors[name])


def test_enough_points_were_compared(counts, found):
    """Most of the rows have a background that is not at its limit."""
    assert np.mean(found.background > 0.02) > 0.7


def test_the_likelihood_finds_the_width(counts, found):
    """Parabola through the three points around the least, of the row with most events."""
    least = np.polynomial.Polynomial.fit(POINTS[1:4], found.nll[4, 1:4], 2).deriv().roots()[0]
    assert least == pytest.approx(0.05, abs=0.03)


def test_no_background(counts):
    without = Window(EDGES, 75.0, WINDOW.shape_step, background=False)
    random = np.random.default_rng(9)
    clean = random.poisson(5000 * expected(1.0005, 0.0, 0.0, 0.0))[None].astype(np.float64)
    found = profile(clean, shapes(1), np.zeros(1), without)
    assert found.converged.all()
    assert np.all(found.background == 0) and np.all(found.slope == 0)
    for j, x in enumerate(POINTS):
        minuit = Minuit(partial(nll, clean[0], share=0.0, slope=0.0, x=x), 1.0, name=("mu",))
        minuit.errordef, minuit.errors = Minuit.LIKELIHOOD, [1e-3]
        minuit.migrad()
        assert found.nll[0, j] == pytest.approx(minuit.fval, abs=0.02)
        assert found.mu[0, j] == pytest.approx(minuit.values[0], abs=0.05 * minuit.errors[0])


def test_scaled_counts_scale_the_likelihood_and_move_nothing():
    """Without background nothing is constrained: 3 times the events, 3 times the logarithm."""
    without = Window(EDGES, 75.0, WINDOW.shape_step, background=False)
    events = 2000 * expected(1.0, 0.0, 0.0, 0.1) * (1 + 0.1 * np.sin(np.arange(60)))
    found = profile(np.stack([events, 0.4 * events]), shapes(2), np.zeros(2), without)
    np.testing.assert_allclose(found.nll[1], 0.4 * found.nll[0], rtol=1e-5)
    np.testing.assert_allclose(found.mu[1], found.mu[0], atol=1e-6)


def test_the_normalisation_of_the_shape_does_not_matter(counts, found):
    scaled = profile(counts, shapes(len(counts), 1e5), np.zeros(len(counts)), WINDOW)
    np.testing.assert_allclose(scaled.nll, found.nll, atol=0.01)


def test_rows_without_events_or_template(counts):
    three = np.stack([np.zeros_like(counts[1]), counts[1], counts[1]])
    cumulative = shapes(3)
    cumulative[1] = 0.0
    found = profile(three, cumulative, np.zeros(3), WINDOW)
    assert not found.converged[:2].any()
    assert found.converged[2].all()
    assert np.isfinite(found.nll).all()


def test_a_limit_is_kept():
    """A peak beyond the range of mu ends at its limit, and is still a minimum there."""
    far = 20_000 * expected(1.03, 0.05, 0.5, 0.0)
    found = profile(far[None], shapes(1), np.zeros(1), WINDOW)
    assert np.all(found.mu <= MU_RANGE[1])
    assert found.mu[0, 2] == MU_RANGE[1]
    minuit = by_minuit(far, 0.0, (1.019, 0.05, 0.5))
    assert found.nll[0, 2] == pytest.approx(minuit.fval, abs=0.02 + 1e-5 * minuit.fval)


NUISANCES = np.array([[1.0007, 1.003, 0.99], [0.0, 0.2, 0.6], [0.0, 2.0, -3.0]])


def test_fractions_are_the_model():
    at = np.array([peak(SHAPE_EDGES, x) for x in (-0.2, 0.0, 0.3)])
    total, _, signal = fractions(at, np.zeros(3), NUISANCES, WINDOW)
    np.testing.assert_allclose(total.sum(1), 1.0, atol=1e-12)
    np.testing.assert_allclose(signal.sum(1), 1.0, atol=1e-12)
    for row, x in enumerate((-0.2, 0.0, 0.3)):
        np.testing.assert_allclose(total[row], expected(*NUISANCES[:, row], x), atol=2e-6)


@pytest.mark.parametrize(("k", "step"), [(0, 1e-5), (1, 1e-4), (2, 1e-3)])
def test_gradients_against_differences(k, step):
    at = np.array([peak(SHAPE_EDGES, x) for x in (-0.2, 0.0, 0.3)])
    nuisances = NUISANCES + np.array([[0.0], [0.1], [0.0]])
    _, gradient, _ = fractions(at, np.zeros(3), nuisances, WINDOW)
    move = np.zeros((3, 1))
    move[k] = step
    up, down = (fractions(at, np.zeros(3), nuisances + s * move, WINDOW)[0] for s in (1, -1))
    size = np.abs(gradient[:, k]).max()
    np.testing.assert_allclose(gradient[:, k], (up - down) / (2 * step), atol=1e-4 * size)


def test_a_floor_is_the_least_that_a_bin_has():
    """Entries in a single bin: all others have the floor, before they are normalised together."""
    histogram = np.zeros(360)
    histogram[180] = 100.0
    cumulative = np.concatenate([[0.0], np.cumsum(histogram)])[None]
    one = np.array([[1.0], [0.0], [0.0]])
    fine = Window(SHAPE_EDGES[60:301:2], 75.0, WINDOW.shape_step)
    _, _, signal = fractions(cumulative, np.array([0.5]), one, fine)
    assert signal.min() > 0
    assert signal.min() == pytest.approx(0.5 / (100 + 119 * 0.5), rel=0.2)
    assert np.median(signal) == pytest.approx(signal.min(), rel=1e-9)
