"""Widths in categories and the line through them: bins of eta and phi, and what stands in."""

from __future__ import annotations

import numpy as np

from calib.events.eta_phi import eta_phi, neighbours, stand_ins
from calib.fitting.residual_widths import Fitting, Histograms, Residuals, roots, widths
from calib.results import Status
from processors.fill import fill

EDGES = 20 * np.sinh(np.linspace(-6, 6, 121))
POINTS = np.geomspace(1.0, 20.0, 7)


def test_places() -> None:
    one, two = (
        eta_phi((-2.0, 0.0, 1.0, 2.0), (-3.2, 3.2)),
        eta_phi((-1.0, 0.0, 1.0), (-3.2, 0.0, 3.2)),
    )
    assert one.names == ("e0", "e1", "e2") and two.names == ("e0_f0", "e0_f1", "e1_f0", "e1_f1")
    assert neighbours(one) == [[1, 2], [0, 2], [0, 1]] and neighbours(two)[1] == [3]
    assert stand_ins(one, 0) == {}  # not symmetric
    assert stand_ins(two, 2) == {"e1": [2, 3], "e0e1": [2, 3, 0, 1]}


def histograms(n: int, a: float, b: float, seed: int) -> Histograms:
    """Return one place: 6 wide categories, 5 % of tails."""
    random = np.random.default_rng(seed)
    p = POINTS[0] * (POINTS[-1] / POINTS[0]) ** random.random(n)
    sigma = np.hypot(a, b / p) * np.where(random.random(n) < 0.05, 4.0, 1.0)
    random.integers(0, 2, n)
    at = np.searchsorted(POINTS, p, side="right") - 1
    value, one, nowhere = sigma * random.normal(size=n), np.ones(n), np.zeros(n, dtype=np.int64)
    entries = Residuals(value, 3 * one, p**-2.0, nowhere, at, one, one, one)
    return Histograms.of(fill({"x": entries.fill(1, Fitting(EDGES, 6, 200, 1e-6))}), "x")


def test_a_and_b_of_wide_categories() -> None:
    """1/p_tilde^2 changes by a factor of 2.7 within a category: the core is no Gaussian."""
    how, names = Fitting(EDGES, 6, 200, 1e-6), [f"p{i}" for i in range(6)]
    pulls, differences, without = [], [], []
    for seed in range(12):
        found = histograms(60_000, 12.0, 60.0, seed)
        first = widths(found, names, how)
        final = widths(found, names, how, first.start)
        assert set(final.table["status"]) == {"ok"}
        assert np.allclose(final.table["predicted"], 3.0)
        values, covariance = roots(final.lines[0])
        differences.append(values - (12.0, 60.0))
        without.append(roots(first.lines[0])[0] - (12.0, 60.0))
        pulls.append(differences[-1] / np.sqrt(np.diagonal(covariance)))
    assert np.all(np.abs(np.mean(differences, axis=0)) < (0.1, 0.5))
    assert 0.5 < np.std(pulls) < 1.5
    # and a Gaussian alone is narrower
    assert np.mean(without, axis=0)[1] < np.mean(differences, axis=0)[1] - 0.3


def test_edits_gates_and_few_events() -> None:
    names = [f"p{i}" for i in range(6)]
    found = histograms(6_000, 12.0, 60.0, 1)
    how = Fitting(EDGES, 6, 200, 1e-6)
    edits = {"p2": {"use": False}, "p3": {"reach": 60.0}}
    table = widths(found, names, how, edits=edits).table.set_index("category")
    assert table.loc["p2", "status"] == "left_out" and "by hand" in table.loc["p2", "reason"]
    plain = widths(found, names, how).table.set_index("category")
    assert table.loc["p3", "sigma"] != plain.loc["p3", "sigma"]
    assert table.loc["p1", "sigma"] == plain.loc["p1", "sigma"]
    few = widths(found, names, Fitting(EDGES, 6, 1e6, 1e-6))
    assert set(few.table["status"]) == {"too_few_events"} and "needed" in few.table["reason"][0]
    one = few.estimates().candidates(["e0"], ["a", "b"], 0)[0]
    assert one.fit is Status.NOT_DETERMINED and np.isnan(one.value) and one.name == "e0, a"
    assert one.n_events == found.counts.sum()
    merged = found.merged([[0, 1], [2, 3, 4, 5]])
    assert merged.counts.sum() == found.counts.sum() and len(merged.means) == 2


def test_entries_outside_are_in_no_category() -> None:
    one = np.ones(4)
    place, point = np.array([0, 1, -1, 1]), np.array([2, 0, 1, -1])
    made = Residuals(one, one, one, place, point, one, one, one)
    how = Fitting(EDGES, 3, 1, 0.0)
    assert made.fill(2, how).category.tolist() == [2, 3, -1, -1]
    assert made.joined(made).fill(2, how).category.tolist() == 2 * [2, 3, -1, -1]
