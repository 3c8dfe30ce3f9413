"""Sums do not depend on how the events are cut up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import copies_for
from calib.events.histograms import add
from calib.results import Pass
from processors.fill import fill

from .conftest import DATA, Run


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=4))
def test_any_split_gives_the_same_sums(small: Run, cuts):
    pairs = small.pairs["data"].take(np.arange(4000))
    whole = fill(small.calibration.collect(pairs, DATA, Pass()))
    edges = [0, *sorted(cuts), 4000]
    parts = add(
        fill(small.calibration.collect(pairs.take(np.arange(a, b)), DATA, Pass()))
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    )
    assert parts.keys() == whole.keys()
    for name, values in whole.items():
        if "mean_" in name or "varied_" in name:
            np.testing.assert_allclose(parts[name], values, rtol=1e-12, err_msg=name)
        else:  # counts, and templates of events of weight 1
            np.testing.assert_array_equal(parts[name], values, err_msg=name)


def test_templates_scale_with_the_weight(small: Run):
    from dataclasses import replace

    pairs = small.pairs["data"].take(np.arange(2000))
    heavy = replace(pairs, weight=np.full(2000, -2.0))
    one = fill(small.calibration.collect(pairs, DATA, Pass()))
    two = fill(small.calibration.collect(heavy, DATA, Pass()))
    np.testing.assert_array_equal(two["embedded/template"], -2 * one["embedded/template"])
    np.testing.assert_array_equal(two["embedded/muons"], -2 * one["embedded/muons"])
    np.testing.assert_array_equal(two["embedded/pairs"], 4 * one["embedded/pairs"])
    np.testing.assert_allclose(two["embedded/varied_fsr"], -2 * one["embedded/varied_fsr"])
    np.testing.assert_array_equal(two["mass/counts"], one["mass/counts"])
    np.testing.assert_array_equal(two["mass/sumw"], -2 * one["mass/sumw"])


def test_simulation_with_the_generated_mass_alone_gives_its_own_mass_at_factor_one(small: Run):
    from dataclasses import replace

    from calib.calibrations.mass_resolution.sums.collect import simulated_muons

    pairs = small.pairs["data"]
    bare = replace(
        pairs,
        leading=replace(pairs.leading, gen_pt=None, gen_eta=None, gen_phi=None),
        subleading=replace(pairs.subleading, gen_pt=None, gen_eta=None, gen_phi=None),
    )
    source, made, base = simulated_muons(bare, small.calibration.settings)
    smeared = base / np.sqrt((1 + made.relative_first) * (1 + made.relative_second))
    np.testing.assert_allclose(smeared, source.mass, rtol=1e-6)  # the muon mass
    np.testing.assert_allclose(base, source.gen_mass, rtol=1e-5)


def test_number_of_copies_follows_the_size_in_large_steps(small: Run):
    calibration = Calibration(Settings(), [DATA], seed=1)
    copies = {n: copies_for(n) for n in (0, 1_250_000, 1_250_001, 10_000_000, 100_000_000)}
    assert list(copies.values()) == [8, 8, 4, 1, 0.0625]
    walk = calibration.sized(Pass(), {"data": 40_000_000})
    assert walk.values["copies"] == 0.25
    asked = Calibration(Settings(copies=3), [DATA], seed=1)
    assert asked.sized(Pass(), {"data": 40_000_000}) == Pass()


def test_a_share_of_the_events_is_embedded(small: Run):
    pairs = small.pairs["data"].take(np.arange(40_000))
    calibration = Calibration(Settings(compare=()), [DATA], seed=1)
    made = [
        fill(calibration.collect(pairs, DATA, Pass(values={"copies": np.asarray(copies)})))
        for copies in (1.0, 0.25)
    ]
    one, quarter = (sums["embedded/template"].sum((0, 3))[3, 3] for sums in made)
    assert abs(quarter / one - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000)
    cut = [pairs.take(np.arange(a, b)) for a, b in ((0, 777), (777, 40_000))]
    walk = Pass(values={"copies": np.asarray(0.25)})
    parts = add(fill(calibration.collect(part, DATA, walk)) for part in cut)
    np.testing.assert_array_equal(parts["embedded/template"], made[1]["embedded/template"])


@pytest.mark.parametrize("copies", [0, 1.5, -1, 2000])
def test_impossible_copies_are_refused(copies: float):
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        Settings(copies=copies)
