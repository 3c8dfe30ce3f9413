"""Templates that are pooled, slopes that categories have in common."""

import numpy as np
import pytest

from calib.calibrations.momentum_scale.constants.peaks import (
    common_slope,
    pooled,
    shared_variance,
    template_mass,
)
from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums import collect
from calib.calibrations.momentum_scale.sums.grid import grid
from calib.events.histograms import add
from calib.fitting.many import fit_categories

from .conftest import toys

EDGES = np.linspace(2.9, 3.3, 51)
SETTINGS = Settings(eta=tuple(np.linspace(-2.4, 2.4, 5).round(10)))


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


@pytest.mark.parametrize("resonance", ["jpsi", "z"])
def test_noise_of_the_reference_is_that_of_its_sources(resonance):
    """Means of independent source sets scatter as their errors say, though copies are smeared."""
    sets, per, copies = 16, 25_000, 4
    g = grid(SETTINGS, resonance)
    made = toys(resonance, sets * per, 77, simulation=True)
    a2, c2 = np.full(4, 0.013**2), np.full(4, 1.5e-4**2)
    sums = [
        collect.reference(
            collect.simulated_copies(made.take(np.arange(i, i + per)), g, a2, c2, "mc", 1, copies),
            g,
            "r",
            True,
        )
        for i in range(0, sets * per, per)
    ]
    total = add(sums)
    template = pooled(total["r/template/counts"].astype(float), g)
    use = total["r/mass/counts"].sum(1) > 600 * sets
    assert use.sum() > 10
    pulls = []
    for s in sums:
        own = s["r/mass/counts"][use].astype(float)
        # the shape that all sets know, with the entries of the set
        shape = template[use] / template[use].sum(1, keepdims=True) * own.sum(1, keepdims=True)
        found = fit_categories(
            own,
            g.mass_edges,
            shape,
            template_mass(total, "r", g.gen_edges),
            background="none",
            template_variance=shared_variance(shape, copies),
        )
        pulls.append((found.mu, found.mu_err))
    mu, err = np.moveaxis(np.array(pulls), 1, 0)
    found = np.sqrt(((mu - mu.mean(0)) ** 2 / err**2).mean() * sets / (sets - 1))
    assert abs(found - 1) < 0.1


def test_what_one_copy_shares_is_nothing():
    assert not shared_variance(np.ones((2, 3)), 1).any()
    assert not shared_variance(np.ones((2, 3)), 0).any()
