import numpy as np

from calib.events.random import half, keys, normal_pair, uniform


def test_numbers_belong_to_the_event_not_to_its_place():
    run, lumi, event = (np.arange(1000) % n for n in (7, 31, 1000))
    all_at_once = keys(5, run, lumi, event)
    order = np.random.default_rng(0).permutation(1000)
    shuffled = keys(5, run[order], lumi[order], event[order])
    np.testing.assert_array_equal(all_at_once[order], shuffled)
    assert len(np.unique(all_at_once)) == 1000
    assert not np.any(all_at_once == keys(6, run, lumi, event))


def test_halves_are_halves_whatever_neighbours_share():
    event = np.arange(200_000)
    part = half(np.full_like(event, 315252), event // 500, event)
    assert abs(part.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(event))
    agree = np.mean(part[1:] == part[:-1])
    assert abs(agree - 0.5) < 4 * 0.5 / np.sqrt(len(event))


def test_uniform_and_normal_moments():
    key = keys(1, *(np.arange(50_000),) * 3)
    u = np.array([uniform(k, 3) for k in key])
    z = np.array([normal_pair(k, 4) for k in key]).ravel()
    assert 0 < u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * len(u))
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * len(z))
