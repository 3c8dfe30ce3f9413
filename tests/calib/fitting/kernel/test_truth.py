"""What the fits find against what is true, with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

import calib
from tests.calib.fitting.kernel.toys import EDGES, histogram, toys


@pytest.fixture(scope="module")
def many():
    return toys(12_000, 11)


@pytest.fixture(scope="module")
def fitted(many):
    return calib.fit_categories(*many.arrays)


def test_pulls_of_twelve_thousand_categories(many, fitted):
    assert fitted.ok.all()
    for name in ("mu", "sigma"):
        pull = (getattr(fitted, name) - getattr(many, name)) / getattr(fitted, f"{name}_err")
        assert abs(pull.mean()) < 0.03
        assert 0.97 < pull.std() < 1.03
    assert abs((fitted.chi2 / fitted.ndf).mean() - 1) < 0.01
    assert fitted.edm.max() < 1e-7


def test_compiled_and_numpy_agree_to_a_millionth_of_an_error(many, fitted):
    some = slice(0, 1500)
    counts, edges, templates, mass = many.arrays
    other = calib.fit_categories(counts[some], edges, templates[some], mass, engine="numpy")
    assert fitted.engine == "compiled"
    for name in ("mu", "sigma", "background", "slope"):
        error = getattr(other, f"{name}_err")
        assert np.abs((getattr(fitted, name)[some] - getattr(other, name)) / error).max() < 1e-6
        assert np.abs(getattr(fitted, f"{name}_err")[some] / error - 1).max() < 1e-6


def response(mass, mu, sigma, edges=EDGES):
    """Return the exact content of each bin for each generated mass, shape (gen, bins)."""
    from scipy.stats import norm

    return np.diff(norm.cdf(edges / mass[:, None], mu, sigma), axis=1)


def test_means_of_four_mev_bins_leave_no_bias():
    random = np.random.default_rng(2)
    fine = 3.0969 - np.where(random.random(400_000) < 0.3, random.exponential(0.03, 400_000), 0.0)
    template, mass = histogram(fine)
    content, at = histogram(fine, bins=9000)
    expected = content @ response(at, 1.0005, 0.012) * 20
    found = calib.fit_categories(expected, EDGES, template, mass, background="none")
    assert found.ok.all()
    assert abs(found.mu[0] - 1.0005) < 1e-5
    centres = np.linspace(2.602, 3.498, 225)
    wrong = calib.fit_categories(expected, EDGES, template, centres, background="none")
    assert abs(wrong.mu[0] - 1.0005) > 5e-5


@pytest.mark.parametrize("counted", [True, False])
def test_pulls_have_width_one_only_with_the_statistics_of_the_template(counted):
    random = np.random.default_rng(5)
    n = 600
    peak = 3.0969 + 0.03 * random.standard_normal((n, 2, 4000))
    edges = np.linspace(2.8, 3.4, 151)
    templates = np.stack([np.histogram(x[0], edges)[0] for x in peak])
    mass = 0.5 * (edges[1:] + edges[:-1])
    reco = peak[:, 1] * (1 + 0.01 * random.standard_normal((n, 4000)))
    counts = np.stack([np.histogram(x, EDGES)[0] for x in reco])
    found = calib.fit_categories(
        counts, EDGES, templates, mass, background="none", template_errors=counted
    )
    assert found.ok.all()
    for name, truth in (("mu", 1.0), ("sigma", 0.01)):
        pull = (getattr(found, name) - truth) / getattr(found, f"{name}_err")
        if counted:
            assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n)
        else:
            assert pull.std() > 1.1


@pytest.mark.parametrize("weights", [[0.3, 1.0, 3.0], [-1.0, 1.0, 1.0, 1.0, 1.0]])
def test_pulls_of_weighted_events(weights):
    random = np.random.default_rng(9)
    n, template = 600, np.array([1e9])
    shape = 0.9 * response(np.array([3.0969]), 1.0, 0.012)[0] + 0.1 / 100
    counts, variance = np.zeros((n, 100)), np.zeros((n, 100))
    for i in range(n):
        bins = np.repeat(np.arange(100), random.poisson(8000 * shape))
        w = random.choice(weights, len(bins))
        counts[i] = np.bincount(bins, w, minlength=100)
        variance[i] = np.bincount(bins, w**2, minlength=100)
    found = calib.fit_categories(
        counts, EDGES, np.tile(template, (n, 1)), [3.0969], variance=variance
    )
    assert found.ok.all()
    for name, truth in (("mu", 1.0), ("sigma", 0.012)):
        pull = (getattr(found, name) - truth) / getattr(found, f"{name}_err")
        assert abs(pull.mean()) < 4 / np.sqrt(n)
        assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n)
    assert abs((found.chi2 / found.ndf).mean() - 1) < 0.05


def test_three_peaks_in_one_window_share_mu_and_sigma():
    random = np.random.default_rng(3)
    edges = np.concatenate([np.linspace(8.5, 9, 11), np.linspace(9.02, 11.5, 125)])
    peaks, parts = np.array([9.4604, 10.0233, 10.3552]), np.array([0.55, 0.27, 0.18])
    shape = parts @ response(peaks, 1.001, 0.009, edges)
    flat = np.diff(edges) / np.ptp(edges)
    counts = random.poisson(20_000 * (0.6 * shape + 0.4 * flat), (300, len(flat)))
    for background in ("exponential", "quadratic"):
        found = calib.fit_categories(
            counts, edges, np.tile(parts * 1e7, (300, 1)), peaks, background=background
        )
        assert found.ok.mean() > 0.99
        for name, truth in (("mu", 1.001), ("sigma", 0.009), ("background", 0.4)):
            pull = ((getattr(found, name) - truth) / getattr(found, f"{name}_err"))[found.ok]
            assert abs(pull.mean()) < 4 / np.sqrt(300), (background, name)
            assert abs(pull.std() - 1) < 4 / np.sqrt(600), (background, name)
    assert found.covariance.shape == (300, 5, 5)


def test_chi2_knows_how_well_the_template_is_known():
    random = np.random.default_rng(3)
    n, events, generated, edges = 300, 8000, 4000, np.linspace(2.6, 3.6, 251)
    peak = 3.0969 + 0.03 * random.standard_normal((n, events + generated))
    templates = np.stack([np.histogram(x[events:], edges)[0] for x in peak])
    reco = peak[:, :events] * (1 + 0.003 * random.standard_normal((n, events)))
    counts = np.stack([np.histogram(x, EDGES)[0] for x in reco])
    mass = 0.5 * (edges[1:] + edges[:-1])
    found, exact = (
        calib.fit_categories(
            counts, EDGES, templates, mass, background="none", template_errors=errors
        )
        for errors in (True, False)
    )
    assert abs((found.chi2 / found.ndf)[found.ok].mean() - 1) < 0.04
    assert (exact.chi2 / exact.ndf)[exact.ok].mean() > 1.08
