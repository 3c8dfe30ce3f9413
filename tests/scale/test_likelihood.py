"""One likelihood over all categories: truth, a brute-force fit by iminuit, what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from iminuit import Minuit
from scipy.special import ndtr

from calib.errors import InputError
from calib.scale import likelihood
from calib.scale.model import mu2, sigma2

from . import toys

N_ETA = 24


@pytest.fixture(scope="module")
def categories():
    return toys.categories(1_500, N_ETA)


def pulls(c, found):
    return np.split((found.values - c.truth.vector) / found.errors, 5)


@pytest.mark.parametrize("sizes", [(None, None), (1.0, 5.0)])
def test_pulls(categories, sizes):
    found = []
    for seed in range(6):
        data = toys.part(categories, seed, *sizes)
        e, first = toys.by_likelihood(data, N_ETA)
        assert e.converged and e.determined.all() and e.edm < 1e-5
        assert e.ndf < 1_500 * 99 and abs(e.chi2 / e.ndf - 1) < 0.15
        assert 0.9 < np.std(e.residuals) < 1.1
        # as precise as the chi2, and not the same thing
        assert np.abs(np.log(e.errors / first.errors)).max() < 0.15
        found.append(pulls(categories, e))
    for kind in np.moveaxis(np.array(found), 1, 0):
        assert abs(kind.mean()) < 4.5 / np.sqrt(kind.size)
        assert 0.8 < kind.std() < 1.2


def brute(data, n_eta, start):
    """Return the joint fit by iminuit, all parameters explicit, with error functions.

    The parameters are in units of the errors of ``start``.
    """
    n, edges = len(data.counts), data.edges
    g = data.templates / data.templates.sum(1, keepdims=True)
    t = (0.5 * (edges[1:] + edges[:-1]) - edges[0]) / (edges[-1] - edges[0])
    counts = data.counts

    def value(x):
        kinds = np.split(x[: 5 * n_eta] * start.errors, 5)
        mu = np.exp(data.log_mu) * np.sqrt(mu2(data.means, *kinds[:3]))
        sigma = mu * np.sqrt(data.v + sigma2(data.means, *kinds[3:]))
        z = edges[:, None] / data.template_mass[:, None] - mu[:, None, None]
        z /= sigma[:, None, None]
        shape = np.diff((ndtr(z) * g[:, None]).sum(2), axis=1)
        shape /= shape.sum(1, keepdims=True)
        f, slope = x[5 * n_eta : 5 * n_eta + n, None] * 0.05, x[5 * n_eta + n :, None]
        b = np.exp(-slope * t)
        p = f * b / b.sum(1, keepdims=True) + (1 - f) * shape
        share = counts / counts.sum(1, keepdims=True)
        ratio = np.where(counts > 0, p / np.where(counts > 0, share, 1.0), 1.0)
        return -(counts * np.log(ratio)).sum() + 0.5 * (slope**2).sum() / 25

    begin = np.concatenate([start.values / start.errors, data.fraction / 0.05, data.slope])
    m = Minuit(value, begin)
    m.errordef, m.tol, m.strategy = Minuit.LIKELIHOOD, 1e-4, 1
    m.errors = np.concatenate([0.3 * np.ones(5 * n_eta), 0.1 * np.ones(n), 0.3 * np.ones(n)])
    for i in range(n):
        m.limits[5 * n_eta + i] = (0, None)
    m.migrad()
    m.hesse()
    return m


def coarse(data):
    """Return the data with a template of 30 bins: error functions are slow."""
    edges = np.linspace(2.6, 3.2, 31)
    at = np.clip(np.digitize(data.template_mass, edges) - 1, 0, 29)
    whole = data.templates @ np.eye(30)[at]
    sums = (data.templates * data.template_mass) @ np.eye(30)[at]
    mass = np.where(whole > 0, sums / np.where(whole > 0, whole, 1), 3.0)
    return replace(data, templates=whole, template_mass=mass, template_variance=0 * whole)


def test_same_as_a_brute_force_fit():
    c = toys.categories(14, 2, seed=3, events=20_000, background=(0.1, 0.2))
    data = coarse(toys.part(c, 1))
    ours, first = toys.by_likelihood(data, 2, adjusted=False)
    assert ours.converged and ours.determined.all()
    m = brute(data, 2, first)
    assert m.valid and m.accurate
    theirs = np.array(m.values)[:10]
    size = np.array(m.errors)[:10]
    assert ours.chi2 / 2 == pytest.approx(
        m.fval - 0.5 * (np.array(m.values)[24:] ** 2).sum() / 25, abs=0.05
    )
    np.testing.assert_allclose(ours.values / first.errors, theirs, atol=1e-2)
    np.testing.assert_allclose(ours.errors / first.errors, size, rtol=0.02)
    correlation = ours.covariance / np.outer(ours.errors, ours.errors)
    brute_covariance = np.array(m.covariance)[:10, :10]
    np.testing.assert_allclose(correlation, brute_covariance / np.outer(size, size), atol=0.03)
    # the chi2 of the same categories is another estimate: that the two agree proves something
    assert np.abs(first.values / first.errors - theirs).max() > 1e-2


def test_start_does_not_matter(categories):
    data = toys.part(categories, 1)
    ours, first = toys.by_likelihood(data, N_ETA)
    zero = replace(first, values=np.full(len(first.values), np.nan))
    far = replace(data, fraction=np.full(1_500, 0.3), slope=np.full(1_500, -1.0))
    found = likelihood.extract([far], N_ETA, zero)
    assert found.converged
    assert np.abs((found.values - ours.values) / ours.errors).max() < 0.05


def test_two_resonances_in_one(categories):
    """A part cut in two, one of them with another background and other edges, is the same fit."""
    data = toys.part(categories, 2)
    whole, first = toys.by_likelihood(data, N_ETA)
    names = "counts templates template_variance fraction slope log_mu v reference_covariance"
    halves = [
        replace(
            data,
            means=type(data.means)(**{k: x[at] for k, x in vars(data.means).items()}),
            **{k: getattr(data, k)[at] for k in names.split()},
        )
        for at in (slice(0, 600), slice(600, None))
    ]
    found = likelihood.extract(halves, N_ETA, first)
    np.testing.assert_allclose(
        found.values, whole.values, atol=5e-3 * whole.errors.min(), rtol=0.02
    )
    assert np.abs((found.values - whole.values) / whole.errors).max() < 0.02
    halves[1] = replace(halves[1], background="quadratic")
    wider = likelihood.extract(halves, N_ETA, first)
    assert wider.converged and wider.ndf < found.ndf
    assert np.abs((wider.values - whole.values) / whole.errors).max() < 1.5


def test_weights_widen_the_errors(categories):
    """Events of weight 2 are half as many: errors as of the unweighted half, times one."""
    data = toys.part(categories, 3)
    plain, first = toys.by_likelihood(data, N_ETA)
    double = replace(data, counts=2 * data.counts, variance=4 * data.counts)
    found = likelihood.extract([double], N_ETA, first)
    np.testing.assert_allclose(found.errors, plain.errors, rtol=0.01)
    assert np.abs((found.values - plain.values) / plain.errors).max() < 0.05
    # negative weights: +1 and -0.5 of the same number leave half, with 1.25 times the variance
    mixed = replace(data, variance=2.5 * data.counts)
    wider = likelihood.extract([mixed], N_ETA, first)
    np.testing.assert_allclose(wider.errors, np.sqrt(2.5) * plain.errors, rtol=0.06)


def test_no_background():
    c = toys.categories(300, 6, background=(0.0, 0.0))
    data = replace(toys.part(c, 1), background="none")
    _, first = toys.by_likelihood(replace(data, background="exponential"), 6)
    found = likelihood.extract([data], 6, first)
    assert found.converged and found.ndf == 300 * 99 - 30
    assert np.sqrt(np.mean(np.concatenate(pulls(c, found)) ** 2)) < 1.5


def test_not_determined_is_said():
    c = toys.categories(600, 8, bins=[0, 1, 2, 3, 4, 6, 7])
    found, _ = toys.by_likelihood(toys.part(c, 1), 8)
    empty = np.array([name.endswith("_5") for name in found.names])
    np.testing.assert_array_equal(found.determined, ~empty)
    assert np.isnan(found.values[empty]).all() and found.converged
    c = toys.categories(500, 8, pt=8.0)
    found, _ = toys.by_likelihood(toys.part(c, 1), 8)
    assert found.converged and not found.determined.any() and len(found.undetermined) == 17


def test_wrong_input_is_one_sentence(categories):
    data = toys.part(categories, 1)
    first, _ = toys.by_chi2(data, N_ETA)
    with pytest.raises(InputError, match="found no categories"):
        likelihood.extract([], N_ETA, first)
    with pytest.raises(InputError, match="start: found 24 eta bins, expected 48"):
        likelihood.extract([data], 48, first)
    empty = replace(data, counts=data.counts * (np.arange(1_500) != 4)[:, None])
    with pytest.raises(InputError, match="1 categories, the first 4, have no"):
        likelihood.extract([empty], N_ETA, first)
