"""The gates, on what really happened: four failed fits of a published payload."""

import json

import numpy as np
import pytest

from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import categories
from calib.quality.category_gates import CategoryValue, GateLimits, judge
from calib.results import Status

LIMITS = GateLimits(1000, 0.15, 1e-6, 5.0, 0.02, (0.5, 2.0))


def candidate(**changes):
    start = {
        "name": "c",
        "n_events": 5000.0,
        "value": 1.1,
        "error": 0.03,
        "chi2": 100.0,
        "ndf": 100,
        "fit": Status.OK,
        "at_limit": False,
    }
    return CategoryValue(**{**start, **changes})


def same_rings(all_of_them):
    """Return the categories with the same two rings, in either order, at any pt."""
    rings = [sorted(all_of_them.bins(c)[1:]) for c in range(len(all_of_them))]
    return [
        [d for d in range(len(rings)) if d != c and rings[d] == rings[c]] for c in range(len(rings))
    ]


def test_the_four_failed_fits_of_a_published_payload_are_stopped(shared_data):
    """0.0629, 1.85, 1.65 and 1.34, all in leading pt 30-45; the other 32 are sound.

    Its millions of Z give errors of about 1 % a category.
    """
    document = json.loads((shared_data / "peer_2018_mass_resolution.json").read_text())
    content = document["corrections"][0]["data"]["content"]
    all_of_them = categories(Settings())
    found = judge(
        [
            candidate(name=name, value=value, error=0.01 * value)
            for name, value in zip(all_of_them.names, content, strict=True)
        ],
        same_rings(all_of_them),
        LIMITS,
    )
    statuses = dict(zip(all_of_them.names, (status for status, _ in found), strict=True))
    assert statuses.pop("30-45_EE") is Status.OUT_OF_RANGE
    for name in ("30-45_BB", "30-45_BO", "30-45_OO"):
        assert statuses.pop(name) is Status.OFF_NEIGHBOURS
    assert set(statuses.values()) == {Status.OK}


def test_a_sigma_at_its_limit_is_stopped_before_its_value_is_looked_at():
    assert judge([candidate(value=1.0, at_limit=True)], [[]], LIMITS)[0][0] is Status.AT_LIMIT


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.OK),
        ({"n_events": 999.0}, Status.TOO_FEW_EVENTS),
        ({"error": 0.2}, Status.TOO_FEW_EVENTS),
        ({"fit": Status.FIT_FAILED}, Status.FIT_FAILED),
        ({"fit": Status.NOT_POSITIVE_DEFINITE}, Status.NOT_POSITIVE_DEFINITE),
        ({"fit": Status.NO_TEMPLATE, "value": np.nan}, Status.NO_TEMPLATE),
        ({"value": np.nan}, Status.NOT_POSITIVE_DEFINITE),
        ({"error": np.nan}, Status.NOT_POSITIVE_DEFINITE),
        ({"error": 0.0}, Status.NOT_POSITIVE_DEFINITE),
        ({"chi2": 220.0}, Status.BAD_CHI2),
        ({"chi2": 160.0}, Status.OK),
        ({"value": 0.49}, Status.OUT_OF_RANGE),
        ({"value": 2.01}, Status.OUT_OF_RANGE),
    ],
)
def test_each_gate(changes, status):
    found, text = judge([candidate(**changes)], [[]], LIMITS)[0]
    assert found is status
    assert (text == "") == (status is Status.OK)
    if text:
        assert "category c" in text


def test_a_wrong_neighbour_does_not_condemn_a_good_one():
    values = [1.10, 1.12, 1.90, 1.09]
    found = judge(
        [candidate(value=v) for v in values],
        [[j for j in range(4) if j != i] for i in range(4)],
        LIMITS,
    )
    assert [s for s, _ in found] == [Status.OK, Status.OK, Status.OFF_NEIGHBOURS, Status.OK]
