"""The binned fit: pulls for counts and for weights, chi2, limits, an unbinned-free limit."""

import numpy as np
import pytest
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm

from calib.fitting.minuit import Binned, chi_square, fit
from calib.results import Status

EDGES = np.linspace(80, 100, 81)


class Gaussian:
    """A peak on a flat background: the smallest model with a known answer."""

    names = ("mean", "sigma", "background")
    limits = ((85.0, 95.0), (0.3, 5.0), (0.0, 0.9))
    noise = 0.0

    def __call__(self, mean, sigma, background):
        peak = np.diff(norm.cdf(EDGES, mean, sigma))
        return (1 - background) * peak / peak.sum() + background / 80

    def relative_variance(self, *parameters):
        return np.full(80, self.noise)


TRUE = (91.0, 1.4, 0.1)
STARTS = [(90.5, 1.0, 0.05)]


def toys(n, seed, weights=None):
    random = np.random.default_rng(seed)
    for _ in range(n):
        entries = random.poisson(Gaussian()(*TRUE) * 5000)
        if weights is None:
            yield Binned(EDGES, entries.astype(float), entries.astype(float))
        else:
            drawn = random.choice(weights, entries.sum())
            bins = np.repeat(np.arange(80), entries)
            yield Binned(
                EDGES,
                np.bincount(bins, drawn, minlength=80),
                np.bincount(bins, drawn**2, minlength=80),
            )


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 3.0], [-1.0, 1.0, 1.0, 1.0]])
def test_pulls_have_width_one_also_for_weighted_events(weights):
    pulls, probabilities = [], []
    for data in toys(150, 7, weights):
        found = fit(data, Gaussian(), STARTS)
        assert found.status is Status.OK
        errors = np.array([found.error(name) for name in found.names])
        pulls.append((found.values - TRUE) / errors)
        probabilities.append(chi2_distribution.sf(found.chi2, found.ndf))
    pulls = np.array(pulls)
    assert np.all(np.abs(pulls.mean(0)) < 4 / np.sqrt(len(pulls)))
    assert np.all(np.abs(pulls.std(0) - 1) < 4 / np.sqrt(2 * len(pulls)))
    assert abs(np.mean(probabilities) - 0.5) < 4 / np.sqrt(12 * len(pulls))


def test_noise_of_the_template_widens_the_error():
    data = next(toys(1, 3))
    noisy = Gaussian()
    noisy.noise = 0.02
    plain, wide = fit(data, Gaussian(), STARTS), fit(data, noisy, STARTS)
    assert wide.error("sigma") > 1.2 * plain.error("sigma")
    assert wide["sigma"] == plain["sigma"]
    assert wide.chi2 < plain.chi2


def test_nll_is_zero_for_a_perfect_description():
    content = Gaussian()(*TRUE) * 1e6
    found = fit(Binned(EDGES, content, content), Gaussian(), [TRUE])
    assert abs(found.nll) < 1e-6
    assert found.chi2 < 1e-6


def test_a_parameter_at_its_limit_is_named_and_has_no_error():
    narrow = np.zeros(80)
    narrow[44] = 5000.0
    found = fit(Binned(EDGES, narrow, narrow), Gaussian(), STARTS)
    assert "sigma" in found.at_limit or found.status is not Status.OK
    if "sigma" in found.at_limit:
        assert np.isnan(found.error("sigma"))


def test_fixed_parameters_stay_and_count_as_known():
    data = next(toys(1, 5))
    free = fit(data, Gaussian(), [TRUE])
    fixed = fit(data, Gaussian(), [TRUE], fixed=("background",))
    assert fixed["background"] == TRUE[2]
    assert fixed.error("background") == 0
    assert fixed.ndf == free.ndf + 1


def test_chi_square_of_nearly_empty_bins_follows_its_distribution():
    random = np.random.default_rng(8)
    expected = np.full(400, 0.4)
    found = [chi_square(random.poisson(expected), expected, expected, 0) for _ in range(300)]
    assert {ndf for _, ndf in found} == {found[0][1]}
    p = [chi2_distribution.sf(value, ndf) for value, ndf in found]
    assert abs(np.mean(p) - 0.5) < 4 / np.sqrt(12 * len(p))
    assert np.mean(np.array(p) < 0.01) < 0.05
