"""The hierarchical model against direct quadrature, and against toys whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from calib.fitting.random_effects import GRID, SPREADS, Prior, estimate, on_grid, population

ONE = Prior(np.array([[1.0]]))
"""Of a model of one parameter: normal with standard deviation 1."""


def gaussian(best, error):
    """Return Gaussian likelihoods on the common grid."""
    x = np.tile(np.linspace(-1.2, 1.2, 401), (len(best), 1))
    return on_grid(x, 0.5 * ((x - best[:, None]) / error[:, None]) ** 2)


# direct quadrature, a model of one parameter -----------------------------------------------------
X = np.linspace(-1.5, 1.5, 1501)
THETA = np.linspace(-0.6, 0.6, 121)


def around(tau):
    """Return the density of x (rows) around each THETA, Student's t of 4 degrees of freedom."""
    density = (1 + ((X[:, None] - THETA) / tau) ** 2 / 4) ** -2.5
    return density / density.sum(0)


def evidence(best, error, tau):
    """Return rows x THETA: integral over x, and the means of x and x^2 there."""
    density = around(tau)
    likelihood = np.exp(-0.5 * ((X - best[:, None]) / error[:, None]) ** 2)
    whole = likelihood @ density
    return whole, (likelihood * X) @ density / whole, (likelihood * X**2) @ density / whole


def weights_at(best, error, tau):
    """Return the posterior of THETA at one tau, not normalised, and its logarithm's offset."""
    whole, mean, square = evidence(best, error, tau)
    log = np.log(whole).sum(0) - 0.5 * THETA**2
    return log, mean, square


CASES = {
    "few precise rows": ([0.10, 0.12, 0.05, 0.30], [0.03, 0.04, 0.02, 0.05]),
    "many rows": (0.1 + 0.08 * np.sin(np.arange(20)), 0.02 + 0.01 * np.arange(20)),
    "one odd row": ([0.0, 0.02, -0.01, 0.01, -0.02, 0.35], [0.03] * 6),
}


