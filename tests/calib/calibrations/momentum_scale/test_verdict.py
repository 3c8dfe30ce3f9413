"""The verdict on sets with known faults, a short form of `benchmarks/verdict_scale.py`."""

import numpy as np
import pytest

from benchmarks.verdict_scale import outcome

QUICK = {"method": "chi2", "calibrate_simulation": False, "copies": 2, "max_passes": 4}
EXPECTED = {
    "clean": (),
    "tails": (),
    "phi": ("closure_phi_jpsi", "closure_phi_period_jpsi"),
    "phi_first": ("closure_phi_jpsi", "closure_phi_period_jpsi"),
}
"""The checks that must not pass; none: the result is within its errors, or not passed."""


@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_wrong_results_do_not_pass_and_right_ones_do(case):
    found = outcome(case, 41, 150_000, 0, 8, **QUICK)
    wanted = EXPECTED[case]
    if wanted:
        assert set(wanted) <= set(found.failed)
        return
    if case == "clean":
        assert found.failed == ()
    assert found.failed or np.abs(found.off / found.stated).max() < 4
    assert found.failed or abs(found.mean_off) < 3 * found.mean_stated
