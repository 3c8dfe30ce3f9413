"""The line through variances: unbiased although small widths have small errors."""

from __future__ import annotations

import numpy as np

from calib.fitting.straight_line import straight_line


def test_pulls_and_no_bias() -> None:
    random = np.random.default_rng(5)
    u, truth = np.geomspace(0.01, 1.0, 10), np.array([144.0, 3600.0])
    n = 700  # events a point
    pulls, chi2 = [], []
    for _ in range(1500):
        true = truth[0] + truth[1] * u
        y = true * random.chisquare(n - 1, len(u)) / (n - 1)
        found = straight_line(u, y, np.full(len(u), np.sqrt(2 / n)))
        pulls.append((found.values - truth) / np.sqrt(np.diagonal(found.covariance)))
        chi2.append(found.chi2)
    mean, width = np.mean(pulls, axis=0), np.std(pulls, axis=0)
    assert np.all(np.abs(mean) < 0.1) and np.all(np.abs(width - 1) < 0.08)
    assert abs(np.mean(chi2) / found.ndf - 1) < 0.06


def test_not_determined() -> None:
    for u in ([], [1.0], [1.0, 1.0]):
        x = np.array(u)
        found = straight_line(x, x, x)
        assert np.isnan(found.values).all() and found.ndf == len(u) - 2
    two = straight_line(np.array([1.0, 2.0]), np.array([3.0, 5.0]), np.array([0.1, 0.1]))
    assert np.allclose(two.values, [1.0, 2.0]) and two.ndf == 0 and two.chi2 < 1e-12
    assert np.isclose(two.variance(np.array([1.0]))[0], 0.3**2)