@pytest.mark.parametrize("case", CASES)
def test_at_each_spread_the_same_as_quadrature(case):
    """Laplace's theta within 0.15 of its error, its error within 10 %; where tau is believed in."""
    best, error = (np.array(v, dtype=float) for v in CASES[case])
    found = population(
        gaussian(best, error), np.ones((len(best), 1)), ONE, np.ones(len(best), bool)
    )
    logs, ours = [], np.array([p.log_weight for p in found.parts])
    for part in found.parts:
        log, _, _ = weights_at(best, error, part.spread)
        w = np.exp(log - log.max())
        mean = np.average(THETA, weights=w)
        sigma = np.sqrt(np.average((THETA - mean) ** 2, weights=w))
        whole = log.max() + np.log(np.trapezoid(w, THETA))
        width = np.gradient(SPREADS)[len(logs)]
        logs.append(whole + np.log(width) - 0.5 * (part.spread / 0.15) ** 2)
        if ours[len(logs) - 1] > ours.max() - 3:
            assert part.theta[0] == pytest.approx(mean, abs=0.15 * sigma)
            assert np.sqrt(part.covariance[0, 0]) == pytest.approx(sigma, rel=0.10)
    # and how much each tau is believed in
    expected, own = (np.exp(v - np.max(v)) for v in (np.array(logs), ours))
    np.testing.assert_allclose(own / own.sum(), expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize("case", CASES)
def test_posterior_of_the_rows_the_same_as_quadrature(case):
    """tau is integrated here on a fine grid; the last row has no likelihood."""
    best, error = (np.array(v, dtype=float) for v in CASES[case])
    likelihood = gaussian(best, error)
    n = len(best)
    found = population(likelihood, np.ones((n, 1)), ONE, np.ones(n, bool))
    posterior = estimate(
        np.concatenate([likelihood, np.ones((1, len(GRID)))]), np.ones((n + 1, 1)), found
    )
    taus = np.arange(0.004, 0.5, 0.008)
    logs, means, squares = [], [], []
    for tau in taus:
        log, mean, square = weights_at(best, error, tau)
        w = np.exp(log - log.max())
        w /= w.sum()
        logs.append(log.max() + np.log(np.exp(log - log.max()).sum()) - 0.5 * (tau / 0.15) ** 2)
        density = around(tau)
        means.append([*(mean @ w), X @ density @ w])
        squares.append([*(square @ w), X**2 @ density @ w])
    weight = np.exp(np.array(logs) - max(logs))
    weight /= weight.sum()
    expected = weight @ np.array(means)
    sigma = np.sqrt(weight @ np.array(squares) - expected**2)
    assert np.all(np.abs(posterior.mean - expected) < 0.1 * sigma)
    np.testing.assert_allclose(posterior.error, sigma, rtol=0.10)


def test_a_precise_row_keeps_its_value_and_one_without_has_the_model():
    best, error = np.array([0.3, 0.0, 0.1]), np.array([0.004, 0.05, 0.05])
    likelihood = np.concatenate([gaussian(best, error), np.ones((1, len(GRID)))])
    model = np.ones((4, 1))
    found = population(likelihood, model, ONE, np.array([True, True, True, False]))
    posterior = estimate(likelihood, model, found)
    assert posterior.mean[0] == pytest.approx(0.3, abs=0.004)
    assert posterior.error[0] == pytest.approx(0.004, rel=0.15)
    assert posterior.mean[3] == pytest.approx(found.theta[0], abs=0.01)
    assert posterior.error[3] == pytest.approx(
        np.hypot(found.spread, np.sqrt(found.covariance[0, 0])), rel=0.15
    )


def test_rows_that_are_not_used_have_no_say():
    best, error = np.array([0.1, 0.1, 0.1, -0.5]), np.full(4, 0.03)
    likelihood, model = gaussian(best, error), np.ones((4, 1))
    used = np.array([True, True, True, False])
    found = population(likelihood, model, ONE, used)
    alone = population(likelihood[:3], model[:3], ONE, used[:3])
    np.testing.assert_array_equal(found.theta, alone.theta)


def test_a_likelihood_goes_on_beyond_its_grid():
    x = np.linspace(-0.3, 0.3, 61)[None]
    inside = np.abs(GRID) < 0.29
    for best in (0.0, 0.28):
        found = on_grid(x, 0.5 * ((x - best) / 0.1) ** 2)[0]
        expected = np.exp(-0.5 * ((GRID - best) / 0.1) ** 2)
        np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)
        assert np.all(np.diff(found[GRID > 0.31]) <= 0)
        assert np.all(np.diff(found[GRID < -0.31]) >= 0)
        # as steep as at the end
        at = np.searchsorted(GRID, [0.4, 0.6])
        slope = -np.diff(np.log(np.maximum(found[at], 1e-300)))[0] / 0.2
        assert slope == pytest.approx((0.3 - best) / 0.01, rel=0.3)


# toys --------------------------------------------------------------------------------------------
TOYS, ROWS, WITHOUT, SPREAD = 100, 30, 3, 0.03
THETA_TRUE = np.array([0.08, -0.10])
ODD = 4
"""A row with an error of 3 %, odd by 30 %."""


@pytest.fixture(scope="module")
def toys():
    """Return means, errors, covariances, truth of the rows of each toy, and thetas."""
    random = np.random.default_rng(5)
    error = np.geomspace(0.02, 0.2, ROWS)
    error[ODD] = 0.03
    model = np.stack([np.ones(ROWS + WITHOUT), np.linspace(-0.5, 0.7, ROWS + WITHOUT)], axis=1)
    model[ROWS:, 1] = (-0.4, 0.0, 0.6)
    prior = Prior(np.diag([1.0, 1.0]) / 0.5**2)
    used = np.arange(ROWS + WITHOUT) < ROWS
    found = []
    for _ in range(TOYS):
        truth = model @ THETA_TRUE + SPREAD * random.standard_normal(ROWS + WITHOUT)
        truth[ODD] += 0.30
        best = truth[:ROWS] + error * random.standard_normal(ROWS)
        likelihood = np.concatenate([gaussian(best, error), np.ones((WITHOUT, len(GRID)))])
        common = population(likelihood, model, prior, used)
        posterior = estimate(likelihood, model, common)
        found.append(
            (
                posterior.mean,
                posterior.covariance,
                truth,
                best[ODD],
                common.theta,
                common.covariance,
                common.spread,
            )
        )
    return [np.array(column) for column in zip(*found, strict=True)]


