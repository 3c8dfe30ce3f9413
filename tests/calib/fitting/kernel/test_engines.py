"""Gradient and Hessian against differences, the model against error functions."""

from __future__ import annotations

import numpy as np
import pytest

from calib.fitting.kernel import exact
from calib.fitting.kernel.numpy_engine import evaluate, gradient, likelihood
from calib.fitting.kernel.numpy_engine import exact as hessian
from calib.fitting.kernel.problem import coefficients, problem
from tests.calib.fitting.kernel.toys import EDGES, toys

STEPS = np.array([1e-6, 1e-8, 1e-5, 1e-4, 1e-4])


@pytest.fixture(scope="module", params=["exponential", "quadratic"])
def case(request):
    data = toys(3, 2)
    shared = problem(EDGES, (2.6, 3.5), (0.003, 0.03), request.param, False, (0.97, 1.03))
    g = coefficients(shared, data.templates, data.mass)
    theta = np.array([[0.001, 0.013**2, 0.08, 0.3, -0.4]])[:, : shared.n_parameters]
    return shared, data, g[:1], theta


def test_gradient_and_hessian_are_those_of_the_likelihood(case):
    shared, data, g, theta = case
    counts = data.counts[:1]

    def at(t):
        state = evaluate(shared, g, t)
        return (
            likelihood(shared, counts, np.zeros(1), state, t)[0],
            gradient(shared, counts, state, t)[0],
        )

    slope = at(theta)[1]
    second = hessian(shared, counts, evaluate(shared, g, theta), theta)[0]
    size = np.sqrt(np.diag(second))
    for i, step in enumerate(STEPS[: theta.shape[1]]):
        move = np.zeros_like(theta)
        move[0, i] = step
        up, down = at(theta + move), at(theta - move)
        assert (up[0] - down[0]) / (2 * step) == pytest.approx(slope[i], rel=1e-5, abs=1e-3)
        difference = (up[1] - down[1]) / (2 * step)
        assert np.abs((difference - second[i]) / (size * size[i])).max() < 1e-5


def test_bin_contents_are_those_of_error_functions(case):
    shared, data, g, theta = case
    t = evaluate(shared, g, theta).t[0]
    mu = np.exp(theta[0, 0])
    outside = theta[0].copy()
    outside[:2] = mu, mu * np.sqrt(theta[0, 1])
    template = data.templates[0] / data.templates[0].sum()
    other, _ = exact.model(
        outside, EDGES, template, data.mass, shared.nodes, shared.weights, shared.n_background
    )
    assert t.sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(t - other).max() < 2e-6 * other.max()
