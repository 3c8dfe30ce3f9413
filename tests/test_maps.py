"""Maps of thousands of fits, and the page that holds them."""

from __future__ import annotations

import io

import numpy as np

import calib
from calib.categories import Axis, Categories
from calib.maps import axis_map, mean_over_others

ETA = tuple(np.linspace(-2.4, 2.4, 25))
MANY = Categories.of(
    [
        Axis("eta_plus", ETA),
        Axis("eta_minus", ETA),
        Axis("log_pt_ratio", (-1.0, -0.3, 0.3, 1.0)),
    ]
)


def test_mean_over_the_other_axes_is_weighted_and_leaves_out_what_is_no_number():
    two = Categories.of([Axis("a", (0.0, 1, 2)), Axis("b", (0.0, 1, 2)), Axis("c", (0.0, 1, 2))])
    values = np.array([1.0, 3.0, 5.0, np.nan, np.nan, np.nan, 7.0, 9.0])
    weights = np.array([1.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    found = mean_over_others(values, weights, two, 0, 1)
    np.testing.assert_allclose(found, [[2.5, 5.0], [np.nan, 7.0]])
    np.testing.assert_allclose(mean_over_others(values, weights, two, 1, 0), found.T)


def test_maps_of_fits_of_many_categories():
    random = np.random.default_rng(4)
    n = len(MANY)
    edges = np.linspace(2.9, 3.3, 41)
    middle = 0.5 * (edges[1:] + edges[:-1])
    scale = 1 + 1e-3 * np.repeat(np.linspace(-1, 1, 24), n // 24)
    shape = np.exp(-0.5 * ((middle - 3.0969 * scale[:, None]) / (0.012 * 3.0969)) ** 2) + 0.05
    counts = random.poisson(600 * shape / shape.sum(1, keepdims=True))
    fits = calib.fit_categories(counts, edges, np.ones((n, 1)), np.array([3.0969]))
    assert np.mean(fits.status == "ok") > 0.99
    for values, center in ((fits.mu, 1.0), (fits.sigma, None)):
        figure = axis_map(values, fits.mu_err**-2, MANY, 0, 1, label="mu", center=center)
        out = io.BytesIO()
        figure.savefig(out, format="svg")
        assert len(out.getvalue()) < 500_000
    found = mean_over_others(fits.mu, fits.mu_err**-2, MANY, 0, 1).mean(axis=1)
    np.testing.assert_allclose(found, 1 + 1e-3 * np.linspace(-1, 1, 24), atol=3e-4)
