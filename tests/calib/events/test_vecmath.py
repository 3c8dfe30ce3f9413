"""Functions for vector loops against those of numpy, which are off by 4 ulp on some machines."""

from __future__ import annotations

import numba
import numpy as np

from calib.events.vecmath import atan2, exp, log, sin_cos, sin_squared


@numba.njit(error_model="numpy")
def _both(x, exponentials, sines):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        exponentials[i], sines[i] = exp(x[i]), sin_squared(x[i])


def both(x):
    exponentials, sines = np.empty(len(x)), np.empty(len(x))
    _both(x, exponentials, sines)
    return exponentials, sines


def test_they_agree_with_the_library():
    x = np.concatenate([np.linspace(-12, 12, 100_001), np.linspace(-690, 690, 10_001)])
    exponentials, sines = both(x)
    np.testing.assert_allclose(exponentials, np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(sines, np.sin(x) ** 2, rtol=1e-15, atol=1e-15)
    small = np.geomspace(1e-12, 1e-2, 1000)
    np.testing.assert_allclose(both(small)[1], np.sin(small) ** 2, rtol=1e-15)


def test_not_a_number_stays_so():
    exponentials, sines = both(np.array([np.nan, np.inf, -np.inf, 800.0]))
    assert np.isnan([exponentials[0], *sines[:3]]).all()
    assert exponentials[1] == exponentials[3] > 1e304 and 0 < exponentials[2] < 1e-304


def test_a_number_does_not_depend_on_its_place():
    x = np.random.default_rng(1).uniform(-5, 5, 1003)
    alone = [both(x[i : i + 1]) for i in range(len(x))]
    for found, one_by_one in zip(both(x), zip(*alone, strict=True), strict=True):
        assert np.array_equal(found, np.concatenate(one_by_one))


@numba.njit(error_model="numpy")
def _angles(x, y, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[0, i], out[1, i] = sin_cos(x[i])
        out[2, i], out[3, i] = atan2(y[i], x[i]), log(abs(x[i]))


def test_angles_and_logarithm():
    random = np.random.default_rng(2)
    x, y = random.normal(0, 3, (2, 100_000)) * 10.0 ** random.integers(-6, 3, (2, 100_000))
    y[:100] = 0.0
    out = np.empty((4, len(x)))
    _angles(x, y, out)
    np.testing.assert_allclose(out[:2], [np.sin(x), np.cos(x)], atol=1e-15, rtol=0)
    np.testing.assert_allclose(out[2], np.arctan2(y, x), rtol=2e-15)
    np.testing.assert_allclose(out[3], np.log(np.abs(x)), rtol=1e-15, atol=1e-15)
