"""Least squares over all categories: truth, iminuit, and what is not determined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from iminuit import Minuit

import calib
from calib.errors import InputError
from calib.fitting.scale import chi2
from calib.fitting.scale.model import mu2, sigma2

from . import toys

N_ETA = 24


def drawn(c, seed, events=1_250):
    """Return (mu2, sigma2, covariance) drawn from Gaussians about the model."""
    random = np.random.default_rng(seed)
    t, n = c.truth, len(c.means)
    v = c.theta[:, 1]
    cov = np.zeros((n, 2, 2))
    cov[:, 0, 0], cov[:, 1, 1] = 4 * v / events, 4 * v**2 / events
    cov[:, 0, 1] = cov[:, 1, 0] = 0.3 * np.sqrt(cov[:, 0, 0] * cov[:, 1, 1])
    shift = (np.linalg.cholesky(cov) @ random.standard_normal((n, 2, 1)))[:, :, 0]
    return mu2(c.means, t.A, t.e, t.M) + shift[:, 0], sigma2(c.means, t.a2, t.c2) + shift[:, 1], cov


@pytest.fixture(scope="module")
def categories():
    return toys.categories(1_500, N_ETA)


def test_pulls(categories):
    pulls, probability = [], []
    for seed in range(20):
        found = chi2.extract(categories.means, *drawn(categories, seed), n_eta=N_ETA)
        assert found.converged and found.determined.all()
        pulls.append((found.values - categories.truth.vector) / found.errors)
        probability.append((found.chi2 - found.ndf) / np.sqrt(2 * found.ndf))
    for kind in np.split(np.array(pulls), 5, axis=1):
        assert abs(kind.mean()) < 4.5 / np.sqrt(kind.size)
        assert 0.9 < kind.std() < 1.1
    assert abs(np.mean(probability)) < 4 / np.sqrt(20)


def test_without_resolution_the_scale_is_the_same_where_they_do_not_correlate(categories):
    a, b, cov = drawn(categories, 1)
    cov[:, 0, 1] = cov[:, 1, 0] = 0
    both = chi2.extract(categories.means, a, b, cov, n_eta=N_ETA)
    scale = chi2.extract(categories.means, a, b, cov, n_eta=N_ETA, resolution=False)
    assert len(scale.names) == 3 * N_ETA and scale.ndf == 1_500 - 3 * N_ETA
    np.testing.assert_allclose(scale.values, both.values[: 3 * N_ETA], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(scale.errors, both.errors[: 3 * N_ETA], rtol=1e-6)


def test_same_as_iminuit_and_the_exact_hessian():
    """Minuit is given the gradient: by its own differences 50 correlated parameters are 2 % off."""
    c = toys.categories(600, 10)
    a, b, cov = drawn(c, 3, events=20_000)  # the curvature that Gauss-Newton leaves out is small
    weight = np.linalg.inv(cov)
    ours = chi2.extract(c.means, a, b, cov, n_eta=10)

    def value(x):
        A, e, M, a2, c2 = np.split(x * ours.errors, 5)
        r = np.stack([a - mu2(c.means, A, e, M), b - sigma2(c.means, a2, c2)], 1)
        return np.einsum("ni,nij,nj->", r, weight, r)

    def gradient(x):
        """Derivatives by complex steps, which subtract nothing: exact to the last digits."""
        return np.array([value(x + 1e-20j * unit).imag for unit in np.eye(50)]) / 1e-20

    m = Minuit(value, np.zeros(50), grad=gradient)
    m.strategy, m.tol = 2, 1e-5
    m.migrad()
    assert m.valid
    assert ours.chi2 == pytest.approx(m.fval, abs=1e-4)
    at = np.array(m.values)
    np.testing.assert_allclose(ours.values / ours.errors, at, atol=1e-2)
    # a polynomial of fourth order: differences of its gradient are exact but for a cubic part
    # that is as small as the square of what an error changes
    step = 0.5 * np.eye(50)
    hessian = np.array([gradient(at + s) - gradient(at - s) for s in step])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-6 * np.abs(hessian).max())
    exact = np.linalg.inv(hessian / 2)
    size = np.sqrt(np.diagonal(exact))
    np.testing.assert_allclose(size, 1, atol=1e-3)
    correlation = ours.covariance / np.outer(ours.errors, ours.errors)
    np.testing.assert_allclose(correlation, exact / np.outer(size, size), atol=1e-3)


def test_an_empty_eta_bin_is_not_determined_and_the_others_do_not_notice():
    c = toys.categories(800, 12, bins=[i for i in range(12) if i != 7])
    found = chi2.extract(c.means, *drawn(c, 1), n_eta=12)
    empty = np.array([name.endswith("_7") for name in found.names])
    np.testing.assert_array_equal(found.determined, ~empty)
    np.testing.assert_array_equal(np.isnan(found.values), empty)
    assert np.isnan(found.covariance[empty]).all() and np.isnan(found.covariance[:, empty]).all()
    assert np.linalg.eigvalsh(found.covariance[np.ix_(~empty, ~empty)])[0] > 0
    pulls = ((found.values - c.truth.vector) / found.errors)[~empty]
    assert np.sqrt(np.mean(pulls**2)) < 1.5
    assert found.ndf == 2 * 800 - 55 and found.converged


def test_a_single_pt_leaves_a_and_e_undetermined_and_a_common_m():
    c = toys.categories(800, 8, pt=8.0)
    found = chi2.extract(c.means, *drawn(c, 1), n_eta=8)
    assert not found.determined.any() and np.isnan(found.errors).all()
    # in each bin A and e, a2 and c2 do the same; +M pt and -M pt leave no trace of a common M
    assert len(found.undetermined) == 17
    within = (found.undetermined.T @ found.undetermined)[16:24, 16:24]  # projector, rows of M
    size = np.linalg.eigvalsh(within)
    assert size[-2] < 1e-6 < 0.1 < size[-1]
    assert found.condition > 1e10 and found.converged
    assert found.ndf == 2 * 800 - 40 + 17
    assert found.chi2 < found.ndf + 5 * np.sqrt(2 * found.ndf)  # the model is as good as ever


def test_a_narrow_range_of_pt_is_nearly_singular_and_the_threshold_decides():
    c = toys.categories(800, 8, pt=8.0)
    wobble = 1 + 0.1 * np.random.default_rng(1).standard_normal(800)
    means = replace(
        c.means,
        k_plus=c.means.k_plus * wobble,
        inverse_k_plus=c.means.inverse_k_plus / wobble,
        k_minus=c.means.k_minus / wobble,
        inverse_k_minus=c.means.inverse_k_minus * wobble,
    )
    c = replace(c, means=means)
    found = chi2.extract(means, *drawn(c, 1), n_eta=8, resolution=False)
    assert found.determined.all() and found.condition > 1e3
    correlation = found.covariance[0, 8] / (found.errors[0] * found.errors[8])
    assert correlation > 0.9
    closed = chi2.extract(
        means, *drawn(c, 1), n_eta=8, resolution=False, min_eigenvalue=20 / found.condition
    )
    assert len(closed.undetermined) > 0 and not closed.determined.all()
    kept = closed.determined
    np.testing.assert_allclose(closed.errors[kept], found.errors[kept], rtol=0.01)


def test_smoothed_errors_take_the_bias_of_the_width_away():
    c = toys.categories(1_500, 12, events=400)
    pulls = {"fitted": [], "smoothed": []}
    for seed in range(6):
        data = toys.part(c, seed)
        ratio, width, cov, fits = toys.fitted(data)
        for errors, found in pulls.items():
            e = chi2.extract(
                data.means,
                ratio,
                width,
                cov,
                n_eta=12,
                errors=errors,
                width2=(fits.sigma / fits.mu) ** 2,
            )
            found.append((e.kind("a2") - c.truth.a2) / e.kind_err("a2"))
    assert np.mean(pulls["fitted"]) < -0.5
    assert abs(np.mean(pulls["smoothed"])) < 0.45


def test_what_is_not_finite_is_not_used(categories):
    a, b, cov = drawn(categories, 5)
    whole = chi2.extract(categories.means, a, b, cov, n_eta=N_ETA)
    a, cov = a.copy(), cov.copy()
    a[3], cov[10, 1, 1], cov[20] = np.nan, -1.0, np.inf
    found = chi2.extract(categories.means, a, b, cov, n_eta=N_ETA)
    assert set(np.flatnonzero(np.isnan(found.residuals))) == {3, 10, 20}
    assert found.ndf == whole.ndf - 6
    none = chi2.extract(categories.means, a * np.nan, b, cov, n_eta=N_ETA)
    assert not none.converged and not none.determined.any() and np.isnan(none.values).all()


def test_the_same_numbers_every_time(categories):
    data = drawn(categories, 5)
    first = chi2.extract(categories.means, *data, n_eta=N_ETA)
    again = chi2.extract(categories.means, *data, n_eta=N_ETA)
    assert first.values.tobytes() == again.values.tobytes()
    assert first.covariance.tobytes() == again.covariance.tobytes()


def test_wrong_input_is_one_sentence(categories):
    m = categories.means
    a, _, cov = drawn(categories, 5)
    good = [
        m.eta_plus,
        m.eta_minus,
        m.k_plus,
        m.k_minus,
        m.inverse_k_plus,
        m.inverse_k_minus,
        a,
        np.sqrt(cov[:, 0, 0]),
    ]
    assert calib.extract_scale(*good, n_eta=N_ETA).converged
    wrong = [
        (0, m.eta_plus + 1, r"eta_plus: found 24 in category \d+"),
        (1, m.eta_minus[:-1], "eta_minus: found 1499 categories, but eta_plus has 1500"),
        (1, m.eta_minus + 0.5, "expected whole numbers"),
        (2, -m.k_plus, "k_plus: found -.*above 0"),
        (5, m.inverse_k_minus[:3], "inverse_k_minus: found shape"),
        (6, np.where(np.arange(1_500) == 2, np.nan, a), "mu2: found nan in category 2"),
        (7, 0 * a, "mu2_err: found 0 in category 0"),
        (7, ["x"] * 1_500, "mu2_err: found something"),
    ]
    for at, values, sentence in wrong:
        given = list(good)
        given[at] = values
        with pytest.raises(InputError, match=sentence):
            calib.extract_scale(*given, n_eta=N_ETA)
    with pytest.raises(InputError, match="eta_plus: found bins"):
        chi2.extract(m, a, a, cov, n_eta=N_ETA - 1)
    with pytest.raises(InputError, match="resolution=False"):
        chi2.extract(m, a, a, cov, n_eta=N_ETA, resolution=False, errors="smoothed")
