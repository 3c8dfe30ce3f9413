"""No event is lost without being counted."""

from __future__ import annotations

import pytest

from calib.errors import InputError
from jobs.accounting import Counts, account, check, require_pairs

GOOD = Counts(10, 6, {"pt": 3, "eta": 1, "same_sign": 0})


def test_sums() -> None:
    total = Counts.total([GOOD, Counts(2, 1, {"trigger": 1})])
    assert total == Counts(12, 7, {"pt": 3, "eta": 1, "same_sign": 0, "trigger": 1})
    assert total.adds_up and not Counts(3, 1, {"pt": 1}).adds_up


def test_totals_and_check() -> None:
    found = account([("a", "x", 10, GOOD), ("b", "y", 10, GOOD), ("a", "z", 10, GOOD)])
    assert found["samples"]["a"]["totals"] == {
        "events": 20, "read": 20, "selected": 12, "rejected": {"pt": 6, "eta": 2},
    }  # fmt: skip
    assert len(found["samples"]["a"]["files"]) == 2
    assert check(found).passed


def test_a_lost_event_is_seen() -> None:
    for events, counts in ((11, GOOD), (10, Counts(10, 5, {"pt": 4}))):
        found = check(account([("a", "x", events, counts)]))
        assert not found.passed and found.value == 1 and "x" in found.text


def test_bad_files_do_not_pass() -> None:
    found = account([("a", "x", 10, GOOD)], [{"path": "y", "error": "truncated"}])
    assert not check(found).passed


def test_sample_without_pairs() -> None:
    nothing = Counts(10, 0, {"pt": 9, "trigger": 1})
    with pytest.raises(InputError, match="sample b: none of its 10 events .*pt 9, trigger 1"):
        require_pairs(account([("a", "x", 10, GOOD), ("b", "y", 10, nothing)]))
