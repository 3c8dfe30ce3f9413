import numpy as np
import pytest

from calib.events.random import keys
from calib.physics.constants import ALPHA, MUON_MASS, Z_MASS, Z_WIDTH
from calib.physics.embedding import MIN_PHOTON, embed, narrow_line, z_line
from calib.physics.kinematics import mass
from calib.toys.generation import Truth, generate


@pytest.fixture(scope="module")
def source():
    return generate("z", 40_000, seed=4, truth=Truth(background=0.0)).pairs


def made(source, line, copy=0, fsr=False):
    key = keys(1, source.run, source.luminosityBlock, source.event)
    relative = [m.pt_err / m.pt for m in (source.leading, source.subleading)]
    return embed(source, *relative, key, copy, line, fsr=fsr)


def pair_momentum(pt1, phi1, pt2, phi2):
    return pt1 * np.cos(phi1) + pt2 * np.cos(phi2), pt1 * np.sin(phi1) + pt2 * np.sin(phi2)


def test_same_mass_gives_the_same_muons(source):
    near = source.take(np.abs(source.mass - 91.0) < 2e-3)
    found = made(near, narrow_line(91.0))
    np.testing.assert_allclose(found.pt_first, near.leading.pt, rtol=2e-4)
    np.testing.assert_allclose(found.eta_second, near.subleading.eta, atol=1e-4)


def test_pair_momentum_is_kept_and_the_mass_is_new(source):
    found = made(source, narrow_line(80.0))
    a, b = source.leading, source.subleading
    np.testing.assert_allclose(
        pair_momentum(found.pt_first, found.phi_first, found.pt_second, found.phi_second),
        pair_momentum(a.pt, a.phi, b.pt, b.phi),
        atol=1e-9,
    )
    rebuilt = mass(
        found.pt_first,
        found.eta_first,
        found.phi_first,
        found.pt_second,
        found.eta_second,
        found.phi_second,
    )
    np.testing.assert_allclose(rebuilt, 80.0, rtol=1e-4)  # the muon mass is left out


def test_masses_follow_the_line(source):
    found = made(source, z_line())
    quartiles = np.quantile(found.mass, [0.25, 0.5, 0.75])
    assert quartiles[1] == pytest.approx(Z_MASS, abs=0.06)
    assert quartiles[2] - quartiles[0] == pytest.approx(Z_WIDTH, rel=0.06)


def test_radiation_has_the_rate_and_the_spectrum_of_the_formula(source):
    line = narrow_line(91.0)
    before, after = made(source, line), made(source, line, fsr=True)
    x = 1 - after.pt_first / before.pt_first
    strength = ALPHA / np.pi * (2 * np.log(91.0 / MUON_MASS) - 1)
    for low in (MIN_PHOTON, 0.01, 0.1):
        expected = strength * (-np.log(low) - 0.75 + low - low**2 / 4)
        found = np.mean(x > low * (1 - 1e-9))
        assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / len(x)))
    rebuilt = mass(
        after.pt_first,
        after.eta_first,
        after.phi_first,
        after.pt_second,
        after.eta_second,
        after.phi_second,
    )
    heavy = after.mass > 60  # below, the muon mass that is left out shows
    np.testing.assert_allclose(after.mass[heavy], rebuilt[heavy], rtol=1e-4)


def test_copies_and_splits(source):
    line = z_line()
    assert not np.any(made(source, line, copy=0).mass == made(source, line, copy=1).mass)
    whole = made(source, line, fsr=True)
    part = made(source.take(np.arange(1000, 2000)), line, fsr=True)
    np.testing.assert_array_equal(whole.pt_first[1000:2000], part.pt_first)
    np.testing.assert_array_equal(whole.relative_second[1000:2000], part.relative_second)
