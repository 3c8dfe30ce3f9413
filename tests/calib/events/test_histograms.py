"""Sums on their way: few bytes from the workers, the same numbers in the total."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calib.errors import InputError
from calib.events import histograms


@pytest.fixture
def sums() -> histograms.Sums:
    random = np.random.default_rng(1)
    sparse = np.where(random.random((200, 100)) < 0.1, random.normal(size=(200, 100)), 0.0)
    return {
        "mass/counts": random.poisson(0.5, (200, 100)),
        "many/counts": random.poisson(70_000.0, (200, 100)),
        "signed": random.integers(-5, 5, 20_000),
        "small": np.array([3, 4]),
        "mass/sumw": sparse,
        "mean": random.random(20_000),
    }


@pytest.mark.parametrize("quick", [True, False])
def test_what_is_written_is_read(tmp_path: Path, sums: histograms.Sums, quick: bool) -> None:
    if quick:
        (tmp_path / "a.npz").write_bytes(histograms.packed(histograms.narrow(sums)))
    else:
        histograms.write(tmp_path / "a.npz", histograms.narrow(sums))
    found = histograms.read(tmp_path / "a.npz")
    assert found.keys() == sums.keys()
    assert all(np.array_equal(found[name], values) for name, values in sums.items())
    assert [found[n].dtype for n in ("mass/counts", "many/counts")] == [np.uint8, np.uint32]


def test_narrow_counts_do_not_overflow(sums: histograms.Sums) -> None:
    total = histograms.add(histograms.narrow(sums) for _ in range(300))
    assert all(np.array_equal(total[n], 300 * sums[n]) for n in ("mass/counts", "many/counts"))
    assert total["mass/counts"].dtype == np.int64
    assert total["mass/counts"].max() > 300


def test_chunks_are_added_in_their_order_however_they_come(sums: histograms.Sums) -> None:
    """Numbers of any size: their sum depends on the order in its last bits."""
    random = np.random.default_rng(7)
    files = [("b.root", 0), ("a.root", 900), ("a.root", 0), ("a.root", 100)]
    parts = {}
    for chunk in files:
        weight = random.normal(size=1000) * 10.0 ** random.integers(-8, 8, 1000)
        parts[chunk] = {**sums, "w": weight, "whole": random.integers(0, 90, 1000).astype(float)}
    parts["a.root", 0].pop("small")
    wanted = histograms.add(parts[chunk] for chunk in sorted(files))
    other = histograms.add(parts[chunk] for chunk in files)
    assert not np.array_equal(wanted["w"], other["w"])
    a, b, c, d = (histograms.ChunkSums(parts[chunk], chunk) for chunk in files)
    for total in ((a + b) + (c + d), d + (c + (b + a)), ((a + c) + b) + d):
        assert set(total) == set(wanted)
        for name, values in wanted.items():
            assert np.array_equal(total[name], values) and total[name].dtype == values.dtype, name
    assert a["w"] is parts["b.root", 0]["w"]


def test_few_filled_bins_take_few_bytes(tmp_path: Path) -> None:
    sums = {"mass/counts": np.zeros((23_000, 100), dtype=np.uint8)}
    sums["mass/counts"][::100, 7] = 3
    content = histograms.packed(sums)
    assert len(content) < 3_000
    (tmp_path / "a.npz").write_bytes(content)
    [found] = histograms.read(tmp_path / "a.npz").values()
    assert np.array_equal(found, sums["mass/counts"]) and found.dtype == np.uint8


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("@shape", np.array([1 << 40])),  # more than memory holds
        ("@shape", np.array([-3, -5])),
        ("@shape", np.array([2])),
        ("@where", np.array([1, 2], dtype=np.uint32)),
        ("@where", np.array([0.5])),
    ],
)
def test_places_that_do_not_fit_are_refused(
    tmp_path: Path, member: str, values: np.ndarray
) -> None:
    parts = {"@where": np.array([5], np.uint32), "@values": np.ones(1), "@shape": np.array([9])}
    parts[member] = values
    np.savez(tmp_path / "a.npz", **{f"x{name}": array for name, array in parts.items()})
    with pytest.raises(InputError, match="not a readable histogram file"):
        histograms.read(tmp_path / "a.npz")
