"""Ratio of radiated spectra, against embedded pairs whose radiation is known."""

from __future__ import annotations

import numpy as np
import pytest

from calib.events.random import keys
from calib.physics.constants import RESONANCES
from calib.physics.embedding import embed, fsr_weight, narrow_line, z_line
from calib.physics.radiated import radiated_ratio
from calib.toys.generation import Truth, generate

COPIES = 8
BINS = {
    "z": [60, 70, 75, 80, 84, 87, 89, 90, 90.7, 91.2, 91.7, 92.5, 94, 97, 105, 120],
    "jpsi": [1.0, 2.0, 2.5, 2.8, 2.95, 3.02, 3.06, 3.085, 3.094, 3.2],
}


@pytest.fixture(scope="module", params=["z", "jpsi"])
def made(request):
    name = request.param
    pairs = generate(name, 60_000, seed=31, truth=Truth(background=0.0)).pairs
    key = keys(1, pairs.run, pairs.luminosityBlock, pairs.event)
    line = z_line() if name == "z" else narrow_line(RESONANCES[name].masses[0])
    nothing = np.zeros(len(pairs))
    return name, [embed(pairs, nothing, nothing, key, copy, line) for copy in range(COPIES)]


@pytest.mark.parametrize("strength", [0.7, 1.1, 1.5])
def test_ratio_is_the_mean_weight_in_bins_of_mass(made, strength):
    """Known beside statistics to 2 % of the change: the rate is that of the pole's mass."""
    name, copies = made
    mass = np.concatenate([one.mass for one in copies])
    weight = np.concatenate([fsr_weight(one, strength) for one in copies])
    ratio = radiated_ratio(mass, name, strength)
    at = np.digitize(mass, BINS[name])
    tested = 0
    for b in range(1, len(BINS[name])):
        inside = at == b
        n = np.count_nonzero(inside)
        if n < 300:
            continue
        tested += 1
        change = weight[inside] - ratio[inside]
        error = change.std() / np.sqrt(n)
        assert abs(change.mean()) < 4 * error + 0.02 * abs(strength - 1), BINS[name][b - 1 : b + 1]
    # what is compared is far larger than the tolerance, somewhere below the peak
    low = mass < (80 if name == "z" else 2.8)
    assert abs(ratio[low].mean() - 1) > 0.3 * abs(strength - 1)
    assert tested >= 8


def test_one_is_one(made):
    name, copies = made
    np.testing.assert_allclose(radiated_ratio(copies[0].mass, name, 1.0), 1.0, rtol=1e-9)


def test_mean_over_the_spectrum_is_one(made):
    name, copies = made
    mass = np.concatenate([one.mass for one in copies])
    ratio = radiated_ratio(mass, name, 1.1)
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(len(mass)) + 0.002)


@pytest.mark.parametrize("offset", [-1e-7, 0.0, 1e-7, 1e-4, 3e-3])
def test_a_narrow_peak_has_one_ratio_however_its_mass_was_rounded(offset):
    """Generated masses of files are rounded; none of them lies above the peak otherwise.

    Most pairs there did not radiate: fewer if radiation is stronger.
    """
    pole = RESONANCES["jpsi"].masses[0]
    found = radiated_ratio(np.array([pole * (1 + offset)]), "jpsi", 1.1)[0]
    assert 0.95 < found < 1.0


def test_masses_far_away_have_finite_weights():
    found = radiated_ratio(np.array([1.0, 20.0, 140.0, 500.0]), "z", 1.1)
    assert np.isfinite(found).all() and np.all(found > 0.5) and np.all(found < 2)
