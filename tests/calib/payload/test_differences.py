"""Moves in standard deviations: pulls and chi2 of draws with a known covariance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from calib.errors import InputError
from calib.payload.differences import difference

NAMES = tuple(f"A_{i}" for i in range(12))


def covariance(seed: int, n: int = len(NAMES)) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(n, 2 * n))
    return a @ a.T / n * 1e-8


def test_pulls_and_chi2_of_draws() -> None:
    first, second = covariance(1), 3 * covariance(2)
    random = np.random.default_rng(3)
    pulls, probabilities = [], []
    for _ in range(400):
        a, b = (random.multivariate_normal(np.zeros(12), c) for c in (first, second))
        found = difference(NAMES, a, first, b, second)
        pulls.append(found.pull)
        probabilities.append(found.probability)
        assert found.ndf == 12
    assert abs(np.mean(pulls)) < 4 / np.sqrt(len(np.ravel(pulls)) / 3)
    assert np.std(pulls) == pytest.approx(1, abs=0.04)
    assert kstest(probabilities, "uniform").pvalue > 1e-3


def test_one_parameter_by_hand() -> None:
    found = difference(
        ("A",), np.array([1.0]), np.array([[9.0]]), np.array([6.0]), np.array([[16.0]])
    )
    assert (found.move[0], found.pull[0], found.chi2, found.ndf) == (5.0, 1.0, 1.0, 1)


def test_parameters_that_are_one_another_count_once() -> None:
    block = np.full((3, 3), 4.0)
    found = difference(NAMES[:3], np.zeros(3), block, np.full(3, 6.0), np.full((3, 3), 5.0))
    assert found.ndf == 1 and found.chi2 == pytest.approx(4.0)


def test_no_value_is_no_move() -> None:
    first, second = covariance(1), covariance(2)
    after = np.zeros(12)
    after[4] = np.nan
    second[7] = second[:, 7] = np.nan
    found = difference(NAMES, np.zeros(12), first, after, second)
    assert np.isnan(found.pull[[4, 7]]).all() and np.isfinite(np.delete(found.pull, [4, 7])).all()
    assert found.ndf == 10 and found.chi2 == pytest.approx(0)
    nothing = difference(NAMES, np.zeros(12), first, np.full(12, np.nan), second)
    assert nothing.ndf == 0 and np.isnan(nothing.probability)


def test_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"covariance: found shape \(2, 2\), expected \(12, 12\)"):
        difference(NAMES, np.zeros(12), np.eye(2), np.zeros(12), np.eye(12))
