"""Counts and sums do not depend on how the events are cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.events.histograms import Fill, add
from calib.types import Array
from processors.fill import fill

EDGES = {
    "even": np.linspace(75.0, 105.0, 121),
    "tenths": np.arange(0, 31) * 0.1 + 75.0,
    "uneven": np.array([75.0, 80.0, 80.5, 93.0, 93.1, 105.0]),
    "one": np.array([75.0, 105.0]),
}


def columns(n: int, edges: Array, seed: int = 1) -> Fill:
    random = np.random.default_rng(seed)
    value = random.uniform(70, 110, n)
    value[::7] = random.choice(edges, len(value[::7]))
    value[::11] = np.nextafter(random.choice(edges, len(value[::11])), -np.inf)
    value[::97] = np.nan
    return Fill(
        random.integers(-1, 5, n),
        5,
        value,
        edges,
        random.normal(1, 2, n),
        {"k": random.uniform(0.01, 0.1, n), "p": random.normal(0, 1, n)},
    )


def part(column: Fill, start: int, stop: int) -> Fill:
    cut = slice(start, stop)
    return Fill(
        column.category[cut],
        column.n_categories,
        column.value[cut],
        column.edges,
        column.weight[cut],
        {name: m[cut] for name, m in column.means.items()},
    )


@pytest.mark.parametrize("name", EDGES)
def test_agrees_with_numpy(name: str) -> None:
    edges = EDGES[name]
    column = columns(20_000, edges)
    found = fill({"x": column})
    bins = np.searchsorted(edges, column.value, side="right") - 1
    inside = (column.value >= edges[0]) & (column.value < edges[-1]) & (column.category >= 0)
    flat = (column.category * (len(edges) - 1) + bins)[inside]
    shape, size = (5, len(edges) - 1), 5 * (len(edges) - 1)
    assert set(found) == {"x/counts", "x/sumw", "x/sumw2", "x/mean_k", "x/mean_p"}
    assert found["x/counts"].dtype == np.int64
    counts = np.bincount(flat, minlength=size).reshape(shape)
    assert np.array_equal(found["x/counts"], counts)
    w = column.weight[inside]
    for key, weight in (("x/sumw", w), ("x/sumw2", w**2)):
        expected = np.bincount(flat, weight, minlength=size).reshape(shape)
        assert np.allclose(found[key], expected, rtol=1e-12, atol=1e-10)
    for mean, values in column.means.items():
        expected = np.bincount(column.category[inside], w * values[inside], minlength=5)
        assert np.allclose(found[f"x/mean_{mean}"], expected, rtol=1e-12, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(EDGES)), st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 100)
)
def test_any_split_gives_the_same_sums(name: str, cuts: list[int], seed: int) -> None:
    column = columns(3000, EDGES[name], seed)
    whole = fill({"x": column})
    edges = [0, *sorted(cuts), 3000]
    pieces = [fill({"x": part(column, a, b)}) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    total = add(pieces)
    assert np.array_equal(total["x/counts"], whole["x/counts"])
    absolute = fill(
        {"x": Fill(column.category, 5, column.value, column.edges, np.abs(column.weight))}
    )["x/sumw"]
    assert np.all(np.abs(total["x/sumw"] - whole["x/sumw"]) <= 1e-12 * absolute)
    assert np.allclose(total["x/sumw2"], whole["x/sumw2"], rtol=1e-12, atol=0)


def test_a_million_equal_weights() -> None:
    n = 1_000_000
    zeros = np.zeros(n)
    column = Fill(zeros.astype(int), 1, zeros, np.array([0.0, 1.0]), np.full(n, 0.1))
    assert fill({"x": column})["x/sumw"][0, 0] == pytest.approx(1e5, rel=1e-15)


def test_arrays_pass_unchanged() -> None:
    ready = np.arange(3.0)
    assert fill({"ready": ready})["ready"] is ready


def test_empty_chunk() -> None:
    column = part(columns(10, EDGES["even"]), 0, 0)
    assert fill({"x": column})["x/counts"].sum() == 0


def test_impossible_columns_are_refused() -> None:
    good = columns(10, EDGES["even"])
    with pytest.raises(ValueError, match="category"):
        fill({"x": Fill(np.full(10, 5), 5, good.value, good.edges, good.weight)})
    with pytest.raises(ValueError, match="lengths"):
        fill({"x": Fill(good.category, 5, good.value[:9], good.edges, good.weight)})
    with pytest.raises(ValueError, match="ascend"):
        fill({"x": Fill(good.category, 5, good.value, good.edges[::-1], good.weight)})
