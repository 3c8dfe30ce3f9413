import numpy as np
import pytest

from calib.physics.constants import MUON_MASS
from calib.physics.kinematics import k, mass, predicted_mass_resolution


def test_mass_is_that_of_the_four_vectors():
    random = np.random.default_rng(1)
    pt, eta, phi = (
        random.uniform(3, 90, (2, 500)),
        random.uniform(-2.4, 2.4, (2, 500)),
        random.uniform(-np.pi, np.pi, (2, 500)),
    )
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    e = np.sqrt(px**2 + py**2 + pz**2 + MUON_MASS**2)
    total = [x.sum(0) for x in (e, px, py, pz)]
    expected = np.sqrt(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2)
    np.testing.assert_allclose(mass(pt[0], eta[0], phi[0], pt[1], eta[1], phi[1]), expected, 1e-9)


def test_mass_of_close_muons_keeps_its_precision():
    found = mass(*(np.array([x]) for x in (50.0, 1.0, 0.5, 50.0, 1.0, 0.5)))
    assert found[0] == pytest.approx(2 * MUON_MASS, rel=1e-12)


def test_predicted_resolution_of_equal_muons():
    found = predicted_mass_resolution(np.array([90.0]), np.array([0.01]), np.array([0.01]))
    assert found[0] == pytest.approx(45 * 0.01 * np.sqrt(2))
    assert k(np.array([4.0]))[0] == 0.25
