import numpy as np
import pytest

from calib.physics.constants import SIN2_THETA_W, Z_MASS, Z_WIDTH
from calib.physics.line_shapes import line_weight, z_line

GRID = np.linspace(60.0, 140.0, 400_001)
PARTS = [(False, False), (True, False), (True, True)]


def z_couplings(charge, isospin):
    """Of left and right-handed fermions, over e."""
    root = np.sqrt(SIN2_THETA_W * (1 - SIN2_THETA_W))
    return (isospin - charge * SIN2_THETA_W) / root, -charge * SIN2_THETA_W / root


def cross_section(mass, charge, isospin, photon, interference):
    """Return s times the sum of the four squared helicity amplitudes over s."""
    s = mass**2
    total = np.zeros_like(s)
    for quark in z_couplings(charge, isospin):
        for muon in z_couplings(-1.0, -0.5):
            one = photon * charge * -1.0 / s
            other = quark * muon / (s - Z_MASS**2 + 1j * s * Z_WIDTH / Z_MASS)
            together = np.abs(one + other) ** 2
            total += s * (together if interference else np.abs(one) ** 2 + np.abs(other) ** 2)
    return total


def amplitudes(mass, photon, interference):
    """Return the cross section of u and d quarks that make equally many Z."""
    total = np.zeros_like(mass)
    for charge, isospin in ((2 / 3, 0.5), (-1 / 3, -0.5)):
        pole = cross_section(np.array([Z_MASS]), charge, isospin, False, False)
        total += cross_section(mass, charge, isospin, photon, interference) / pole
    return total


@pytest.mark.parametrize(("photon", "interference"), PARTS)
def test_line_is_the_sum_of_helicity_amplitudes(photon, interference):
    density = amplitudes(GRID, photon, interference)
    steps = 0.5 * (density[1:] + density[:-1])
    cumulative = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
    line = z_line(photon=photon, interference=interference).quantiles
    asked = np.linspace(0, 1, len(line))
    # grids of 0.2 and 0.4 MeV
    np.testing.assert_allclose(np.interp(line, GRID, cumulative), asked, atol=1e-6)


def test_interference_lifts_the_upper_side():
    with_it, without = z_line().quantiles, z_line(interference=False).quantiles
    assert np.mean(with_it > Z_MASS) > np.mean(without > Z_MASS)


def test_z_without_photon_has_no_interference():
    np.testing.assert_array_equal(
        z_line(photon=False).quantiles, z_line(photon=False, interference=False).quantiles
    )


@pytest.mark.parametrize("window", [(60.0, 140.0), (50.0, 140.0)])
@pytest.mark.parametrize(("variation", "photon"), [("no_photon", False), ("no_interference", True)])
def test_weighted_line_is_the_other_line(window, variation, photon):
    nominal, other = z_line(*window), z_line(*window, photon=photon, interference=False)
    middle = 0.5 * (nominal.quantiles[1:] + nominal.quantiles[:-1])
    weight = line_weight(middle, variation, window=window)
    assert weight.mean() == pytest.approx(1, abs=1e-4)
    wanted = np.linspace(0.01, 0.99, 99)
    found = np.interp(wanted, np.cumsum(weight) / weight.sum(), nominal.quantiles[1:])
    expected = np.interp(wanted, np.linspace(0, 1, len(other.quantiles)), other.quantiles)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # in the tails entries are 1 MeV wide


@pytest.mark.parametrize("power", [-1.5, 1.5])
def test_mass_power(power):
    line = z_line().quantiles
    middle = 0.5 * (line[1:] + line[:-1])
    weight = line_weight(middle, "mass_power", power=power)
    assert weight.mean() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(weight / weight[0], (middle / middle[0]) ** power, rtol=1e-12)


def test_no_such_variation():
    with pytest.raises(ValueError, match="no_photon, no_interference, mass_power"):
        line_weight(np.array([91.0]), "no_z")
