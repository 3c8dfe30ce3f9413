"""Every rung is reached, and what it finds is right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

import calib
from calib.fitting import many as fit_all
from calib.fitting.kernel import assess
from calib.fitting.kernel.block import Engine
from tests.calib.fitting.kernel.toys import toys


def pulls(found, truth, name):
    return (getattr(found, name) - getattr(truth, name)) / getattr(found, f"{name}_err")


@pytest.fixture
def engine(monkeypatch):
    """Return a function that takes some fits of the NumPy engine for not converged."""

    def use(refused):
        def fit(shared, block, g, start, fixed, template_errors):
            found = assess.fit(shared, block, g, start, fixed, template_errors)
            bad = np.full(len(start), refused(start[0], fixed))
            return dataclasses.replace(found, converged=found.converged & ~bad)

        monkeypatch.setattr(fit_all, "NUMPY", Engine("numpy", fit))

    return use


@pytest.mark.parametrize("rung", [2, 3, 4, 5, 6])
def test_each_further_start_finds_the_minimum_where_those_before_did_not(engine, rung):
    from calib.fitting.kernel.retries import STARTS

    data = toys(12, 31)
    straight = calib.fit_categories(*data.arrays, engine="numpy")
    mean, width = STARTS[rung - 2][:2]
    engine(lambda start, fixed: not np.allclose(start[:2], [mean, width**2]))
    found = calib.fit_categories(*data.arrays, engine="numpy")
    assert found.ok.all() and (found.step == f"start {rung}").all()
    assert np.abs((found.mu - straight.mu) / straight.mu_err).max() < 1e-3
    assert np.abs((found.sigma - straight.sigma) / straight.sigma_err).max() < 1e-3


def test_a_wrong_minimum_is_left_for_the_lower_one():
    wide = toys(2000, 21, (50, 3000), sigma=(0.003, 0.025), background=(0.0, 0.5), spread=0.006)
    found = calib.fit_categories(*wide.arrays)
    late = found.ok & np.isin(found.step, ["start 3", "start 4", "start 5", "start 6"])
    assert late.sum() > 2
    counts, edges, templates, mass = wide.arrays
    alone = calib.fit_categories(
        counts[late], edges, templates[late], mass, engine="minuit", template_errors=False
    )
    assert (found.nll[late] < alone.nll + 0.1).all()


def test_no_background_is_the_answer_only_where_more_of_it_makes_things_worse(engine):
    empty = toys(40, 32, background=(0.0, 1e-9))
    engine(lambda start, fixed: not fixed[2])
    found = calib.fit_categories(*empty.arrays, engine="numpy")
    simple = found.step == "no background"
    assert simple.sum() > 10
    assert found.ok.all() and (found.background[simple] == 0).all()
    assert found.at_limit[simple, 2].all() and (found.background_err[simple] > 0).all()
    assert np.abs(pulls(found, empty, "sigma")).max() < 4
    # the others have a fluctuation that looks like background: iminuit says how much
    assert (found.step[~simple] == "minuit").all()
    assert (found.background[~simple] > 0).sum() > 3

    full = toys(8, 33)
    found = calib.fit_categories(*full.arrays, engine="numpy")
    assert (found.step == "minuit").all()


def test_minuit_is_right_where_nothing_else_converged(engine):
    data = toys(12, 34)
    straight = calib.fit_categories(*data.arrays, engine="numpy")
    engine(lambda start, fixed: True)
    found = calib.fit_categories(*data.arrays, engine="numpy")
    assert (found.step == "minuit").all() and found.ok.all()
    for name in ("mu", "sigma", "background"):
        error = getattr(straight, f"{name}_err")
        assert np.abs((getattr(found, name) - getattr(straight, name)) / error).max() < 1e-3
        assert np.abs(getattr(found, f"{name}_err") / error - 1).max() < 0.01


def test_what_nobody_can_fit_is_marked(engine, monkeypatch):
    from calib.fitting.kernel import exact

    class Invalid:
        valid = accurate = False
        covariance = None
        nfcn = 1

        def __init__(self, start):
            self.values, self.fval = start, np.inf
            self.fmin = type("fmin", (), {"edm": np.inf})
            self.limits = [(-np.inf, np.inf)] * len(start)

    monkeypatch.setattr(
        exact, "minuit", lambda shared, counts, saturated, t, m, start, fixed: Invalid(start)
    )
    engine(lambda start, fixed: True)
    data = toys(4, 35)
    found = calib.fit_categories(*data.arrays, engine="numpy")
    assert (found.status == "not_converged").all() and not found.ok.any()
    assert np.isnan(found.mu_err).all() and np.isnan(found.covariance).all()


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("edge", [0.005, 0.025])
def test_width_at_the_edge_of_the_first_grid_is_not_at_a_limit(engine, edge):
    """The first rung looks between 0.5 and 2.5 %: just beyond, the second hardly gains."""
    edges, m0 = np.linspace(2.8, 3.4, 151), 3.0969
    width = edge * (1 + np.linspace(-2e-3, 2e-3, 41))
    counts = 500 * np.diff(norm.cdf((edges - m0) / (m0 * width[:, None])), axis=1)
    template = np.full((len(width), 1), 1e6)
    found = calib.fit_categories(
        counts, edges, template, np.array([m0]), engine=engine, background="none"
    )
    assert found.ok.all()
    np.testing.assert_allclose(found.sigma, width, rtol=2e-3)
    assert (found.sigma_err > 0.02 * width).all()
