"""The toys are what they say they are."""

import numpy as np
import pytest

from calib.errors import InputError
from calib.physics.constants import RESONANCES
from calib.physics.kinematics import mass
from calib.toys.generation import Truth, generate


@pytest.mark.parametrize("resonance", sorted(RESONANCES))
def test_events_asked_for_in_the_window_with_leading_first(resonance):
    found = generate(resonance, 3000, seed=1).pairs
    low, high = RESONANCES[resonance].window
    assert len(found) == 3000
    assert np.all((found.mass >= low) & (found.mass < high))
    assert np.all(found.leading.pt >= found.subleading.pt)
    assert np.all(found.leading.charge == -found.subleading.charge)
    peak = np.isfinite(found.gen_mass)
    nearest = np.min(
        np.abs(found.gen_mass[peak][:, None] - np.array(RESONANCES[resonance].masses)), axis=1
    )
    assert np.median(nearest) < 0.025 * low


def test_resolution_and_pt_err_are_those_that_were_put_in():
    truth = Truth(background=0.0)
    muons = generate("z", 60_000, seed=2, truth=truth).pairs.leading
    residual = muons.gen_pt / muons.pt - 1
    ring = np.digitize(np.abs(muons.eta), truth.ring_edges) - 1
    for i, factor in enumerate(truth.pt_err_factor):
        pull = residual[ring == i] / (muons.pt_err / muons.pt)[ring == i]
        assert np.std(pull) == pytest.approx(factor, rel=0.03)
    good = generate("z", 60_000, seed=2, truth=Truth(resolution_scale=0.5)).pairs.leading
    assert np.nanstd(good.gen_pt / good.pt - 1) == pytest.approx(np.std(residual) / 2, rel=0.05)


def test_seed_background_and_simulation():
    a, b = generate("z", 500, seed=5), generate("z", 500, seed=5)
    np.testing.assert_array_equal(a.pairs.leading.pt, b.pairs.leading.pt)
    assert not np.any(generate("z", 500, seed=6).pairs.leading.pt == a.pairs.leading.pt)
    many = generate("z", 30_000, seed=5, truth=Truth(background=0.2))
    assert 0.1 < many.background.mean() < 0.25
    assert np.array_equal(np.isnan(many.pairs.gen_mass), many.background)
    simulated = generate("z", 500, seed=5, simulation=True)
    assert not simulated.background.any()
    assert np.isfinite(simulated.pairs.gen_mass).all()


def test_generated_mass_is_that_of_the_generated_muons():
    p = generate("z", 500, seed=5, simulation=True).pairs
    a, b = p.leading, p.subleading
    found = mass(a.gen_pt, a.gen_eta, a.gen_phi, b.gen_pt, b.gen_eta, b.gen_phi)
    np.testing.assert_allclose(found, p.gen_mass, rtol=1e-12)


def test_unknown_resonance_is_refused():
    with pytest.raises(InputError, match="jpsi"):
        generate("rho", 10)
