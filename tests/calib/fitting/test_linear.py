"""Least squares from sums: those of all entries at once, with their errors."""

from __future__ import annotations

import numpy as np

from calib.fitting.linear import linear_fits, moments

TRUE = np.array([[0.5, 2.0, -1.0], [1.5, -0.3, 0.2]])


def entries(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    sets, t = random.integers(0, 2, n), random.uniform(-1, 1, n)
    x = np.column_stack([np.ones(n), t, t**2])
    return sets, x, np.einsum("nj,nj->n", x, TRUE[sets]) + 0.1 * random.normal(size=n)


def test_sums_add_and_give_what_one_fit_gives() -> None:
    sets, x, y = entries(1, 4000)
    whole = moments(sets, 3, x, y)
    chunks = [slice(i, i + 1000) for i in range(0, 4000, 1000)]
    parts = sum(moments(sets[c], 3, x[c], y[c]) for c in chunks)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    found = linear_fits(whole, np.bincount(sets, minlength=3))
    for i in (0, 1):
        expected = np.linalg.lstsq(x[sets == i], y[sets == i], rcond=None)[0]
        np.testing.assert_allclose(found.values[i], expected, rtol=1e-10)
    assert np.isnan(found.values[2]).all()  # without an entry


def test_pulls() -> None:
    pulls = []
    for seed in range(200):
        sets, x, y = entries(1000 + seed, 300)
        found = linear_fits(moments(sets, 2, x, y), np.bincount(sets, minlength=2))
        errors = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
        pulls.append((found.values - TRUE) / errors)
    p = np.array(pulls)
    assert abs(p.mean()) < 4 / np.sqrt(400) and 0.9 < p.std() < 1.1
