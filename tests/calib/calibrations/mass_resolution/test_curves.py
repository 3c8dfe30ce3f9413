"""Likelihood curves: distances, expected errors, the noise of templates made of few sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import voigt_profile

from calib.calibrations.mass_resolution.sums.template_grid import (
    MIDDLE,
    NODES,
    RESIDUAL_EDGES,
    count_pairs,
)
from calib.calibrations.mass_resolution.widths.curves import (
    FINE,
    CountedRows,
    Curves,
    curves,
    floors_of,
)
from calib.calibrations.mass_resolution.widths.peaks import POINTS, PeakShapes, prepare
from calib.fitting.profile import Window, fractions

EDGES = np.linspace(75, 105, 181)
STEP = float(EDGES[1] - EDGES[0])
FIRST, LAST = 30, 150
WINDOW = Window(EDGES[FIRST : LAST + 1], 75.0, STEP)
SIGMA, WIDTH = 1.3, 2.5
COARSE = 30


def parabola(best, error, low=-0.7, high=0.7):
    """Return curves that are parabolas."""
    best, error = np.asarray(best, dtype=float), np.asarray(error, dtype=float)
    n = len(best)
    x = np.tile(np.linspace(low, high, FINE), (n, 1))
    nothing = np.zeros(n)
    return Curves(
        x,
        0.5 * ((x - best[:, None]) / error[:, None]) ** 2,
        best,
        error,
        1.4 * np.exp(x),
        np.zeros((3, n)),
        np.zeros((3, n)),
        nothing,
        (),
        nothing,
        nothing.astype(int),
        np.ones(n, bool),
        np.zeros(n, bool),
        {},
    )


# distances ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.003, 0.02, 0.3])
@pytest.mark.parametrize("error", [0.005, 0.05])
def test_distance_of_a_parabola_is_the_usual_pull(error, spread):
    best = np.array([0.1, 0.1, -0.2, 0.05, 0.0123])
    x0 = np.array([0.1 - error, 0.1 + 2.5 * error, -0.2013, 0.0, 0.0123])
    found = parabola(best, np.full(5, error)).distance(x0, np.full(5, spread))
    expected = (best - x0) / np.hypot(error, max(spread, 1e-6))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_distance_is_not_a_number_outside_the_grid_or_without_a_best():
    own = parabola([0.1, 0.1, np.nan, 0.1], [0.05] * 4)
    found = own.distance(np.array([0.71, -0.71, 0.0, np.nan]), np.full(4, 0.02))
    assert np.isnan(found).all()


def test_distance_knows_a_likelihood_that_is_not_a_parabola():
    """With no spread it is the signed root of twice the logarithm."""
    own = parabola([0.0, 0.0], [0.1, 0.1])
    skewed = np.where(own.x < 0, 0.5 * (own.x / 0.2) ** 2, 0.5 * (own.x / 0.05) ** 2)
    found = replace(own, nll=skewed).distance(np.array([-0.3, 0.3]), np.zeros(2))
    np.testing.assert_allclose(found, [1.5, -6.0], atol=0.02)


def test_at_width_is_the_inverse_of_width():
    own = parabola([0.1, 0.1, 0.1], [0.05] * 3)
    x = np.array([-0.6, 0.0137, 0.55])
    np.testing.assert_allclose(own.at_width(own.width(x)), x, atol=1e-4)
    np.testing.assert_allclose(own.relative_slope(x), 1.0, atol=1e-3)
    outside = own.at_width(np.array([0.1, 20.0, np.nan]))
    assert np.isnan(outside).all()
    assert np.isnan(own.width(np.array([-0.8, 0.8, 2.0]))).all()


def test_shifted_curves_have_their_best_there():
    own = parabola([0.1, 0.2], [0.05, 0.05])
    moved = own.shifted(np.array([0.03, -0.04]))
    np.testing.assert_allclose(moved.best, [0.07, 0.24], atol=1e-9)
    least = moved.x[np.arange(2), moved.nll.argmin(1)]
    np.testing.assert_allclose(least, [0.07, 0.24], atol=0.004)
    np.testing.assert_array_equal(own.shifted(np.array(0.0)).nll, own.nll)


# errors ------------------------------------------------------------------------------------------
def peak(x):
    """Return the fractions per bin of a Voigt profile, exp(x) times as wide; three points each."""
    node = np.array([-1, 0, 1]) * np.sqrt(0.6) * STEP / 2
    weight = np.array([5, 8, 5]) / 18
    at = 0.5 * (EDGES[1:] + EDGES[:-1])[:, None] + node - 91.2
    return voigt_profile(at, SIGMA * np.exp(x), WIDTH / 2) @ weight * STEP


def ideal_shapes(rows):
    """Return shapes without any noise."""
    x = np.linspace(-0.69, 0.69, POINTS)
    cumulative = np.zeros((POINTS, len(EDGES)))
    cumulative[:, 1:] = np.cumsum([1e6 * peak(v) for v in x], axis=1)
    return PeakShapes(
        np.tile(x, (rows, 1)),
        np.tile(cumulative, (rows, 1, 1)),
        np.tile(SIGMA * np.exp(x), (rows, 1)),
        np.full(rows, 1e6),
        np.full(rows, 1.0),
        np.zeros((rows, COARSE, COARSE)),
        {"nominal": np.tile(1e6 * peak(0.0), (rows, 1))},
        1.0,
    )


def rows_of(counts, weight=1.0):
    return CountedRows(weight * counts, weight**2 * counts, WINDOW, FIRST, LAST)


def model(n, share=0.05, slope=1.0):
    signal = peak(0.0)[FIRST:LAST]
    u = np.linspace(0, 1, LAST - FIRST + 1)
    falling = -np.diff(np.exp(-slope * u))
    return n * ((1 - share) * signal / signal.sum() + share * falling / falling.sum())


TOYS = 300


@pytest.mark.parametrize(("n", "most"), [(4000, 1.16), (500, 1.25)])
def test_the_expected_error_is_the_scatter_of_toys(n, most):
    """300 toys know an rms to 4 %; four of them, and more for few events (skewed)."""
    random = np.random.default_rng(17)
    found = curves(rows_of(random.poisson(model(n), (TOYS, 120)).astype(float)), ideal_shapes(TOYS))
    assert found.converged.all()
    claimed = np.sqrt(np.mean(found.error**2))
    assert 0.84 < np.sqrt(np.mean(found.best**2)) / claimed < most
    z = found.distance(np.zeros(TOYS), np.zeros(TOYS))
    assert 0.84 < np.sqrt(np.mean(z**2)) < most
    assert abs(z.mean()) < 4 / np.sqrt(TOYS) + (0.0 if n > 1000 else 0.15)
    pulls = (found.nuisances[0] - 1) / found.nuisance_errors[0]
    assert 0.84 < np.sqrt(np.mean(pulls**2)) < 1.16
    probability = np.mean(found.chi2 > found.ndf)
    assert 0.3 < probability < 0.7


def test_heavy_events_know_less():
    """Weights of 3: three times the sum, and the errors of the number of events."""
    counts = np.round(model(4000))[None]
    light, heavy = (curves(rows_of(counts, w), ideal_shapes(1)) for w in (1.0, 3.0))
    np.testing.assert_allclose(heavy.error, light.error, rtol=1e-6)
    np.testing.assert_allclose(heavy.best, light.best, atol=1e-6)
    np.testing.assert_allclose(heavy.chi2, light.chi2, rtol=1e-6)
    more = curves(rows_of(4 * counts), ideal_shapes(1))
    assert more.error[0] == pytest.approx(light.error[0] / 2, rel=0.03)


def test_another_line_shape_shifts_x_as_its_own_fit_says():
    """A variation of the template: the predicted shift against a fit of data made with it."""
    shapes = ideal_shapes(1)
    other = peak(0.0) * (1 + 0.02 * np.tanh(0.5 * (EDGES[1:] + EDGES[:-1]) - 88.0))
    shapes = replace(shapes, varied={**shapes.varied, "tail": 1e6 * other[None]})
    n, share = 200_000, 0.05
    nominal = model(n, share)
    signal = other[FIRST:LAST] / other[FIRST:LAST].sum()
    pure = peak(0.0)[FIRST:LAST]
    data = nominal + n * (1 - share) * (signal - pure / pure.sum())
    before, after = (curves(rows_of(c[None]), shapes) for c in (nominal, data))
    moved = after.best[0] - before.best[0]
    assert abs(moved) > 0.01
    assert before.shifts["tail"][0] == pytest.approx(moved, abs=0.1 * abs(moved) + 0.002)


def test_nearly_empty_rows_are_left_out_quietly():
    shapes = ideal_shapes(3)
    shapes.cumulative[1] = 0.0
    shapes = replace(
        shapes,
        entries=np.array([1e6, 0.0, 1e6]),
        sources=np.array([1.0, 0.0, 1.0]),
        varied={"nominal": shapes.varied["nominal"] * np.array([1, 0, 1])[:, None]},
    )
    counts = np.stack([np.zeros(120), np.round(model(1000)), np.round(model(1000))])
    found = curves(rows_of(counts), shapes)
    assert found.converged.tolist() == [False, False, True]
    assert np.isnan(found.best[:2]).all() and np.isfinite(found.best[2])
    assert np.isnan(found.error[:2]).all()
    assert np.all(found.nll[:2] == 0)  # they say nothing


# templates of few sources ------------------------------------------------------------------------
SETS, SOURCES, COPIES = 150, 500, 8
SHARED = 0.5
"""Spread of ln(sigma) among sources: all copies of one have it in common."""


def binned(values, edges):
    """Return the histograms along the last axis, shape (sets, bins)."""
    at = np.floor((values - edges[0]) / (edges[1] - edges[0])).astype(int)
    inside = (at >= 0) & (at < len(edges) - 1)
    n = len(edges) - 1
    flat = np.arange(len(values))[:, None] * n + np.clip(at, 0, n - 1)
    found = np.bincount(flat[inside], minlength=len(values) * n)
    return found.reshape(len(values), n).astype(float)


def made(random, sets, sources, copies):
    """Return the sums of `Scan` for sets of source events whose copies share their sigma."""
    shape = (sets, sources, copies)
    sigma = SIGMA * np.exp(SHARED * random.standard_normal((sets, sources, 1)))
    gen = 91.2 + 0.5 * WIDTH * np.tan(np.pi * (random.random(shape) - 0.5))
    residual = sigma * random.standard_normal(shape)
    template = np.stack(
        [binned((gen + f * residual).reshape(sets, -1), EDGES) for f in NODES], axis=1
    )
    widths = np.stack(
        [binned((f * residual).reshape(sets, -1), RESIDUAL_EDGES) for f in NODES], axis=1
    )
    wide = (len(EDGES) - 1) // COARSE
    mass = gen + NODES[MIDDLE] * residual
    at = np.floor((mass - EDGES[0]) / STEP).astype(int)
    place = np.arange(sets)[:, None, None] * COARSE + np.clip(at, 0, len(EDGES) - 2) // wide
    places = np.where((at >= 0) & (at < len(EDGES) - 1), place, -1)
    places = places.reshape(sets * sources, copies).T.astype(np.int32)
    pairs = np.zeros((sets, COARSE, COARSE))
    count_pairs(np.ascontiguousarray(places), np.ones(sets * sources), COARSE, pairs)
    nominal = template[:, MIDDLE]
    return {"template": template, "residual": widths, "pairs": pairs, "varied_none": nominal}


def shapes_of(sums, sets):
    grid = prepare(sums, [(0, 0)] * sets, EDGES, 1.0)
    return grid.shapes([[s] for s in range(sets)], np.zeros(1))


@pytest.fixture(scope="module")
def expected():
    """Return the fractions per bin of the fit, of so many sources that they have no noise."""
    large = shapes_of(made(np.random.default_rng(22), 1, 200_000, COPIES), 1)
    found = np.diff(large.cumulative[0, POINTS // 2])[FIRST:LAST]
    return found / found.sum()


def without_background(counts):
    return replace(rows_of(counts), window=replace(WINDOW, background=False))


def test_noise_of_templates_is_the_scatter_over_sets_of_sources(expected):
    """The data are the same; 150 sets know an rms to 6 %.

    Of second order in the noise, which is left out, there is a tenth with 2000 sources (and a
    quarter with 500: then the events know the width less well still, see below).
    """
    rows = without_background(np.tile(6000 * expected, (SETS, 1)))
    shapes = shapes_of(made(np.random.default_rng(23), SETS, 2000, COPIES), SETS)
    found = curves(rows, shapes)
    events = curves(rows, replace(shapes, pairs=np.zeros_like(shapes.pairs)))
    noise = np.sqrt(np.mean(found.error**2 - events.error**2))
    assert 0.76 < found.best.std() / noise < 1.24
    assert found.noise == pytest.approx(noise**2 / np.mean(events.error**2), rel=0.25)


@pytest.mark.xfail(
    strict=True,
    reason="with 500 sources the noise of the templates is 1.3 times what is claimed: its second"
    " order is left out",
)
def test_noise_of_templates_of_very_few_sources(expected):
    """The bound is the one above."""
    rows = without_background(np.tile(6000 * expected, (SETS, 1)))
    shapes = shapes_of(made(np.random.default_rng(23), SETS, SOURCES, COPIES), SETS)
    found = curves(rows, shapes)
    events = curves(rows, replace(shapes, pairs=np.zeros_like(shapes.pairs)))
    noise = np.sqrt(np.mean(found.error**2 - events.error**2))
    assert 0.76 < found.best.std() / noise < 1.24


def test_copies_of_one_source_are_not_counted_apart():
    """Copies that are all alike know no more than one: eight times the variance."""
    random = np.random.default_rng(24)
    sums = made(random, 1, SOURCES, 1)
    alike = {name: COPIES * values for name, values in sums.items() if name != "pairs"}
    alike["pairs"] = COPIES**2 * sums["pairs"]
    rows = without_background(np.round(model(6000, share=0.0))[None])
    one, eight, none = (
        curves(rows, shapes_of(s, 1))
        for s in (sums, alike, {**sums, "pairs": np.zeros_like(sums["pairs"])})
    )
    np.testing.assert_allclose(eight.error, one.error, rtol=1e-6)
    assert one.error[0] > 1.2 * none.error[0]


def test_error_of_events_and_templates_together_is_the_scatter(expected):
    """A small category: 650 events, of which 500 are embedded."""
    random = np.random.default_rng(25)
    counts = random.poisson(650 * expected, (SETS, len(expected))).astype(float)
    found = curves(without_background(counts), shapes_of(made(random, SETS, SOURCES, COPIES), SETS))
    z = found.distance(np.zeros(SETS), np.zeros(SETS))
    assert 0.77 < np.sqrt(np.mean(z**2)) < 1.23


@pytest.mark.xfail(
    strict=True,
    reason="of 650 events the width at the best scatters by 1.4 of its expected error: it is not a"
    " parabola, and the distance is what is compared",
)
def test_best_of_a_small_category_scatters_by_its_error(expected):
    random = np.random.default_rng(25)
    counts = random.poisson(650 * expected, (SETS, len(expected))).astype(float)
    found = curves(without_background(counts), shapes_of(made(random, SETS, SOURCES, COPIES), SETS))
    assert 0.7 < np.sqrt(np.mean((found.best / found.error) ** 2)) < 1.3


def test_noise_lowers_the_likelihood():
    """By the variance without it over that with it."""
    random = np.random.default_rng(29)
    shapes = shapes_of(made(random, 1, SOURCES, COPIES), 1)
    rows = rows_of(np.round(model(6000))[None])
    found = curves(rows, shapes)
    events = curves(rows, replace(shapes, pairs=np.zeros_like(shapes.pairs)))
    ratio = (events.error / found.error) ** 2
    assert ratio[0] < 0.9
    np.testing.assert_allclose(found.nll, ratio * events.nll, rtol=1e-6, atol=1e-9)


def test_count_pairs_is_the_slow_loop():
    random = np.random.default_rng(3)
    places = random.integers(-1, 4 * 5, (6, 200)).astype(np.int32)
    weight = random.normal(1, 1, 200)
    found = np.zeros((4, 5, 5))
    count_pairs(places, weight, 5, found)
    expected = np.zeros((4, 5, 5))
    for i in range(200):
        inside = np.zeros((4, 5))
        for place in places[:, i]:
            if place >= 0:
                inside[place // 5, place % 5] += 1
        for c in range(4):
            expected[c] += weight[i] ** 2 * np.outer(inside[c], inside[c])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_templates_with_empty_bins_never_give_a_probability_of_zero():
    """Twenty sources: the smoothing swings below zero between their copies."""
    random = np.random.default_rng(31)
    shapes = shapes_of(made(random, 5, 20, COPIES), 5)
    assert np.any(np.diff(shapes.cumulative, axis=2)[:, :, FIRST:LAST] < 0)
    floors = floors_of(shapes)
    assert np.all(floors > 0)
    for j in range(POINTS):
        for share in (0.0, 0.3):
            nuisances = np.array([np.full(5, 1.0007), np.full(5, share), np.zeros(5)])
            total, _, signal = fractions(shapes.cumulative[:, j], floors, nuisances, WINDOW)
            assert np.all(total > 0) and np.all(signal > 0)
    found = curves(rows_of(np.tile(np.round(model(3000)), (5, 1))), shapes)
    assert np.isfinite(found.nll).all()