@pytest.mark.slow
def test_pulls_of_the_rows(toys):
    """Errors cover: statistics of 100 toys are 2 %, 10 % are for the t_4 that the truth is not."""
    mean, covariance, truth, *_ = toys
    pulls = (mean - truth) / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    ordinary = np.delete(pulls[:, :ROWS], ODD, axis=1)
    assert np.sqrt(np.mean(ordinary**2)) < 1.12
    assert np.abs(ordinary).max() < 5
    assert abs(ordinary.mean()) < 0.1
    # precise and imprecise ones alike: a third each
    for part in (ordinary[:, :10], ordinary[:, 10:20], ordinary[:, 20:]):
        assert np.sqrt(np.mean(part**2)) < 1.15


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="beside a row that is odd by ten spreads the errors are 20 % too large, and those of"
    " rows without a likelihood nearly twice: the odd row widens the t_4, whose standard deviation"
    " is 1.4 tau",
)
def test_errors_are_not_too_large(toys):
    mean, covariance, truth, *_ = toys
    pulls = (mean - truth) / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert np.sqrt(np.mean(np.delete(pulls[:, :ROWS], ODD, axis=1) ** 2)) > 0.88
    assert np.sqrt(np.mean(pulls[:, ROWS:] ** 2)) > 0.65


@pytest.mark.slow
def test_leaning_makes_it_better(toys):
    mean, _, truth, *_ = toys
    off = np.sqrt(np.mean((mean - truth)[:, 20:ROWS] ** 2))
    assert off < 0.05  # 13 % alone


@pytest.mark.slow
def test_the_odd_row_keeps_its_own_value(toys):
    """Not pulled by more than one of its errors, 3 %; a normal spread would by two."""
    mean, covariance, truth, own, *_ = toys
    assert abs(np.mean(mean[:, ODD] - own)) < 0.03
    pulls = (mean[:, ODD] - truth[:, ODD]) / np.sqrt(covariance[:, ODD, ODD])
    assert np.sqrt(np.mean(pulls**2)) < 1.5


@pytest.mark.slow
def test_rows_without_a_likelihood_have_the_spread_in_their_error(toys):
    """The truth scatters by 3 %; the t_4 that holds an odd row of 30 % too is wider."""
    mean, covariance, truth, *_ = toys
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))[:, ROWS:]
    pulls = (mean - truth)[:, ROWS:] / error
    assert np.sqrt(np.mean(pulls**2)) < 1.1
    assert np.median(error) > SPREAD


@pytest.mark.slow
def test_the_covariance_of_what_is_common_is_the_scatter(toys):
    """100 toys know a standard deviation to 7 %: the bounds are 3 of these."""
    mean, covariance, truth, _, theta, of_theta, _ = toys
    scatter = np.sqrt(np.mean((theta - THETA_TRUE) ** 2, axis=0))
    claimed = np.sqrt(np.diagonal(of_theta.mean(0)))
    np.testing.assert_allclose(scatter / claimed, 1.0, atol=0.25)
    # the mean of all rows without the odd one: correlations make up most of its variance
    rows = np.delete(np.arange(ROWS), ODD)
    together = (mean - truth)[:, rows].mean(1)
    variance = covariance[:, rows][:, :, rows].sum((1, 2)) / len(rows) ** 2
    assert 0.8 < np.sqrt(np.mean(together**2 / variance)) < 1.25
    own = np.einsum("tii->t", covariance[:, rows][:, :, rows]) / len(rows) ** 2
    assert np.median(variance / own) > 1.5
