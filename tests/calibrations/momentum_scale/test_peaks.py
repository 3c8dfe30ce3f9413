"""Templates that are pooled, slopes that categories have in common."""

import numpy as np
import pytest

from calib.calibrations.momentum_scale.grid import grid
from calib.calibrations.momentum_scale.peaks import common_slope, generated_share, pooled
from calib.calibrations.momentum_scale.settings import Settings
from calib.fit_all import fit_categories

EDGES = np.linspace(2.9, 3.3, 51)


@pytest.fixture(scope="module")
def few_events():
    """1500 categories of 150 events, a third of them background of slope 2."""
    random = np.random.default_rng(3)
    t = np.linspace(0, 1, 51)
    background = np.diff(-np.exp(-2.0 * t))
    background /= background.sum()
    peak = np.exp(-0.5 * ((0.5 * (EDGES[1:] + EDGES[:-1]) / 3.0969 - 1) / 0.012) ** 2)
    p = 100 * peak / peak.sum() + 50 * background
    return random.poisson(p, (1500, 50)).astype(float)


def fits(counts, **keys):
    template, mass = np.full((len(counts), 1), 1e6), np.array([3.0969])
    return fit_categories(counts, EDGES, template, mass, engine="numpy", **keys)


def test_the_slope_that_all_have_in_common_is_found(few_events):
    found = fits(few_events)
    assert np.mean(found.slope[found.ok]) < 1.95  # each is pulled toward 0
    assert common_slope(found) == pytest.approx(2.0, abs=0.06)


def test_categories_are_no_longer_pulled_to_zero(few_events):
    found = fits(few_events, usual_slope=2.0)
    assert np.mean(found.slope[found.ok]) == pytest.approx(2.0, abs=0.06)


def test_usual_slope_does_not_matter_to_many_events(few_events):
    counts = few_events.sum(0, keepdims=True)
    a, b = fits(counts), fits(counts, usual_slope=2.0)
    assert abs(a.mu - b.mu) < 0.01 * a.mu_err
    assert abs(a.slope - b.slope) < 0.05 * a.slope_err
    np.testing.assert_allclose(a.slope_err, b.slope_err, rtol=0.01)
    np.testing.assert_allclose(a.nll, b.nll, atol=0.1)


def test_pooled_templates_keep_their_sums_and_share_their_shape():
    g = grid(Settings(eta=(-2.4, 0.0, 2.4)), "jpsi")
    template = np.random.default_rng(1).poisson(5.0, (len(g), 7)).astype(float)
    found = pooled(template, g)
    np.testing.assert_allclose(found.sum(1), template.sum(1))
    _, _, ratio, angle = g.bins()
    same = np.flatnonzero((ratio == 2) & (angle == 3))
    assert len(same) > 2
    shape = found[same] / found[same].sum(1, keepdims=True)
    np.testing.assert_allclose(shape, np.broadcast_to(shape[0], shape.shape))


def test_share_of_the_generated_width():
    mass = np.linspace(80, 100, 2001)
    wide = np.exp(-0.5 * ((mass - 90) / 1.8) ** 2)[None]
    assert generated_share(wide, mass, np.array([0.02**2]))[0] == pytest.approx(0.5, abs=0.01)
    narrow = np.zeros((1, 2001))
    narrow[0, 1000] = 1.0
    assert generated_share(narrow, mass, np.array([0.02**2]))[0] == 0.0
