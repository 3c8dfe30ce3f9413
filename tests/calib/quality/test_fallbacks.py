"""Bins that cannot be measured fall back on merged ones, and share their errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib.events.categories import Axis, Categories
from calib.events.eta_phi import eta_phi
from calib.quality.fallbacks import BinGates, Estimates, as_parameters, checks, with_fallbacks
from calib.results import Status

PLACES = eta_phi((-2.0, -1.0, 0.0, 1.0, 2.0), (-3.2, 3.2))
GATES = BinGates(min_events=100, neighbours=1e9)
RANGES = {"a": (0.0, 100.0), "b": (0.0, 1000.0)}


def estimates(values: np.ndarray, n_events: np.ndarray, error: float = 0.1) -> Estimates:
    n = len(values)
    covariance = np.tile(error**2 * np.array([[1.0, -0.5], [-0.5, 2.0]]), (n, 1, 1))
    return Estimates(values, covariance, np.full(n, 8.0), np.full(n, 10), n_events)


def test_what_a_bin_falls_back_on() -> None:
    own = estimates(np.tile([10.0, 50.0], (4, 1)), np.array([1000, 1000, 1000, 50]))
    own.values[2, 1] = 5000.0  # beyond its range
    asked = []

    def merged(name: str, members: object) -> Estimates:
        asked.append((name, list(members)))  # type: ignore[call-overload]
        return estimates(np.array([[11.0, 51.0]]), np.array([2000]), 0.05)

    found = with_fallbacks(PLACES, own, RANGES, GATES, merged=merged, units=("", ""))
    assert asked == [("e1e2", [2, 1]), ("e0e3", [3, 0])]
    assert list(found.status) == [Status.OK, Status.OK, Status.HELD, Status.MERGED]
    assert list(found.fallback) == ["", "", "e1e2", "e0e3"]
    assert [s.value for s in found.own_status[2:]] == ["out_of_range", "too_few_events"]
    assert found.values[3].tolist() == [11.0, 51.0] and found.values[0].tolist() == [10.0, 50.0]
    assert "value 5000 outside" in found.reason[2] and found.reason[0] == ""
    # bins of two sources are independent, their parameters are not
    assert found.covariance[0, 1] == pytest.approx(-0.005)
    assert not found.covariance[4:6, 6:8].any()
    verdict = {c.name: c for c in checks(_fits(), {"": found}, GATES, "an a")}
    assert verdict["bins_usable"].passed
    assert verdict["events_in_held_bins"].value == pytest.approx(1000 / 3050)
    assert not verdict["events_in_held_bins"].passed


def test_bins_of_one_source_have_one_error() -> None:
    own = estimates(np.tile([10.0, 50.0], (4, 1)), np.array([1000, 10, 10, 1000]))
    found = with_fallbacks(
        PLACES,
        own,
        RANGES,
        GATES,
        merged=lambda name, members: estimates(np.array([[11.0, 51.0]]), np.array([500])),
        units=("", ""),
    )
    np.testing.assert_array_equal(found.covariance[2:4, 2:4], found.covariance[2:4, 4:6])
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12


def test_nothing_to_fall_back_on() -> None:
    places = eta_phi((0.0, 1.0, 2.0), (-3.2, 3.2))
    own = estimates(np.array([[10.0, 50.0], [np.nan, np.nan]]), np.array([1000, 1000]))
    none = lambda name, members: estimates(np.full((1, 2), np.nan), np.array([0]))  # noqa: E731
    found = with_fallbacks(places, own, RANGES, GATES, merged=none, units=("", ""))
    assert found.status[1] is Status.NOT_DETERMINED and not found.usable[1]
    assert not {c.name: c.passed for c in checks(_fits(), {"": found}, GATES, "an a")}[
        "bins_usable"
    ]


def test_estimates_as_they_are() -> None:
    places = Categories.of([Axis("x", (0.0, 1.0, 2.0))])
    own = estimates(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([500, 5]))
    kept = own.where(own.n_events > 100, np.zeros((2, 2)))
    found = as_parameters(places, kept, ["a", "b"], ["", ""])
    assert found.values.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert list(found.status) == [Status.OK, Status.TOO_FEW_EVENTS]
    assert not own.where(own.n_events > 0, np.zeros((2, 2)), always=True).values.any()


def _fits() -> pd.DataFrame:
    return pd.DataFrame({"n_events": [90, 10], "status": ["ok", "bad_chi2"]})
