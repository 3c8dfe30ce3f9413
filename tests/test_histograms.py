"""Sums on their way: few bytes from the workers, the same numbers in the total."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calib import histograms


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
    histograms.write(tmp_path / "a.npz", histograms.narrow(sums), quick=quick)
    found = histograms.read(tmp_path / "a.npz")
    assert found.keys() == sums.keys()
    assert all(np.array_equal(found[name], values) for name, values in sums.items())
    assert [found[n].dtype for n in ("mass/counts", "many/counts")] == [np.uint8, np.uint32]


def test_narrow_counts_do_not_overflow(sums: histograms.Sums) -> None:
    total = histograms.add(histograms.narrow(sums) for _ in range(300))
    assert all(np.array_equal(total[n], 300 * sums[n]) for n in ("mass/counts", "many/counts"))
    assert total["mass/counts"].dtype == np.int64
    assert total["mass/counts"].max() > 300
