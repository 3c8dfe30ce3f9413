"""Radiation that is stronger in the data: how far it moves the scale, and that it is seen."""

import numpy as np
import pytest

from benchmarks.verdict_scale import jpsi, sample
from calib.calibrations.momentum_scale.constants import radiation
from calib.calibrations.momentum_scale.constants.reduction import reduce_kind
from calib.calibrations.momentum_scale.settings import JpsiSettings, Settings, ZSettings
from calib.calibrations.momentum_scale.sums.grid import gen_edges
from calib.events.random import keys
from calib.physics.constants import RESONANCES

from .conftest import ETA, calibrate, toys

N = 200_000
STRENGTH = 1.4
"""Of the radiating data: at 200 000 the strength is known to 0.04."""


def run(case: str):
    settings = Settings(eta=ETA, method="chi2", calibrate_simulation=False, max_passes=3)
    data = jpsi(case, N, 91, len(ETA) - 1, STRENGTH)
    simulated = toys("jpsi", N, 92, simulation=True)
    return calibrate(settings, [(sample("jpsi"), data), (sample("jpsi", True), simulated)])


@pytest.fixture(scope="module")
def clean():
    return run("clean")


@pytest.fixture(scope="module")
def radiating():
    """Data that radiate 1.4 times, of the same seed."""
    return run("radiation")


def scale(run, values):
    """Return the mean over the eta bins of A - e / 10 GeV."""
    n = len(ETA) - 1
    return float((values[:n] - values[n : 2 * n] / 10.0).mean())


def check(run):
    return next(c for c in run.reduction.checks if c.name == "tail_below_peak_jpsi")


def test_the_variation_is_what_radiating_data_do(clean, radiating):
    """Ten per cent move the scale by 4 to 6e-5 in k; forty in the data do four times that."""
    one, other = (r.reduction.arrays["covariance"] for r in (clean, radiating))
    varied = scale(clean, one["syst_fsr"])
    assert 3.5e-5 < varied < 7e-5
    moved = scale(radiating, other["values"]) - scale(clean, one["values"])
    error = np.sqrt(2) * 6e-5  # of the mean of 200 000 each
    assert abs(moved + (STRENGTH - 1) / radiation.STRENGTH * varied) < 3 * error


def test_tail_below_the_peak_is_seen(clean, radiating):
    assert check(clean).passed
    found = check(radiating)
    assert not found.passed
    for one, true in ((clean, 1.0), (radiating, STRENGTH)):
        kind = reduce_kind(
            "data",
            one.calibration._sources(one.sums, "data"),
            one.calibration.settings,
            one.walks[-1],
            with_likelihood=False,
        )
        (peaks,) = kind.peaks
        measured = radiation.strength_of(peaks, radiation.response(peaks))
        assert abs(measured.value - true) < 3 * measured.error + 0.05 * (true - 1)
    assert "the mass scale would be off by -" in found.text


def test_shift_is_in_every_error(clean):
    found, table = clean.reduction.arrays["covariance"], clean.reduction.tables["parameters"]
    n = len(ETA) - 1
    shift = found["syst_fsr"]
    np.testing.assert_allclose(
        found["covariance"], found["covariance_stat"] + np.outer(shift, shift), rtol=1e-12
    )
    np.testing.assert_allclose(
        table["A_err"] ** 2, table["A_stat_err"] ** 2 + shift[:n] ** 2, rtol=1e-12
    )
    np.testing.assert_array_equal(table["e_syst_fsr"], shift[n : 2 * n])
    document = clean.calibration.publish(clean.reduction)
    names = [v["key"] for v in document["corrections"][0]["data"]["content"]]
    assert {"nom", "stat0_up", "syst_fsr_up", "syst_fsr_down"} <= set(names)
    assert all(c.passed for c in clean.calibration.check_payload(document, clean.reduction))


def bins(resonance):
    own = {"jpsi": JpsiSettings, "z": ZSettings}[resonance]()
    found = RESONANCES[resonance]
    edges = gen_edges(own, found.masses, found.width)
    return edges, 0.5 * (edges[1:] + edges[:-1])


@pytest.mark.parametrize("resonance", ["jpsi", "z"])
def test_strength_of_one_changes_nothing_and_keeps_what_there_is(resonance):
    _, mass = bins(resonance)
    made = np.random.default_rng(4).poisson(50.0, (3, len(mass))).astype(float)
    np.testing.assert_allclose(radiation.stronger(made, mass, resonance, 1.0), made, rtol=1e-12)
    if resonance == "jpsi":
        more = radiation.stronger(made, mass, resonance, 1.1)
        np.testing.assert_allclose(more.sum(1), made.sum(1), rtol=1e-12)
        line = np.abs(mass / RESONANCES["jpsi"].masses[0] - 1) < radiation.AT_PEAK
        np.testing.assert_allclose(more[:, ~line], 1.1 * made[:, ~line])


def test_more_radiation_of_a_z_is_that_of_the_embedding():
    """Against pairs of the embedding at pole mass, which radiate once more or not at all."""
    from calib.physics.embedding import embed, narrow_line
    from calib.toys.generation import generate

    pairs = generate("z", 300_000, seed=5, simulation=True).pairs
    key = keys(1, pairs.run, pairs.luminosityBlock, pairs.event)
    nothing = np.zeros(len(pairs))
    (pole,) = RESONANCES["z"].masses
    made = embed(pairs, nothing, nothing, key, 0, narrow_line(pole))
    edges, mass = bins("z")
    line = np.zeros((1, len(mass)))
    at = np.searchsorted(edges, pole) - 1
    mass[at] = pole
    line[0, at] = 1.0
    whole = radiation.stronger(line, mass, "z", 2.0)[0]
    # mean loss of mass within the window: first order against all orders, a few per cent
    inside = mass > 0.85 * pole
    expected = float((whole * (pole - mass))[inside & (mass < 0.999 * pole)].sum())
    near = (made.mass > 0.85 * pole) & (made.mass < 0.999 * pole)
    found = float((pole - made.mass)[near].sum() / len(made))
    assert expected == pytest.approx(found, rel=0.06)
