"""No event is lost without being counted."""

from __future__ import annotations

import pytest

from calib.errors import InputError
from jobs.run.accounting import Counts, account, bad_share, checks, require_pairs

GOOD = Counts(10, 6, {"pt": 3, "eta": 1, "same_sign": 0})


def test_sums() -> None:
    total = Counts.total([GOOD, Counts(2, 1, {"trigger": 1})])
    assert total == Counts(12, 7, {"pt": 3, "eta": 1, "same_sign": 0, "trigger": 1})
    assert total.adds_up and not Counts(3, 1, {"pt": 1}).adds_up


def test_totals_and_check() -> None:
    found = account([("a", "x", 10, GOOD), ("b", "y", 10, GOOD), ("a", "z", 10, GOOD)])
    assert found["samples"]["a"]["totals"] == {
        "events": 20,
        "read": 20,
        "selected": 12,
        "rejected": {"pt": 6, "eta": 2},
    }
    assert len(found["samples"]["a"]["files"]) == 2
    assert [c.passed for c in checks(found)] == [True]


def test_a_lost_event_is_seen() -> None:
    for events, counts in ((11, GOOD), (10, Counts(10, 5, {"pt": 4}))):
        found = checks(account([("a", "x", events, counts)]))[0]
        assert not found.passed and found.value == 1 and "x" in found.text


def test_bad_files_pass_only_where_they_are_allowed() -> None:
    part = {"sample": "a", "path": "x", "start": 10, "stop": 15, "events": 5, "error": "cut"}
    found = account([("a", "x", 15, GOOD), ("a", "y", 10, GOOD)], [part])
    assert found["samples"]["a"]["files"][0]["bad"] == found["samples"]["a"]["totals"]["bad"] == 5
    assert bad_share(found) == 5 / 25
    for allowed, passed in ((0.0, False), (0.1, False), (0.2, True)):
        lost, bad = checks(found, allowed)
        assert lost.passed and bad.passed == passed and "x (cut)" in bad.text


def test_a_file_that_could_not_be_opened_counts_as_the_others() -> None:
    shut = {"sample": "a", "path": "z", "events": None, "error": "truncated"}
    part = {"sample": "a", "path": "x", "start": 0, "stop": 10, "events": 10, "error": "cut"}
    found = account([("a", "x", 10, Counts(0, 0, {})), ("a", "y", 10, GOOD)], [shut, part])
    assert bad_share(found) == pytest.approx(1 / 3 + 2 / 3 * 0.5)
    assert not checks(account([("a", "y", 10, GOOD)], [shut]))[1].passed


def test_sample_without_pairs() -> None:
    nothing = Counts(10, 0, {"pt": 9, "trigger": 1})
    with pytest.raises(InputError, match="sample b: none of its 10 events .*pt 9, trigger 1"):
        require_pairs(account([("a", "x", 10, GOOD), ("b", "y", 10, nothing)]))
