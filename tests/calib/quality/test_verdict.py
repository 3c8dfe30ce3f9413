"""The verdict: all checks, or it is not passed."""

import json
import math

from calib.quality.verdict import verdict
from calib.results import Check


def test_all_have_to_pass() -> None:
    good, bad = Check("a", 1.0, 2.0, True, "fine"), Check("b", 3.0, 2.0, False)
    assert verdict([good])["passed"] and not verdict([good, bad])["passed"]
    assert verdict([good])["checks"] == [
        {"name": "a", "value": 1.0, "threshold": 2.0, "passed": True, "text": "fine"}
    ]


def test_nothing_shown_is_nothing_passed() -> None:
    assert not verdict([])["passed"]


def test_numbers_that_json_lacks() -> None:
    found = verdict([Check("a", math.nan, math.inf, False)])
    assert found["checks"][0]["value"] is None and found["checks"][0]["threshold"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
