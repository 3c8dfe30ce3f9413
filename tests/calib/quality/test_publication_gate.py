"""The gate: every case of the table, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from calib.errors import InputError
from calib.quality.publication_gate import (
    Candidate,
    Decision,
    Effects,
    Limits,
    common,
    gate,
    moved,
    threshold,
)

LIMITS = Limits(cut=1e-4, max=2e-3, error_max=1e-4, significance=4.0)


def effects(values: object, errors: object, own: object = True) -> Effects:
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    wide = np.broadcast_to(np.asarray(errors, dtype=float), numbers.shape)
    names = tuple(f"q{i}" for i in range(len(numbers)))
    return Effects(names, numbers, np.diag(wide**2), np.broadcast_to(own, numbers.shape))


SMALL, ERR = 2e-5, 3e-5
GOOD = Candidate()

TABLE = [
    ("not moved", [SMALL, -SMALL], ERR, True, GOOD, Decision.KEEP),
    ("not moved at all", [0.0, 0.0], ERR, True, GOOD, Decision.KEEP),
    (
        "not moved, error large: nothing is claimed",
        [SMALL, 0.0],
        [5e-4, ERR],
        True,
        GOOD,
        Decision.KEEP,
    ),
    ("moved and significant", [5e-4, 0.0], ERR, True, GOOD, Decision.PUBLISH),
    ("moved down and significant", [0.0, -5e-4], ERR, True, GOOD, Decision.PUBLISH),
    ("moved, not significant", [1.1e-4, 0.0], ERR, True, GOOD, Decision.KEEP),
    ("significant, but below the cut", [9e-5, 0.0], 1e-6, True, GOOD, Decision.KEEP),
    ("moved, error too large", [9e-4, 0.0], [1.1e-4, ERR], True, GOOD, Decision.VETO),
    (
        "one moved well, another with too large an error",
        [5e-4, 5e-4],
        [ERR, 2e-4],
        True,
        GOOD,
        Decision.VETO,
    ),
    ("moved too far", [2.1e-3, 0.0], ERR, True, GOOD, Decision.VETO),
    ("moved too far, hardly known", [2.1e-3, 0.0], 1.0, True, GOOD, Decision.VETO),
    ("one significant, another too far", [5e-4, -3e-3], ERR, True, GOOD, Decision.VETO),
    ("exactly max is believed", [2e-3, 0.0], ERR, True, GOOD, Decision.PUBLISH),
    ("exactly cut is not moved", [1e-4, 0.0], 1e-6, True, GOOD, Decision.KEEP),
    ("exactly the significance", [4 * 2.0**-13, 0.0], 2.0**-13, True, GOOD, Decision.VETO),
    ("NaN", [float("nan"), 5e-4], ERR, True, GOOD, Decision.VETO),
    ("infinite", [float("inf"), 0.0], ERR, True, GOOD, Decision.VETO),
    ("error NaN", [5e-4, 0.0], [float("nan"), ERR], True, GOOD, Decision.VETO),
    (
        "a category held, the others significant",
        [5e-4] * 5 + [0.0],
        ERR,
        [True] * 5 + [False],
        GOOD,
        Decision.PUBLISH,
    ),
    (
        "only a held one moved: it asks for nothing",
        [0.0] * 5 + [5e-4],
        ERR,
        [True] * 5 + [False],
        GOOD,
        Decision.KEEP,
    ),
    (
        "a held one moved too far: it would be published",
        [5e-4] * 5 + [3e-3],
        ERR,
        [True] * 5 + [False],
        GOOD,
        Decision.VETO,
    ),
    ("too many held", [5e-4] * 6, ERR, [True] * 4 + [False] * 2, GOOD, Decision.VETO),
    ("not converged", [5e-4, 0.0], ERR, True, Candidate(converged=False), Decision.NOT_CONVERGED),
    (
        "not converged, nor passed",
        [5e-4, 0.0],
        ERR,
        True,
        Candidate(converged=False, passed=False),
        Decision.NOT_CONVERGED,
    ),
    (
        "verdict not passed",
        [5e-4, 0.0],
        ERR,
        True,
        Candidate(passed=False, failed="closure"),
        Decision.VETO,
    ),
    ("too little data", [5e-4, 0.0], ERR, True, Candidate(enough=False), Decision.WAIT),
    (
        "too little data, and not converged",
        [5e-4, 0.0],
        ERR,
        True,
        Candidate(enough=False, converged=False),
        Decision.WAIT,
    ),
    ("nothing measured", [], [], True, GOOD, Decision.VETO),
]


@pytest.mark.parametrize("case", TABLE, ids=[c[0] for c in TABLE])
def test_every_case_of_the_gate(case: tuple[object, ...]) -> None:
    _, values, errors, own, candidate, expected = case
    found = gate(effects(values, errors, own), LIMITS, candidate)
    assert found.decision is expected, found.why
    assert found.why


def test_the_first_constants_are_published_only_if_they_passed() -> None:
    assert gate(None, LIMITS).decision is Decision.PUBLISH
    assert gate(None, LIMITS, Candidate(passed=False)).decision is Decision.VETO
    assert gate(None, LIMITS, Candidate(converged=False)).decision is Decision.NOT_CONVERGED
    assert gate(None, LIMITS, Candidate(enough=False)).decision is Decision.WAIT


@pytest.mark.parametrize("change", [{"cut": 0.0}, {"cut": 3e-3}, {"error_max": 0.0}])
def test_limits_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="gate"):
        Limits(**{"cut": 1e-4, "max": 2e-3, "error_max": 1e-4, **change})


@pytest.mark.parametrize("n", [1, 10, 200])
def test_the_gate_alone_is_wrong_as_often_as_it_says(n: int) -> None:
    rate, trials = 0.02, 3000
    random = np.random.default_rng(5)
    limits = Limits(cut=1e-12, max=1.0, error_max=1.0, false_alarm=rate)
    errors = random.uniform(1e-5, 3e-5, n)
    wrong = sum(
        gate(effects(random.normal(0, errors), errors), limits).decision is Decision.PUBLISH
        for _ in range(trials)
    )
    assert binom.sf(wrong - 1, trials, rate) > 1e-4
    assert binom.cdf(wrong, trials, 0.8 * rate) > 1e-4  # nor is it much more careful than it says


# the error of a move ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "common_events, old_only, new_only",
    [(0, 200, 300), (200, 0, 300), (300, 200, 0), (150, 200, 300), (250, 0, 0)],
)
def test_the_error_of_a_move_is_that_of_many_pairs_of_fits(
    common_events: int, old_only: int, new_only: int
) -> None:
    """Straight lines through shared and own points, fitted with least squares."""
    random = np.random.default_rng(17)
    n_old, n_new = common_events + old_only, common_events + new_only
    x = random.uniform(-1, 1, common_events + old_only + new_only)
    design = np.stack([np.ones_like(x), x], axis=1)
    in_old = np.r_[np.ones(n_old, bool), np.zeros(new_only, bool)]
    in_new = np.r_[np.ones(common_events, bool), np.zeros(old_only, bool), np.ones(new_only, bool)]
    cov_old = np.linalg.inv(design[in_old].T @ design[in_old])
    cov_new = np.linalg.inv(design[in_new].T @ design[in_new])
    y = random.normal(size=(4000, len(x)))
    old = y[:, in_old] @ design[in_old] @ cov_old
    new = y[:, in_new] @ design[in_new] @ cov_new

    names, own = ("a", "b"), np.ones(2, bool)
    found = moved(
        Effects(names, new[0], cov_new, own),
        Effects(names, old[0], cov_old, own),
        (common_events / n_new, common_events / n_old),
    )
    np.testing.assert_allclose(found.values, new[0] - old[0])
    if old_only == new_only == 0:
        np.testing.assert_allclose(found.covariance, 0, atol=1e-15)
        return
    seen = np.cov((new - old).T)
    np.testing.assert_allclose(np.sqrt(np.diagonal(seen)), found.errors, rtol=0.06)


def test_moves_of_other_quantities_are_refused() -> None:
    with pytest.raises(InputError, match="q2"):
        moved(effects([0, 0, 0], 1), effects([0, 0], 1))


def test_what_had_no_value_and_has_none_has_not_moved() -> None:
    nothing = effects([1e-5, np.nan], [ERR, np.nan], [True, False])
    found = moved(nothing, nothing)
    assert found.values.tolist() == [0.0, 0.0] and not found.own[1]
    lost = moved(nothing, effects([1e-5, 0.0], ERR))
    limits = Limits(cut=1e-4, max=2e-3, error_max=1e-4, max_held=0.6)
    assert gate(found, limits).decision is Decision.KEEP
    assert gate(lost, limits).decision is Decision.VETO  # a value is gone


def test_a_common_value_of_correlated_quantities() -> None:
    cov = np.array([[2.0, 1.9], [1.9, 2.0]])
    value, error = common(Effects(("a", "b"), np.array([1.0, 3.0]), cov, np.ones(2, bool)))
    assert value == pytest.approx(2.0) and error == pytest.approx(np.sqrt(1.95))
    same = Effects(("a", "b"), np.array([1.0, 1.0]), np.full((2, 2), 4.0), np.ones(2, bool))
    assert common(same) == pytest.approx((1.0, 2.0))


def test_thresholds() -> None:
    assert threshold(0.0027, 1) == pytest.approx(3.0, abs=1e-3)
    assert threshold(0.0027, 10) > threshold(0.0027, 1)
