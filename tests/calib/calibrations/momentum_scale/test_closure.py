"""The checks of the closure on 20 clean sets: probabilities that are uniform, errors that cover."""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from calib.calibrations.momentum_scale.closing import along, closure, cross_validation
from calib.calibrations.momentum_scale.constants.peaks import with_background
from calib.fitting.kernel.result import CategoryFits
from calib.quality.closure import combined

from . import analytic

SETS = 20
FIRST = 1
GOOD = np.ones(5 * analytic.SETTINGS.n_eta, dtype=bool)


@pytest.fixture(scope="module")
def sets():
    toy = analytic.toy(900)
    return [analytic.closed(toy, FIRST + i) for i in range(SETS)]


def probability(check, name):
    """Return what a check of the closure says of one set, with no tolerance."""
    rows = cross_validation.crossed_rows(check.table, check.tests)
    return {
        "halves": lambda: closure._check_halves(check.first, check.second, GOOD).value,
        "eta": lambda: along.check_eta("jpsi", check.tests, rows, 0.0).value,
        "phi": lambda: along.check_phi("jpsi", check.table, 0.0).value,
        "period": lambda: along.check_period("jpsi", check.table, 0.0).value,
        "categories": lambda: float(chi2.sf(check.whole.chi2.chi2, check.whole.chi2.ndf)),
    }[name]()


@pytest.mark.parametrize("name", ["halves", "eta", "phi", "period", "categories"])
def test_probabilities_of_clean_sets_are_uniform(sets, name):
    found = [probability(one, name) for one in sets]
    assert kstest(found, "uniform").pvalue > 0.01, np.sort(found)


def test_pulls_are_as_wide_as_they_should_be(sets):
    """Bins of eta are 16 a set, phi 24; halves with each other's constants hang together."""
    eta = np.array([cross_validation.crossed_rows(s.table, s.tests)["pull"] for s in sets])
    phi = np.array([s.table[s.table["variable"] == "phi"]["pull"] for s in sets])
    assert np.isfinite(eta).all() and np.isfinite(phi).all()
    assert abs(np.sqrt((eta**2).mean()) - 1) < 0.2
    assert abs(np.sqrt((phi**2).mean()) - 1) < 0.1


def test_the_mean_is_one_and_its_error_holds(sets):
    """Along eta and phi alike, though phi mixes the widths of all eta."""
    found = np.array(
        [
            cross_validation.mean_of("jpsi", s.table, s.fits, s.whole, analytic.SETTINGS)
            for s in sets
        ]
    )
    assert abs(found[:, 0].mean()) < 1e-5
    assert np.sqrt(((found[:, 0] / found[:, 1]) ** 2).mean()) < 1.3
    for variable in ("eta", "phi"):
        values = [s.table[s.table["variable"] == variable]["fitted"].mean() for s in sets]
        assert abs(np.mean(values) - 1) < 1.5e-5


def test_which_half_is_said(sets):
    rows = cross_validation.crossed_rows(sets[0].table, sets[0].tests)
    assert set(rows["half"]) == {"0", "1"}
    assert rows["bin"].is_unique
    assert set(sets[0].table["half"]) == {"all"}


def test_chi2_does_not_depend_on_units():
    """A pseudo-inverse in units of 1 left out all of c^2, and p was 0.9999."""
    random = np.random.default_rng(6)
    matrix = random.normal(size=(40, 8))
    covariance, d = matrix.T @ matrix / 40, random.normal(size=8)
    scale = 10.0 ** np.array([0, -3, -5, -6, -7, -9, -10, -11])
    expected = closure.distance2(d, covariance)
    found = closure.distance2(d * scale, covariance * np.outer(scale, scale))
    assert expected[1] == found[1] == 8
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[0] == pytest.approx(d @ np.linalg.solve(covariance, d), rel=1e-9)


@pytest.mark.parametrize("dependent", [True, False])
def test_combined_probability_is_uniform(dependent):
    random = np.random.default_rng(8)
    one, other = random.random((2, 2000))
    found = [combined([a, a if dependent else b]) for a, b in zip(one, other, strict=True)]
    assert kstest(found, "uniform").pvalue > 0.01
    assert combined([0.3, np.nan]) == pytest.approx(0.3)
    assert np.isnan(combined([np.nan]))


def test_background_put_under_the_reference_is_that_of_the_data():
    edges = np.linspace(2.9, 3.3, 41)
    made = np.full((2, 40), 100.0)
    one, zero = np.ones(2), np.zeros(2)
    values = {name: one for name in CategoryFits.__dataclass_fields__}
    values |= {"background": np.array([0.2, 0.0]), "slope": 2 * one, "curvature": zero}
    found, variance = with_background(made, 4 * made, CategoryFits(**values), edges)
    under = found - made
    assert under[0].sum() == pytest.approx(1000.0)  # a fifth of all, 4000 are signal
    assert under[0, 0] / under[0, -1] == pytest.approx(np.exp(2 * 39 / 40))
    assert not under[1].any()
    np.testing.assert_allclose(variance, 4 * found)
    assert with_background(made, None, CategoryFits(**values), edges)[1] is None


def test_harmonics_are_those_of_the_scale_not_of_its_means_over_bins():
    edges = np.linspace(-np.pi, np.pi, 13)
    wave = np.array([3e-4, -1e-4, 2e-4, 5e-4])
    whole = [
        wave[0] * np.sin(edges),
        -wave[1] * np.cos(edges),
        wave[2] * np.sin(2 * edges) / 2,
        -wave[3] * np.cos(2 * edges) / 2,
    ]
    value = 1e-3 + np.diff(sum(whole)) / np.diff(edges)
    error = np.linspace(1e-4, 2e-4, 12)
    kept = np.arange(12) != 4  # a bin without events
    found, covariance = along.harmonics(value[kept], error[kept], edges[:-1][kept], edges[1:][kept])
    np.testing.assert_allclose(found, wave, atol=1e-12)
    assert covariance.shape == (4, 4) and (np.diagonal(covariance) > 2 * 1e-8 / 12).all()


def test_a_period_in_too_few_bins_of_phi_is_not_passed(sets):
    table = sets[0].table
    phi = (table["variable"] == "phi") & (table["low"] > -1.0)
    few = table.assign(fitted=np.where(phi, np.nan, table["fitted"]))
    check = along.check_period("jpsi", few)
    assert not check.passed and "no bin could be tested" in check.text
