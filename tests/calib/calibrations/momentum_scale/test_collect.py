"""Sums of the event loop: every pair in its category, the reference as the data."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from calib.calibrations.momentum_scale.closing import axes
from calib.calibrations.momentum_scale.settings import JpsiSettings, Settings, ZSettings
from calib.calibrations.momentum_scale.sums import collect
from calib.calibrations.momentum_scale.sums.grid import grid
from calib.calibrations.momentum_scale.sums.inner_loops import PairKinematics, place, smeared
from calib.events.histograms import add
from calib.physics.constants import RESONANCES
from calib.physics.kinematics import mass
from calib.toys.generation import generate

SETTINGS = Settings(eta=tuple(np.linspace(-2.4, 2.4, 13)), copies=2)
NOTHING = np.zeros((0, 3, 12))


@pytest.fixture(scope="module")
def data():
    return generate("jpsi", 20_000, seed=11).pairs


@pytest.fixture(scope="module")
def simulated():
    return generate("jpsi", 20_000, seed=12, simulation=True).pairs


@pytest.mark.parametrize("resonance", ["jpsi", "upsilon", "z"])
def test_no_pair_lies_in_a_category_that_was_left_out(resonance):
    pairs = generate(resonance, 30_000, seed=13).pairs
    g = grid(SETTINGS, resonance)
    placed = place(collect.kinematics(pairs), g, NOTHING)
    own = SETTINGS.of(resonance)
    plus, minus = pairs.plus, pairs.minus
    full = g.full.index(
        plus.eta, minus.eta, np.log(plus.pt / minus.pt), np.cos(plus.phi - minus.phi)
    )
    inside = (
        (full >= 0)
        & (np.maximum(plus.pt, minus.pt) >= own.leading_pt)
        & (np.minimum(plus.pt, minus.pt) >= own.subleading_pt)
        & (pairs.mass >= own.window[0])
        & (pairs.mass < own.window[1])
    )
    assert inside.sum() > 5000
    assert np.all(placed.category[inside] >= 0)
    assert np.array_equal(g.kept[placed.category[inside]], full[inside])
    np.testing.assert_allclose(placed.mass[inside], pairs.mass[inside], rtol=1e-12)


def test_corrections_are_applied_one_after_the_other(data):
    g, muons = grid(SETTINGS, "jpsi"), collect.kinematics(data)
    random = np.random.default_rng(1)
    steps = random.normal(size=(2, 3, 12)) * np.array([1e-3, 3e-3, 3e-5])[:, None]
    placed = place(muons, g, steps)
    at = np.searchsorted(g.full.axes[0].edges, muons.eta_plus, side="right") - 1
    k = 1 / muons.pt_plus
    for A, e, M in steps:
        k = (1 + A[at] - e[at] * k) * k + M[at]
    np.testing.assert_allclose(placed.pt_plus, 1 / k, rtol=1e-13)
    k = 1 / muons.pt_minus
    at = np.searchsorted(g.full.axes[0].edges, muons.eta_minus, side="right") - 1
    for A, e, M in steps:
        k = (1 + A[at] - e[at] * k) * k - M[at]
    np.testing.assert_allclose(placed.pt_minus, 1 / k, rtol=1e-13)
    good = placed.category >= 0
    expected = mass(
        placed.pt_plus,
        muons.eta_plus,
        muons.phi_plus,
        placed.pt_minus,
        muons.eta_minus,
        muons.phi_minus,
    )
    np.testing.assert_allclose(placed.mass[good], expected[good], rtol=1e-12)


def test_sums_do_not_depend_on_how_events_are_cut(data, simulated):
    g = grid(SETTINGS, "jpsi")
    a2, c2 = np.full(12, 1.4e-4), np.full(12, 2e-8)

    def sums(pairs, made):
        copies = collect.simulated_copies(made, g, a2, c2, "mc", 1, 2)
        embedded = collect.embedded_copies(pairs, g, a2, c2, NOTHING, SETTINGS, 1)
        return {
            **collect.observed(pairs, g, NOTHING),
            **collect.reference(copies, g, "reference", True),
            **collect.reference(embedded, g, "embedded", True),
        }

    whole = sums(data, simulated)
    cuts = [0, 137, 8000, 20_000]
    parts = [
        sums(data.take(np.arange(a, b)), simulated.take(np.arange(a, b)))
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    total = add(reversed(parts))
    assert total.keys() == whole.keys()
    for name, values in whole.items():
        if values.dtype.kind == "i":
            assert np.array_equal(values, total[name]), name
        else:
            np.testing.assert_allclose(values, total[name], rtol=1e-12, err_msg=name)


def test_weights_are_kept_with_their_squares(data):
    g = grid(SETTINGS, "jpsi")
    plain = collect.observed(data, g, NOTHING)
    weighted = collect.observed(replace(data, weight=np.full(len(data), -0.5)), g, NOTHING)
    assert "mass/counts" not in weighted
    np.testing.assert_allclose(weighted["mass/sumw"], -0.5 * plain["mass/counts"])
    np.testing.assert_allclose(weighted["mass/sumw2"], 0.25 * plain["mass/counts"])


def test_reference_has_the_width_that_was_asked_for(simulated):
    g = grid(SETTINGS, "jpsi")
    muons, _, pairs = collect.generated_of(simulated, "mc")
    key = collect.keys(1, pairs.run, pairs.luminosityBlock, pairs.event)
    a2, c2 = np.full(12, 0.02**2), np.full(12, 1e-3**2)
    made = smeared(muons, g, a2, c2, key, collect.COUNTER)
    pull = (muons.pt_plus / made.pt_plus - 1) / np.sqrt(0.02**2 + (1e-3 * muons.pt_plus) ** 2)
    assert abs(pull.mean()) < 4 / np.sqrt(len(pull))
    assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(pull)))
    other = (muons.pt_minus / made.pt_minus - 1) / np.sqrt(0.02**2 + (1e-3 * muons.pt_minus) ** 2)
    assert abs(np.corrcoef(pull, other)[0, 1]) < 4 / np.sqrt(len(pull))


def test_template_holds_what_is_smeared_out_of_the_window(simulated):
    g = grid(SETTINGS, "jpsi")
    a2, c2 = np.full(12, 0.05**2), np.zeros(12)
    copies = collect.simulated_copies(simulated, g, a2, c2, "mc", 1, 1)
    sums = collect.reference(copies, g, "reference", True)
    assert sums["reference/template/counts"].sum() > 1.05 * sums["reference/mass/counts"].sum()
    mean = sums["reference/gen_mass"] / np.maximum(sums["reference/gen_weight"], 1)
    filled = sums["reference/gen_weight"] > 0
    assert np.all((mean >= g.gen_edges[:-1])[filled] & (mean <= g.gen_edges[1:])[filled])


def test_gen_bins_are_fine_at_the_peak():
    for resonance in ("jpsi", "upsilon"):
        g = grid(SETTINGS, resonance)
        for m in RESONANCES[resonance].masses:
            at = np.searchsorted(g.gen_edges, m) - 1
            assert np.diff(g.gen_edges)[at] < 1e-3 * m
        assert g.gen_edges[0] < 0.9 * g.mass_edges[0]


def test_upsilon_is_embedded_with_three_peaks():
    line = collect.line_of("upsilon", (0.6, 0.3, 0.1))
    masses, counts = np.unique(line.quantiles, return_counts=True)
    assert masses.tolist() == sorted(RESONANCES["upsilon"].masses)
    np.testing.assert_allclose(counts / counts.sum(), [0.6, 0.3, 0.1], atol=1e-4)


def test_axes_count_every_pair_once_per_variable(data):
    g = grid(SETTINGS, "jpsi")
    sums = axes.observed(data, g, NOTHING, SETTINGS)
    rows = axes.rows(SETTINGS, "jpsi")
    counts = sums["axes/before/counts"].sum(1)
    assert len(rows) == len(counts)
    used = collect.observed(data, g, NOTHING)["used"][0]
    for variable in ("eta", "phi", "pt"):
        for charge in axes.CHARGES:
            own = [(r.variable, r.charge) == (variable, charge) for r in rows]
            assert counts[own].sum() == used


def test_simulation_without_generated_muons_is_refused(data):
    bare = replace(data, gen_mass=None)
    with pytest.raises(collect.InputError, match="sample mc: simulation without generated muons"):
        collect.generated_of(bare, "mc")


def test_angles_that_leave_a_hole_are_refused():
    with pytest.raises(ValidationError, match="leaves a hole"):
        JpsiSettings(cos_delta_phi=(0.5, 0.9, 1.01))
    with pytest.raises(ValidationError, match="not ascending"):
        ZSettings(log_pt_ratio=(0.0, -1.0))


def test_kinematics_follow_the_charge(data):
    muons = collect.kinematics(data)
    assert isinstance(muons, PairKinematics)
    first = data.leading.charge > 0
    assert np.array_equal(muons.pt_plus, np.where(first, data.leading.pt, data.subleading.pt))


def test_sums_along_axes_do_not_depend_on_how_events_are_cut(data, simulated):
    g = grid(SETTINGS, "jpsi")
    a2, c2 = np.full(12, 1.4e-4), np.full(12, 2e-8)

    def sums(pairs, made):
        copies = collect.simulated_copies(made, g, a2, c2, "mc", 1, 3)
        return {
            **axes.observed(pairs, g, NOTHING, SETTINGS),
            **axes.reference(copies, g, SETTINGS, "r", True),
        }

    whole = sums(data, simulated)
    cuts = [0, 5000, 5001, 20_000]
    parts = [
        sums(data.take(np.arange(a, b)), simulated.take(np.arange(a, b)))
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    total = add(reversed(parts))
    for name, values in whole.items():
        np.testing.assert_allclose(values, total[name], rtol=1e-12, err_msg=name)
    n = len(axes.rows(SETTINGS, "jpsi"))
    halves = whole["axes/half/counts"]
    np.testing.assert_array_equal(halves[:n] + halves[n:], whole["axes/after/counts"])
    # three copies of a source that all arrive share 3 x 3 - 3 of their 3 entries
    shared, entries = whole["r/shared"].sum(), whole["r/template/counts"].sum()
    assert 1.6 * entries < shared <= 2.0 * entries


def test_copies_made_anew_share_nothing(data):
    g = grid(SETTINGS, "jpsi")
    a2, c2 = np.full(12, 1.4e-4), np.full(12, 2e-8)
    copies = collect.embedded_copies(data, g, a2, c2, NOTHING, SETTINGS, 1)
    assert not axes.reference(copies, g, SETTINGS, "r", True)["r/shared"].any()


def test_moves_are_what_other_constants_do_to_the_mass(data):
    g, n = grid(SETTINGS, "jpsi"), len(axes.rows(SETTINGS, "jpsi"))
    found = axes.observed(data, g, NOTHING, SETTINGS)
    random = np.random.default_rng(3)
    constants = random.normal(size=(3, 12)) * np.array([1e-5, 1e-5, 1e-7])[:, None]
    muons = collect.kinematics(data)
    before, after = (place(muons, g, steps) for steps in (NOTHING, constants[None]))
    edges = np.asarray(SETTINGS.eta)
    low, high = g.mass_edges[[0, -1]]
    inside = (before.category >= 0) & (before.mass >= low) & (before.mass < high)
    moves = found["axes/moves"][:n] + found["axes/moves"][n:]
    for i in (0, 5, 11):  # bins of eta of the positive muon are the first rows
        at = inside & (muons.eta_plus >= edges[i]) & (muons.eta_plus < edges[i + 1])
        expected = np.log(after.mass[at] / before.mass[at]).sum()
        # the muons' own mass, 4 m_mu^2 / m^2 = 0.5 % of the square, does not move with their pt
        assert -(moves[i] * constants).sum() == pytest.approx(expected, rel=1e-2)
