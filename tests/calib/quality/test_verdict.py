"""The verdict: all checks, or it is not passed."""

import json
import math

import pytest

from calib.quality.verdict import for_people, verdict
from calib.results import Check


def test_all_have_to_pass() -> None:
    good, bad = Check("a", 1.0, 2.0, True, "fine"), Check("b", 3.0, 2.0, False)
    assert verdict([good])["passed"] and not verdict([good, bad])["passed"]
    assert verdict([good])["checks"] == [
        {
            "name": "a",
            "title": "A",
            "value": 1.0,
            "threshold": 2.0,
            "sense": "<=",
            "passed": True,
            "text": "fine",
        }
    ]


def test_nothing_shown_is_nothing_passed() -> None:
    assert not verdict([])["passed"]


def test_numbers_that_json_lacks() -> None:
    found = verdict([Check("a", math.nan, math.inf, False)])
    assert found["checks"][0]["value"] is None and found["checks"][0]["threshold"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_sense_decides_and_only_a_failure_has_advice() -> None:
    few = Check.at_least("events", 3, 5, advice="take more")
    many = Check.at_most("events", 3, 5, advice="take fewer")
    assert (few.sense, few.passed, few.advice) == (">=", False, "take more")
    assert (many.sense, many.passed, many.advice) == ("<=", True, "")
    assert not Check.at_most("events", math.nan, 5).passed
    lines = verdict([few, many])["checks"]
    assert lines[0]["advice"] == "take more" and "advice" not in lines[1]


@pytest.mark.parametrize(
    ("value", "passed", "sense"), [(1, True, "<="), (3, True, ">="), (1, False, ">=")]
)
def test_a_check_without_a_sense_has_the_one_that_agrees(
    value: float, passed: bool, sense: str
) -> None:
    assert Check("plugin", value, 2, passed).sense == sense


def test_people_read_failures_first_and_by_how_much() -> None:
    decided = verdict(
        [Check.at_most("a", 1, 2), Check.at_most("b", 3, 2), Check.at_least("c", 1, 9)]
    )
    lines = for_people(decided)
    assert [(c["name"], c["limit"], c["beyond"]) for c in lines] == [
        ("b", "≤ 2", "50 % above"),
        ("c", "≥ 9", "9 times below"),
        ("a", "≤ 2", ""),
    ]


def test_a_verdict_of_before_is_read() -> None:
    old = {"name": "chi2_ok", "value": 3.0, "threshold": 2.0, "passed": False, "text": "too large"}
    (line,) = for_people({"passed": False, "checks": [old]})
    assert (line["sense"], line["title"], line["text"]) == ("<=", "Chi2 ok", "too large")
    assert line["limit"] == "≤ 2" and line["advice"] == ""
