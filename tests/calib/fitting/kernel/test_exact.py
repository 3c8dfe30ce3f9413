"""The engines against iminuit on the model with error functions, from several starts."""

from __future__ import annotations

import numpy as np
import pytest

import calib
from tests.calib.fitting.kernel.toys import toys

PARAMETERS = ("mu", "sigma", "background", "slope")
STARTS = ((1.0, 0.012, 0.08, 0.3), (1.0, 0.005, 0.3, 0.0), (1.003, 0.02, 0.1, 0.5))


def test_three_hundred_categories_are_what_minuit_gives_with_error_functions():
    data = toys(300, 4)
    reference = calib.fit_categories(*data.arrays, engine="minuit")
    assert reference.ok.all()
    for engine in ("numpy", "compiled"):
        found = calib.fit_categories(*data.arrays, engine=engine)
        assert found.ok.all()
        for name in PARAMETERS:
            error = getattr(reference, f"{name}_err")
            assert np.abs((getattr(found, name) - getattr(reference, name)) / error).max() < 1e-3
            assert np.abs(getattr(found, f"{name}_err") / error - 1).max() < 0.005


def lowest(arrays, at):
    """Return the lowest NLL that iminuit finds from the starts, for some categories."""
    counts, edges, templates, mass = arrays
    found = [
        calib.fit_categories(
            counts[at],
            edges,
            templates[at],
            mass,
            engine="minuit",
            start=start,
            template_errors=False,
        ).nll
        for start in STARTS
    ]
    return np.fmin.reduce(found)


@pytest.fixture(scope="module")
def stress():
    """Return categories of 50 to 3000 events, scale within 1 %, up to half background."""
    return toys(
        3000, 21, (50, 3000), sigma=(0.003, 0.025), background=(0.0, 0.5), spread=0.01 / np.sqrt(3)
    )


def test_every_category_of_the_stress_set_is_right_or_marked(stress):
    found = calib.fit_categories(*stress.arrays)
    assert found.ok.mean() > 0.99
    marked = np.flatnonzero(~found.ok)
    climbed = np.flatnonzero(found.ok & (found.step != "first"))
    sample = np.unique(np.concatenate([marked, climbed[:40], np.arange(160)]))
    right = found.nll[sample] < lowest(stress.arrays, sample) + 0.1
    assert (right | ~found.ok[sample]).all()
    for name in ("mu", "sigma"):
        ok = found.ok
        pull = (getattr(found, name) - getattr(stress, name))[ok] / getattr(found, f"{name}_err")[
            ok
        ]
        assert abs(np.median(pull)) < 0.1  # few events: errors are not symmetric
        assert 0.9 < np.diff(np.quantile(pull, [0.1587, 0.8413]))[0] / 2 < 1.1


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_the_number_of_threads_does_not_change_a_bit(stress, engine):
    counts, edges, templates, mass = stress.arrays
    some = slice(0, 1200)
    one, three = (
        calib.fit_categories(
            counts[some], edges, templates[some], mass, engine=engine, threads=threads
        )
        for threads in (1, 3)
    )
    for name in ("mu", "sigma", "covariance", "nll", "chi2", "edm"):
        assert np.array_equal(getattr(one, name), getattr(three, name), equal_nan=True)
    assert (one.step == three.step).all() and (one.status == three.status).all()
