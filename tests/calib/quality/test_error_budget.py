"""What errors are made of: the parts, and the limits of few and many events."""

from __future__ import annotations

import numpy as np
import pytest

from calib.quality.error_budget import SHARE, budget_of


def covariance(**more: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "names": np.array(["A_0", "A_1", "d0_e3_a"]),
        "values": np.array([1.0, 2.0, np.nan]),
        "covariance": np.diag([4.0, 9.0, 1.0]),
        **more,
    }


def test_all_statistical() -> None:
    budget = budget_of(covariance())
    assert budget.kinds == ("A", "A", "d0_a")
    np.testing.assert_allclose(budget.at(1), [2, 3, np.nan])
    np.testing.assert_allclose(budget.at(4), [1, 1.5, np.nan])
    np.testing.assert_allclose(budget.at(np.inf), [0, 0, np.nan])


def test_what_stays() -> None:
    """Of a variance of 4: 3 statistical, of which a third is simulated; 2 fall, 2 stay."""
    budget = budget_of(
        covariance(covariance_stat=np.diag([3.0, 9.0, 1.0]), **{SHARE: np.array(1 / 3)})
    )
    np.testing.assert_allclose(budget.at(1)[:2], [2, 3])
    np.testing.assert_allclose(budget.at(2)[:2] ** 2, [1 + 2, 3 + 3])
    np.testing.assert_allclose(budget.at(np.inf)[:2] ** 2, [2, 3])


def test_summary_is_of_what_has_a_value() -> None:
    found = budget_of(covariance()).summary(4).set_index("kind")
    assert list(found.index) == ["A"]
    assert found.loc["A", "n"] == 2
    assert found.loc["A", "gain"] == pytest.approx(0.5)
    assert found.loc["A", "error_then"] == pytest.approx(1.25)
