"""Buckets of runs: a table of cases, and what must hold whatever the runs are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import InputError
from calib.quality.buckets import Bucket, RunLuminosity, buckets, kept

Runs = list[RunLuminosity]


def runs_of(*luminosities: float, first: int = 1) -> Runs:
    return [RunLuminosity(first + i, value) for i, value in enumerate(luminosities)]


def shape(found: tuple[Bucket, ...]) -> list[tuple[int, int, float]]:
    return [(b.first, b.last, b.luminosity) for b in found]


@pytest.mark.parametrize(
    ("luminosities", "boundaries", "closed", "expected"),
    [
        ((), (), True, []),
        ((9,), (), True, [(1, 1, 9)]),
        ((4, 4), (), True, [(1, 2, 8)]),  # alone and short
        ((4, 5, 9), (), True, [(1, 2, 9), (3, 3, 9)]),
        ((4, 4, 4, 9), (), True, [(1, 3, 12), (4, 4, 9)]),
        ((9, 9, 3), (), True, [(1, 1, 9), (2, 3, 12)]),  # the leftover joins the one before
        ((9, 9, 3), (), False, [(1, 1, 9), (2, 2, 9), (3, 3, 3)]),  # or waits for more
        ((30, 1), (), True, [(1, 2, 31)]),  # one run alone may hold more
        ((4, 4, 9), (2,), True, [(1, 1, 4), (2, 3, 13)]),  # a boundary leaves a short one
        ((9, 4, 9), (3,), True, [(1, 2, 13), (3, 3, 9)]),  # a leftover does not cross it
        ((9, 4, 9), (3,), False, [(1, 2, 13), (3, 3, 9)]),  # and what is before it waits for none
        ((9, 9), (2, 100), True, [(1, 1, 9), (2, 2, 9)]),
        ((0, 0, 9, 0), (), True, [(1, 4, 9)]),
    ],
)
def test_truth_table(
    luminosities: tuple[float, ...],
    boundaries: tuple[int, ...],
    closed: bool,
    expected: list[tuple[int, int, float]],
) -> None:
    found = buckets(runs_of(*luminosities), 9.0, boundaries, closed=closed)
    assert shape(found) == expected
    for bucket in found:
        assert bucket.prescale == max(1.0, bucket.luminosity / 9.0)
        assert bucket.complete == (bucket.luminosity >= 9)
    assert [b.waiting for b in found] == [
        not closed and b is found[-1] and not b.complete for b in found
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.floats(0, 25)), max_size=60, unique_by=lambda r: r[0]
    ),
    st.lists(st.integers(0, 300), max_size=4),
    st.booleans(),
)
def test_every_run_is_in_one_bucket_of_enough_luminosity(
    values: list[tuple[int, float]], boundaries: list[int], closed: bool
) -> None:
    runs = [RunLuminosity(run, value) for run, value in values]
    found = buckets(runs, 9.0, boundaries, closed=closed)
    assert [run for b in found for run in b.runs] == sorted(run for run, _ in values)
    of = dict(values)
    for number, bucket in enumerate(found):
        assert (bucket.first, bucket.last) == (bucket.runs[0], bucket.runs[-1])
        assert math.isclose(bucket.luminosity, math.fsum(of[r] for r in bucket.runs), abs_tol=1e-9)
        assert not [b for b in boundaries if bucket.first < b <= bucket.last]
        after = found[number + 1].first if number + 1 < len(found) else 10**9
        before = found[number - 1].last if number else -1
        alone = any(before < b <= bucket.first for b in [*boundaries, -1 if before >= 0 else 0])
        alone &= any(bucket.last < b <= after for b in [*boundaries, 10**9])
        assert bucket.complete or alone or bucket.waiting
        # no bucket could have ended earlier and left a whole one behind it
        if bucket.complete and number + 1 < len(found):
            short = sum(of[r] for r in bucket.runs[:-1])
            assert short < 9.0 or any(bucket.last < b <= after for b in boundaries)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 12), min_size=1, max_size=40), st.integers(1, 7))
def test_complete_buckets_stay_as_nights_go_by(values: list[float], step: int) -> None:
    runs = runs_of(*values)
    before: tuple[Bucket, ...] = ()
    for night in range(step, len(runs) + step, step):
        now = buckets(runs[:night], earlier=before, closed=False)
        whole = [b for b in before if b.complete]
        assert list(now[: len(whole)]) == whole
        before = now
    assert shape(before) == shape(buckets(runs, closed=False))


def test_a_late_file_is_a_new_revision_of_its_bucket_alone() -> None:
    runs = runs_of(9, 9, 9)
    before = buckets(runs)
    late = [runs[0], RunLuminosity(2, 9.0, "one more file"), runs[2]]
    assert [b.revision for b in buckets(late, earlier=before)] == [1, 2, 1]
    more = [runs[0], RunLuminosity(2, 20.0), runs[2]]
    now = buckets(more, earlier=before)
    assert shape(now) == [(1, 1, 9), (2, 2, 20), (3, 3, 9)]
    assert [b.revision for b in now] == [1, 2, 1]
    assert [b.revision for b in buckets(more, earlier=now)] == [1, 2, 1]


def test_late_runs_join_and_boundaries_may_come_later() -> None:
    before = buckets([RunLuminosity(r, 9.0) for r in (10, 20, 30)])
    late = [RunLuminosity(r, v) for r, v in ((5, 1.0), (10, 9), (15, 9), (20, 9), (30, 9), (31, 2))]
    now = buckets(late, earlier=before)
    assert shape(now) == [(5, 15, 19), (20, 20, 9), (30, 31, 11)]
    assert [b.revision for b in now] == [2, 1, 2]
    split = buckets(late, boundaries=[15], earlier=now)
    assert shape(split) == [(5, 10, 10), (15, 15, 9), (20, 20, 9), (30, 31, 11)]
    assert [b.revision for b in split] == [3, 3, 1, 2]


@pytest.mark.parametrize(
    ("runs", "minimum", "words"),
    [
        ([RunLuminosity(3, 1.0), RunLuminosity(3, 2.0)], 9.0, "run 3: there twice"),
        ([RunLuminosity(3, math.nan)], 9.0, "run 3: luminosity nan"),
        ([RunLuminosity(3, -1.0)], 9.0, "expected a number >= 0"),
        ([], 0.0, "expected more than 0"),
    ],
)
def test_what_is_refused(runs: Runs, minimum: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        buckets(runs, minimum)


def test_prescale_belongs_to_the_event() -> None:
    n = 100_000
    run, block, event = np.full(n, 315_252), np.arange(n) // 100, np.arange(n)
    all_of_it = kept(run, block, event, 1.0)
    third, tenth = kept(run, block, event, 3.0), kept(run, block, event, 10.0)
    assert all_of_it.all() and not (tenth & ~third).any()
    assert abs(third.mean() - 1 / 3) < 4 * math.sqrt(2 / 9 / n)
    back = kept(run[::-1], block[::-1], event[::-1], 3.0)[::-1]
    assert np.array_equal(back, third)
    from calib.events.random import half

    # independent of the half of the sample that an event belongs to
    assert abs(half(run, block, event)[third].mean() - 0.5) < 4 * math.sqrt(0.75 / n)
