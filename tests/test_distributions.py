"""The probabilities are those of scipy.stats, to the bit."""

from __future__ import annotations

import numpy as np
from scipy import stats

from calib.distributions import chi2_sf, normal_isf, normal_pdf, normal_sf

X = np.array([-40.0, -3.2, -1e-9, 0.0, 0.5, 2.0, 8.3, 39.0, np.inf, np.nan])


def test_normal() -> None:
    np.testing.assert_array_equal(normal_pdf(X), stats.norm.pdf(X))
    np.testing.assert_array_equal(normal_sf(X), stats.norm.sf(X))
    p = np.array([0.0, 1e-300, 0.003, 0.5, 1.0])
    np.testing.assert_array_equal(normal_isf(p), stats.norm.isf(p))


def test_chi_squared() -> None:
    for ndf in (0, 1, 2, 35, 4000):
        chi2 = np.concatenate([X, ndf * np.array([0.5, 1.0, 1.4])])
        np.testing.assert_array_equal(chi2_sf(chi2, ndf), stats.chi2.sf(chi2, ndf))
    assert float(chi2_sf(3.84, 1)) == stats.chi2.sf(3.84, 1)
