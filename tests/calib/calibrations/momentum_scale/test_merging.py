"""Categories with few events: joined along the ratio, then the angle, never across eta."""

import numpy as np
import pytest

from calib.calibrations.momentum_scale.constants.merging import groups, joined
from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.grid import grid


@pytest.fixture(scope="module")
def small():
    return grid(Settings(eta=(-2.4, -1.0, 0.0, 1.0, 2.4)), "jpsi")


def test_full_categories_stay_alone(small):
    events = np.full(len(small), 500.0)
    assert np.array_equal(groups(events, small, 400), np.arange(len(small)))


def test_groups_are_large_enough_and_stay_within_their_eta_bins(small):
    events = np.random.default_rng(5).exponential(300, len(small))
    group = groups(events, small, 400)
    total = joined(events, group, group.max() + 1)
    assert total.sum() == pytest.approx(events.sum())
    plus, minus, _, _ = small.bins()
    block = plus * 4 + minus
    for g in range(group.max() + 1):
        assert len(set(block[group == g])) == 1
        # below the minimum only where all of the two eta bins is
        if total[g] < 400:
            assert total[g] == pytest.approx(events[block == block[group == g][0]].sum())


def test_ratio_is_joined_before_the_angle(small):
    plus, minus, ratio, angle = small.bins()
    at = np.flatnonzero((plus == 1) & (minus == 1))
    events = np.full(len(small), 1000.0)
    weak = at[(angle[at] == 3) & (ratio[at] == 2)]
    events[weak] = 10.0
    group = groups(events, small, 400)
    partner = np.setdiff1d(np.flatnonzero(group == group[weak[0]]), weak)
    assert len(partner) == 1
    assert angle[partner[0]] == 3
    assert abs(ratio[partner[0]] - 2) == 1


def test_a_weak_angle_joins_its_neighbour_bin_by_bin(small):
    plus, minus, ratio, angle = small.bins()
    at = np.flatnonzero((plus == 1) & (minus == 1))
    events = np.full(len(small), 1000.0)
    weak = at[angle[at] == 3]
    events[weak] = 20.0
    group = groups(events, small, 400)
    for i in weak:
        partner = np.setdiff1d(np.flatnonzero(group == group[i]), weak)
        assert angle[partner].tolist() == [2]
        assert ratio[partner].tolist() == [ratio[i]]


def test_joined_adds_rows():
    values = np.arange(8.0).reshape(4, 2)
    assert joined(values, np.array([0, 1, 0, 1]), 2).tolist() == [[4.0, 6.0], [8.0, 10.0]]
