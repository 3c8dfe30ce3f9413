"""One likelihood over all categories: truth, a brute-force fit by iminuit, what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from iminuit import Minuit
from scipy.special import ndtr

from calib.errors import InputError
from calib.fitting.scale import likelihood
from calib.fitting.scale.model import mu2, sigma2

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


class Brute:
    """The joint NLL with error functions, all parameters explicit, and its gradient.

    The parameters are those of the eta bins in units of ``size``, then fractions / 0.05, then
    slopes.
    """

    def __init__(self, data, n_eta, size):
        self.data, self.size, self.n = data, size, len(data.counts)
        self.g = data.templates / data.templates.sum(1, keepdims=True)
        self.t = (data.edges[1:] + data.edges[:-1]) / 2 - data.edges[0]
        self.t /= data.edges[-1] - data.edges[0]
        share = data.counts / data.counts.sum(1, keepdims=True)
        self.saturated = (data.counts * np.log(np.where(share > 0, share, 1))).sum()

    def x(self, shared):
        """Return mu and sigma of each category."""
        kinds = np.split(shared * self.size, 5)
        mu = np.exp(self.data.log_mu) * np.sqrt(mu2(self.data.means, *kinds[:3]))
        return mu, mu * np.sqrt(self.data.v + sigma2(self.data.means, *kinds[3:]))

    def both(self, p):
        """Return the NLL above the saturated model's, and its gradient."""
        data, n, m = self.data, self.n, len(self.size)
        mu, sigma = (x[:, None, None] for x in self.x(p[:m]))
        z = (data.edges[:, None] / data.template_mass[:, None] - mu) / sigma
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / sigma
        shape, d_mu, d_sigma = (
            np.diff((y * self.g[:, None]).sum(2), axis=1) for y in (ndtr(z), -density, -density * z)
        )
        norm = shape.sum(1, keepdims=True)
        shape = shape / norm
        d_mu, d_sigma = ((d - shape * d.sum(1, keepdims=True)) / norm for d in (d_mu, d_sigma))
        f, slope = p[m : m + n, None] * 0.05, p[m + n :, None]
        b = np.exp(-slope * self.t)
        b /= b.sum(1, keepdims=True)
        d_slope = -b * (self.t - (b * self.t).sum(1, keepdims=True))
        content = f * b + (1 - f) * shape
        value = self.saturated - (data.counts * np.log(content)).sum() + (slope**2).sum() / 50
        ratio = -data.counts / content
        by_mu, by_sigma = ((ratio * (1 - f) * d).sum(1) for d in (d_mu, d_sigma))
        shared = np.empty(m)
        for i in range(m):
            step = np.zeros(m)
            step[i] = 1e-3
            up, down = self.x(p[:m] + step), self.x(p[:m] - step)
            shared[i] = by_mu @ (up[0] - down[0]) / 2e-3 + by_sigma @ (up[1] - down[1]) / 2e-3
        by_f = (ratio * (b - shape)).sum(1) * 0.05
        by_slope = (ratio * f * d_slope).sum(1) + slope[:, 0] / 25
        return value, np.concatenate([shared, by_f, by_slope])

    def fit(self, begin):
        """Return values, covariance and the NLL at the minimum, by MIGRAD."""
        last = {}

        def both(p):
            if p.tobytes() not in last:
                last.clear()
                last[p.tobytes()] = self.both(p)
            return last[p.tobytes()]

        m = Minuit(lambda p: both(p)[0], begin, grad=lambda p: both(p)[1])
        m.errordef, m.tol, m.strategy = Minuit.LIKELIHOOD, 1e-4, 0
        m.errors = np.concatenate([np.full(len(self.size), 0.3), np.full(2 * self.n, 0.2)])
        m.migrad()
        assert m.valid
        values = np.array(m.values)
        hessian = np.empty((len(values), len(values)))
        for i in range(len(values)):
            step = np.zeros(len(values))
            step[i] = 1e-3
            hessian[i] = (self.both(values + step)[1] - self.both(values - step)[1]) / 2e-3
        return values, np.linalg.inv(0.5 * (hessian + hessian.T)), m.fval


def coarse(data):
    """Return the data with a template of 12 bins: error functions are slow."""
    edges = np.linspace(2.6, 3.2, 13)
    at = np.clip(np.digitize(data.template_mass, edges) - 1, 0, 11)
    whole = data.templates @ np.eye(12)[at]
    sums = (data.templates * data.template_mass) @ np.eye(12)[at]
    mass = np.where(whole > 0, sums / np.where(whole > 0, whole, 1), 3.0)
    return replace(data, templates=whole, template_mass=mass, template_variance=0 * whole)


def test_same_as_a_brute_force_fit():
    c = toys.categories(14, 2, seed=3, events=20_000, background=(0.1, 0.2))
    data = coarse(toys.part(c, 1))
    ours, first = toys.by_likelihood(data, 2, adjusted=False)
    assert ours.converged and ours.determined.all()
    brute = Brute(data, 2, first.errors)
    begin = np.concatenate([first.values / first.errors, np.full(14, 2.0), np.full(14, 0.5)])
    values, covariance, nll = brute.fit(begin)
    assert (values[10:24] > 0).all()  # the limit that it does not have plays no part
    assert ours.chi2 / 2 == pytest.approx(nll - (values[24:] ** 2).sum() / 50, abs=0.05)
    np.testing.assert_allclose(ours.values / first.errors, values[:10], atol=1e-2)
    size = np.sqrt(np.diagonal(covariance))[:10]
    np.testing.assert_allclose(ours.errors / first.errors, size, rtol=0.02)
    correlation = ours.covariance / np.outer(ours.errors, ours.errors)
    theirs = covariance[:10, :10] / np.outer(size, size)
    np.testing.assert_allclose(correlation, theirs, atol=0.02)
    # the chi2 of the same categories is another estimate: that the two agree proves something
    assert np.abs(first.values / first.errors - values[:10]).max() > 2e-2
    # with the adjustment it is a third one, near by
    adjusted = likelihood.extract([data], 2, first)
    shift = np.abs((adjusted.values - ours.values) / ours.errors).max()
    assert 1e-4 < shift < 0.2


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
