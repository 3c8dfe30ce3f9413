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
    """3000 categories of 48 events, a quarter of them background of slope 3."""
    random = np.random.default_rng(3)
    t = np.linspace(0, 1, 51)
    background = np.diff(-np.exp(-3.0 * t))
    background /= background.sum()
    peak = np.exp(-0.5 * ((0.5 * (EDGES[1:] + EDGES[:-1]) / 3.0969 - 1) / 0.012) ** 2)
    p = 36 * peak / peak.sum() + 12 * background
    return random.poisson(p, (3000, 50)).astype(float)


def fits(counts, **keys):
    template, mass = np.full((len(counts), 1), 1e6), np.array([3.0969])
    return fit_categories(counts, EDGES, template, mass, engine="numpy", **keys)


def weighted_mean(found):
    w = 1 / found.slope_err[found.ok] ** 2
    return float((w * found.slope[found.ok]).sum() / w.sum())


def test_the_slope_that_all_have_in_common_is_found(few_events):
    found = fits(few_events)
    w = 1 / found.slope_err[found.ok] ** 2
    own = float((w * found.slope[found.ok]).sum() / w.sum())
    common = common_slope(found)
    assert abs(common - 3) < 0.75 * abs(own - 3)  # each is pulled toward 0


def test_usual_slope_does_not_matter_to_many_events(few_events):
    counts = few_events.sum(0, keepdims=True)
    a, b = fits(counts), fits(counts, usual_slope=3.0)
    assert abs(a.mu - b.mu) < 0.01 * a.mu_err
    assert abs(a.slope - b.slope) < 0.05 * a.slope_err
    np.testing.assert_allclose(a.slope_err, b.slope_err, rtol=0.01)
    np.testing.assert_allclose(a.nll, b.nll, atol=0.3)  # (3 / 5)^2 / 2 of the constraint


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
