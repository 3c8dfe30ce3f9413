"""The kernel model of thousands of fits, for the 36 of the mass resolution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.fitting.models import kernel
from calib.results import Reduction

from .conftest import Run, make


def test_signal_of_a_line_is_a_gaussian():
    edges = np.linspace(80, 100, 61)
    found = kernel.signal(edges, np.array([3.0]), np.array([91.0]), 1.001, 0.012)
    expected = np.diff(norm.cdf(edges, 91.0 * 1.001, 91.0 * 0.012))
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-12)


@pytest.fixture(scope="module")
def run(small: Run) -> Run:
    return make(
        Settings(line_shape="kernel", compare=("embedded",), copies=6), small.events["data"]
    )


@pytest.fixture(scope="module")
def reduction(run: Run) -> Reduction:
    return run.calibration.reduce(run.sums, {})


def test_kernel_factors_where_the_selection_does_not_carve_the_peak(run: Run, reduction: Reduction):
    table = reduction.tables["factors"].set_index("category")
    assert set(table["model"]) == {"kernel"}
    truth = Calibration.truth(run.pairs["data"])["truth"]
    good = table[(table["status"] == "ok") & ~table.index.str.startswith("30-45")]
    assert len(good) >= 4
    pulls = (good["factor"] - [truth[c] for c in good.index]) / good["factor_err"]
    assert np.abs(pulls).max() < 4
    checks = {check.name: check for check in reduction.checks}
    assert checks["second_opinion"].passed
    again = reduction.fits["minuit_agrees"].notna()
    assert again.sum() > 15
    assert reduction.fits.loc[again, "minuit_delta_sigma"].abs().median() < 0.01
    for curve in reduction.curves:
        if curve.group == "categories":
            assert curve.model.sum() == pytest.approx(curve.counts.sum(), rel=1e-6)


def test_its_closure_uses_templates_that_carry_the_selection(run: Run, reduction: Reduction):
    walk = run.calibration.closure_pass(reduction)
    assert str(walk.values["closure_model"]) == "embedded"
    closure = run.calibration.closure(run.walk(walk), reduction)
    assert closure.table["pull"].notna().sum() > 10
