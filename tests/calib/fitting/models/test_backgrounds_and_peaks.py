import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import voigt_profile

from calib.fitting.models import breit_wigner, cmsshape, crystalball, exponential
from calib.fitting.models.template import half_width


@pytest.mark.parametrize("slope", [-3.0, 0.0, 1e-9, 0.7, 8.0])
def test_exponential_cdf_against_quadrature(slope):
    total = quad(lambda t: np.exp(-slope * t), 0, 1)[0]
    for x in (80.0, 83.0, 97.5, 100.0):
        expected = quad(lambda t: np.exp(-slope * t), 0, (x - 80) / 20)[0] / total
        assert exponential.cdf(np.array([x]), slope, 80.0, 100.0)[0] == pytest.approx(
            expected, abs=1e-9
        )


def test_cmsshape_cdf_against_quadrature_and_its_limit():
    parameters = (70.0, 0.05, 0.02, 91.0)
    edges = np.linspace(60, 120, 61)
    found = cmsshape.cdf(edges, *parameters, 60.0, 120.0)
    total = quad(lambda m: cmsshape.density(m, *parameters), 60, 120)[0]
    for i in (0, 7, 30, 60):
        expected = quad(lambda m: cmsshape.density(m, *parameters), 60, edges[i])[0] / total
        assert found[i] == pytest.approx(expected, abs=1e-9)
    flat = cmsshape.cdf(edges, -1000.0, 1.0, 0.0, 91.0, 60.0, 120.0)
    np.testing.assert_allclose(flat, (edges - 60) / 60, atol=1e-12)


def test_crystalball_is_gaussian_inside_and_continuous_at_its_tails():
    x = np.linspace(-3, 3, 601)
    core = crystalball.density(x, 0.1, 0.8, 5.0, 3.0, 5.0, 3.0)
    np.testing.assert_allclose(core, np.exp(-0.5 * ((x - 0.1) / 0.8) ** 2), atol=5e-6)
    tails = crystalball.density(x, 0.0, 0.8, 1.0, 3.0, 1.5, 2.0)
    assert np.abs(np.diff(tails)).max() < 0.02
    at = np.array([-1.6])  # t = -2, alpha 1, n 3: ((3-1+2)/3)^-3 exp(-1/2)
    assert crystalball.density(at, 0.0, 0.8, 1.0, 3.0, 1.5, 2.0)[0] == pytest.approx(
        (4 / 3) ** -3 * np.exp(-0.5)
    )


def test_breit_wigner_with_a_gaussian_is_a_voigt_profile():
    edges = np.linspace(80, 100, 121)
    peak = breit_wigner.BreitWignerPeak(edges, 91.188, 2.4955)
    found = peak.signal(0.0, 1.1, 5.0, 30.0, 5.0, 30.0)
    centres = 0.5 * (edges[1:] + edges[:-1]) - 91.188
    expected = voigt_profile(centres, 1.1, 2.4955 / 2)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=3e-3)
    assert peak(0.0, 1.1, 2.0, 3.0, 2.0, 3.0, 0.1, 0.5).sum() == pytest.approx(1, abs=1e-12)


def test_half_width_of_a_gaussian_is_its_sigma():
    edges = np.linspace(-8, 8, 321)
    from scipy.stats import norm

    assert half_width(np.diff(norm.cdf(edges, 0.2, 1.3)), edges) == pytest.approx(1.3, rel=1e-3)
    assert np.isnan(half_width(np.zeros(320), edges))
