"""The second opinion agrees with good fits and finds a wrong one."""

from __future__ import annotations

import dataclasses

import numpy as np

import calib
from tests.calib.fitting.kernel.toys import toys


def test_good_fits_agree_and_a_wrong_one_does_not():
    data = toys(60, 8)
    found = calib.fit_categories(*data.arrays, engine="numpy")
    table = calib.second_opinion(found, *data.arrays, n=12, seed=3)
    assert list(table["why"]).count("sample") == 12
    assert table["agrees"].all()
    assert table["delta_mu"].abs().max() < 1e-3
    again = calib.second_opinion(found, *data.arrays, n=12, seed=3)
    assert (again["category"] == table["category"]).all()

    at = int(table["category"][4])
    sigma = found.sigma.copy()
    sigma[at] *= 1.5
    wrong = dataclasses.replace(found, sigma=sigma, nll=found.nll + (np.arange(60) == at) * 30)
    table = calib.second_opinion(wrong, *data.arrays, n=12, seed=3)
    assert list(table["category"][~table["agrees"].astype(bool)]) == [at]


def test_suspicious_categories_are_always_in():
    data = toys(20, 9)
    counts = data.counts.copy()
    counts[7] = 0
    counts[7, 30] = 500
    counts[8] = 0
    arrays = (counts, *data.arrays[1:])
    found = calib.fit_categories(*arrays, engine="numpy")
    table = calib.second_opinion(found, *arrays, n=3)
    assert 7 in list(table["category"])
    assert 8 not in list(table["category"])
