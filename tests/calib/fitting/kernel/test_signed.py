"""Templates that are smeared already: the sign of sigma^2, and how far below zero it can be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

import calib
from tests.calib.fitting.kernel.toys import EDGES

WIDTH = 0.012


def sample(truth, n, events=20_000, generated=1_000_000):
    """Return counts of a peak of a relative width, templates of WIDTH, and their masses."""
    random = np.random.default_rng(4)
    edges = np.linspace(2.6, 3.6, 251)
    shape = np.diff(norm.cdf(edges / 3.0969, 1, WIDTH))
    templates = random.multinomial(generated, shape / shape.sum(), n)
    counts = random.poisson(events * np.diff(norm.cdf(EDGES / 3.0969, 1, truth)), (n, 100))
    return counts, EDGES, templates, 0.5 * (edges[1:] + edges[:-1])


def pull_of(found, truth):
    return (found.variance - (truth**2 - WIDTH**2)) / found.variance_err


@pytest.mark.parametrize("truth", [0.012, 0.0125, 0.014])
def test_the_difference_of_the_variances_with_its_sign(truth):
    n = 200
    found = calib.fit_categories(*sample(truth, n), smeared=True, background="none")
    assert found.ok.mean() > 0.95
    pull = pull_of(found, truth)[found.ok]
    assert abs(pull.mean()) < 4 / np.sqrt(len(pull))
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * len(pull))
    assert (np.sign(found.sigma) == np.sign(found.variance)).all()


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize(("truth", "events"), [(0.011, 2000), (0.0105, 2000), (0.01, 20_000)])
def test_below_zero_a_fit_is_right_or_marked(truth, events, engine):
    n = 200
    arrays = sample(truth, n, events)
    found = calib.fit_categories(*arrays, smeared=True, background="none", engine=engine)
    wrong = np.abs(pull_of(found, truth)) > 4
    assert (found.ok & wrong).sum() <= 1  # 0.01 are expected of a Gaussian
    assert set(found.status[~found.ok]) <= {"not_determined", "not_converged"}


@pytest.mark.parametrize("truth", [0.009, 0.008, 0.006])
def test_far_below_zero_nothing_is_ok(truth):
    found = calib.fit_categories(*sample(truth, 100), smeared=True, background="none")
    wrong = np.abs(pull_of(found, truth)) > 4
    assert truth > 0.0085 or wrong.mean() > 0.3  # they would be wrong
    assert not found.ok.any()
    assert (found.status == "not_determined").mean() > 0.9
