"""The test of the constants in force: every case, how often it is wrong, and where runs differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from calib.quality.publication_gate import Effects
from calib.quality.residual_test import (
    NIGHTS,
    Measured,
    Residual,
    Tolerance,
    change_points,
    measured,
    residual,
    step_at,
    with_force,
)
from calib.types import Array

from .test_publication_gate import effects

ERR = 1e-3
LIMIT = Tolerance(limit=2e-3)


def piece(values: object, errors: object = ERR) -> Measured:
    left = effects(values, errors)
    return measured(left, left)


TESTS = [
    ("good", [1e-5, -1e-5], 3e-5, Residual.WITHIN),
    ("all off", [6e-4, 6e-4], 3e-5, Residual.OUTSIDE),
    ("one off", [6e-4, -6e-4], 3e-5, Residual.OUTSIDE),
    ("off by less than the limit, however significant", [1.5e-4, 1.5e-4], 1e-6, Residual.WITHIN),
    ("off, not significant", [2.2e-4, 2.2e-4], 9e-5, Residual.UNDECIDED),
    ("one region is off, not significant", [3e-4, 0.0, 0.0, 0.0], 8e-5, Residual.UNDECIDED),
    ("too few events", [0.0, 0.0], 5e-4, Residual.UNDECIDED),
    ("too few events, but far off", [5e-3, 5e-3], 5e-4, Residual.OUTSIDE),
    ("nothing known", [np.nan, np.nan], 3e-5, Residual.UNDECIDED),
    ("one not known", [1e-5, np.nan], 3e-5, Residual.WITHIN),
    ("no quantity", [], [], Residual.UNDECIDED),
]


@pytest.mark.parametrize("case", TESTS, ids=[c[0] for c in TESTS])
def test_every_case_of_one_run(case: tuple[object, ...]) -> None:
    _, values, errors, expected = case
    found = residual([piece(values, errors)], Tolerance(limit=2e-4))
    assert found.outcome is expected, found.why
    assert found.why


@pytest.mark.parametrize("n, runs", [(1, 1), (30, 1), (30, 3)])
def test_a_night_is_wrong_as_often_as_it_says(n: int, runs: int) -> None:
    rate, trials = 0.02, 3000
    random = np.random.default_rng(6)
    tolerance = Tolerance(limit=1e-9, false_alarm=rate)
    wrong = 0
    for _ in range(trials):
        pieces = [piece(random.normal(0, 1e-5, n), 1e-5) for _ in range(runs)]
        wrong += residual(pieces, tolerance, runs).outcome is Residual.OUTSIDE
    assert binom.sf(wrong - 1, trials, rate) > 1e-4
    assert wrong > 0.4 * rate * trials


def test_a_year_has_no_more_false_alarms_than_stated() -> None:
    """Years of constants that are what they should be, within their errors.

    At 1e-3 a night at most 37 % of the years may have an alarm: of 15 as many as binomial chance
    allows for that rate at 1e-3.
    """
    random = np.random.default_rng(19)
    n, years, rate = 12, 15, 1e-3
    tolerance = Tolerance(limit=2e-3, false_alarm=rate)
    wrong = 0
    for _ in range(years):
        force = effects(random.normal(0, ERR / 3, n), ERR / 3)
        pieces: list[Measured] = []
        for _ in range(NIGHTS):
            left = effects(random.normal(0, ERR, n) - force.values, ERR)
            pieces.append(measured(left, with_force(left, force)))
            # windows of more than 64 runs are known to a quarter of the limit: they cannot alarm
            if residual(pieces[-64:], tolerance).outcome is Residual.OUTSIDE:
                wrong += 1
                break
    assert wrong <= binom.isf(1e-3, years, NIGHTS * rate)


def test_a_region_that_is_always_a_little_off_is_seen_after_a_few_runs() -> None:
    """Off by 1.45 limits, 2.9 standard deviations a run: alone, hardly one run is an alarm."""
    random = np.random.default_rng(5)
    nights, alone = [], 0
    for _ in range(100):
        pieces: list[Measured] = []
        while len(pieces) < 20:
            left = effects(random.normal(0, ERR, 12) + 2.9e-3 * (np.arange(12) == 5), ERR)
            pieces.append(measured(left, left))
            found = residual(pieces, LIMIT)
            alone += residual(pieces[-1:], LIMIT).outcome is Residual.OUTSIDE
            if found.outcome is Residual.OUTSIDE:
                break
        nights.append(len(pieces))
        assert found.worst == "q5" and found.begins <= 2
    assert np.median(nights) <= 4 and max(nights) <= 9
    assert alone < 0.1 * sum(nights)


def test_a_shift_that_comes_and_goes_in_one_night_is_seen() -> None:
    up, down = piece([8e-3, 0.0, 0.0]), piece([-8e-3, 0.0, 0.0])
    found = residual([up, up, down, down], LIMIT, 4)
    assert found.outcome is Residual.OUTSIDE and found.begins == 0


def test_the_errors_of_the_constants_are_those_of_all_runs() -> None:
    left, force = effects([0.0, 0.0], 1e-3), effects([0.0, 0.0], 2e-3)
    pieces = [measured(left, with_force(left, force))] * 64
    found = residual(pieces, Tolerance(limit=1.0))
    assert found.error == pytest.approx(np.sqrt(1e-6 / 2 + 4e-6 / 2))
    far = (
        piece([5e-3, 5e-3], 1e-3),
        measured(effects([5e-3, 5e-3], 1e-3), with_force(effects([5e-3, 5e-3], 1e-3), force)),
    )
    assert residual([far[0]], LIMIT).outcome is Residual.OUTSIDE
    assert residual([far[1]] * 64, LIMIT).outcome is Residual.UNDECIDED


def test_the_errors_of_the_constants_in_force_count_too() -> None:
    left, force = effects([5e-4, 5e-4], 3e-5), effects([0.0, 0.0], 4e-5)
    assert np.allclose(with_force(left, force).errors, 5e-5)
    finer = effects(np.zeros(8), 8e-5)  # eight bins to two: half the error each
    assert np.allclose(with_force(left, finer).errors, 5e-5)
    assert with_force(left, None) is left


def test_quantities_of_other_runs_are_found_by_name() -> None:
    one = Effects(("a", "b"), np.array([0.0, 9e-3]), np.eye(2) * ERR**2, np.ones(2, bool))
    other = Effects(("b", "c"), np.array([9e-3, 0.0]), np.eye(2) * ERR**2, np.ones(2, bool))
    found = residual([measured(one, one), measured(other, other)], LIMIT)
    assert found.worst == "b" and found.begins == 0 and found.n_quantities == 4


def test_the_step_is_found_at_the_run_it_comes_with() -> None:
    random = np.random.default_rng(3)
    errors = random.uniform(1e-5, 4e-5, 12)
    for at in range(12):
        values = random.normal(0, errors) + np.where(np.arange(12) >= at, 5e-4, 0)
        values[3] = np.nan
        assert step_at(values, errors) == (3 if at == 4 else at)  # nobody knows of which it is


@pytest.mark.parametrize(
    "shifts, cuts",
    [
        ([0.0] * 8, ()),
        ([8e-3] * 8, ()),  # of one piece, however bad
        ([8e-3] * 3 + [-8e-3] * 3 + [0.0] * 2, (3, 6)),
        ([1e-2] * 2 + [0.0] * 6, (2,)),
        ([0.0, 0.0, 1e-2, 0.0, 0.0, 0.0], (2, 3)),
        ([0.0, 1e-3] * 4, ()),  # less than the limit
    ],
)
def test_runs_are_cut_where_they_differ(shifts: list[float], cuts: tuple[int, ...]) -> None:
    random = np.random.default_rng(4)

    def one(shift: float) -> Measured:
        values: Array = random.normal(0, ERR, 12)
        values[7] += shift
        return piece(values)

    assert change_points([one(s) for s in shifts], LIMIT) == cuts


def test_runs_that_do_not_differ_are_seldom_cut() -> None:
    random = np.random.default_rng(12)
    rate, trials = 0.02, 1000
    tolerance = Tolerance(limit=1e-9, false_alarm=rate)
    cut = sum(
        bool(change_points([piece(random.normal(0, ERR, 6)) for _ in range(8)], tolerance))
        for _ in range(trials)
    )
    assert binom.sf(cut - 1, trials, rate) > 1e-4
