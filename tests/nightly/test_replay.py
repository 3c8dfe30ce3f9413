"""Nights that are replayed: a shift at a known run, and many nights without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calib.quality.publication_gate import Candidate, Decision, Effects, Limits, gate, moved
from calib.quality.residual_test import Residual, Tolerance, measured, residual, with_force
from jobs.nightly.night import nightly
from jobs.nightly.settings import load
from jobs.store.store import Store

from .toys import FIRST, write_config, write_run

NIGHTS, AT, SHIFT = 10, 6, 2.5e-3


def test_ten_nights_of_events_with_a_shift_of_the_scale(tmp_path: Path) -> None:
    """The momentum scale of J/psi; A is off by 2.5e-3 from the seventh night on."""
    config = write_config(tmp_path)
    before = b""
    for i in range(NIGHTS):
        write_run(tmp_path / "incoming", FIRST + i, 8000, SHIFT if i >= AT else 0.0)
        night = nightly(load(config), "calib nightly")
        assert night.exit_code == 0, night.calibrations[0].why
        store = Store.open(tmp_path / "store")
        published = [r for r in store.revisions() if r.action == "publish"]
        # seen in the night it comes, and never before or after
        assert [r.since for r in published] == [FIRST] + [FIRST + AT] * (i >= AT)
        before = before or store.payload(published[0])
    intervals = [(i.validity.since, i.validity.until) for i in store.intervals("momentum_scale")]
    assert intervals == [(FIRST, FIRST + AT - 1), (FIRST + AT, FIRST + NIGHTS - 1)]
    assert store.payload(store.at(FIRST + AT - 1)) == before  # what was before is untouched
    values = [store.document(store.at(FIRST + i))["corrections"] for i in (0, AT)]
    a = [_parameter(v, "A") - 0.0 for v in values]
    e = [_parameter(v, "e") for v in values]
    step = (a[1] - a[0]) - (e[1] - e[0]) * 0.1  # of muons of 10 GeV
    assert step == pytest.approx(SHIFT, abs=1e-3)


def _parameter(corrections: list[dict[str, object]], name: str) -> float:
    table = next(c for c in corrections if c["name"] == "momentum_scale_parameters")
    content = table["data"]["content"]  # type: ignore[index]
    binned = next(c["value"] for c in content if c["key"] == name)
    return float(binned["content"][0])


def test_no_unjustified_publication_in_two_hundred_nights() -> None:
    """200 nights without a shift, 20 times over, with the decisions of the nightly.

    Sums are drawn from the model: each bin of eta and charge has its statistical error of a
    night, the cheap test sees a quarter of the events that the calibration would see.
    """
    random = np.random.default_rng(8)
    tolerance, limits = Tolerance(5e-5), Limits(cut=5e-5, max=0.01, error_max=1e-3)
    alarms = published = tested = 0
    for _ in range(20):
        found = _history(random, 200, tolerance, limits)
        alarms, published = alarms + found[0], published + found[1]
        tested += 200
    # the stated rate of alarms is 1e-4 a night: 0.4 are expected of these 4000, none to publish
    assert tested == 4000
    assert alarms <= 4
    assert published <= 2


def test_a_shift_in_those_nights_is_seen_and_published() -> None:
    random = np.random.default_rng(9)
    tolerance, limits = Tolerance(5e-5), Limits(cut=5e-5, max=0.01, error_max=1e-3)
    seen = [_history(random, 1, tolerance, limits, shift=8e-4) for _ in range(100)]
    assert sum(s[0] for s in seen) >= 98 and sum(s[1] for s in seen) >= 98


def _history(
    random: np.random.Generator,
    nights: int,
    tolerance: Tolerance,
    limits: Limits,
    shift: float = 0.0,
) -> tuple[int, int]:
    """Return the number of alarms, and of publications."""
    n = 48
    names = tuple(f"bin {i}" for i in range(n))
    error = random.uniform(1e-4, 3e-4, n)  # of a night's events
    own = np.ones(n, bool)
    force = Effects(names, random.normal(0, error / 2), np.diag(error**2 / 4), own)
    alarms = published = 0
    for _ in range(nights):
        quarter, rest = random.normal(shift, 2 * error), random.normal(shift, error / np.sqrt(0.75))
        left = Effects(names, quarter - force.values, np.diag(4 * error**2), own)
        found = residual([measured(left, with_force(left, force))], tolerance)
        if found.outcome is not Residual.OUTSIDE:
            continue
        alarms += 1
        new = Effects(names, 0.25 * quarter + 0.75 * rest, np.diag(error**2), own)
        decided = gate(moved(new, force), limits, Candidate())
        published += decided.decision is Decision.PUBLISH
    return alarms, published
