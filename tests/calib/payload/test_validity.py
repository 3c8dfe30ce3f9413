"""Intervals of runs: everything against sets of runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InputError
from calib.payload.validity import LAST, Validity

TOP = 30


@st.composite
def validities(draw: st.DrawFn) -> Validity:
    since = draw(st.integers(0, TOP))
    return Validity(since, draw(st.one_of(st.none(), st.integers(since, TOP))))


def runs(validity: Validity) -> set[int]:
    """Runs up to a bit beyond the top, by the definition."""
    last = TOP + 5 if validity.until is None else validity.until
    return set(range(validity.since, last + 1))


@given(validities(), validities())
def test_as_sets(a: Validity, b: Validity) -> None:
    assert a.overlaps(b) == bool(runs(a) & runs(b)) == b.overlaps(a)
    assert {r for r in range(TOP + 6) if a.contains(r)} == runs(a)
    left = a.without(b)
    assert sorted(r for part in left for r in runs(part)) == sorted(runs(a) - runs(b))
    assert list(left) == sorted(left, key=lambda v: v.since)
    assert a.joins(b) == (a.until is not None and a.until + 1 == b.since)


def test_open_to_the_last_run() -> None:
    assert Validity(5).contains(LAST) and not Validity(5).contains(4)
    assert str(Validity(5)) == "5 - open" and str(Validity(5, 9)) == "5 - 9"
    others = [Validity(9), Validity(1, 4), Validity(0, 5)]
    assert [Validity(5, 9).overlaps(o) for o in others] == [True, False, True]


@pytest.mark.parametrize(
    ("since", "until"),
    [(9, 8), (-1, None), (LAST + 1, None), (1, LAST + 1), (1.5, None), (True, 2)],
)
def test_no_interval(since: int, until: int | None) -> None:
    with pytest.raises(InputError, match="since|until"):
        Validity(since, until)
