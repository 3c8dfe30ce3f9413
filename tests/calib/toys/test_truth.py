"""The momentum scale and resolution that are put in are those of the events."""

from dataclasses import replace

import numpy as np
import pytest

from calib.errors import InputError
from calib.physics.constants import RESONANCES
from calib.toys.generation import KEPT, Truth, biased, generate, momentum_truth

# fmt: off
BEFORE = {
    ("z", False): (89293.3021056, 738.647795745, -67.7400383226, 175620.174613, 0.685447023139),
    ("z", True): (88317.6778226, 732.953435799, 12.3800078189, 180721.873458, 2.13993156997),
    ("jpsi", False): (23031.7985594, 111.027038277, 86.1292075605, 6058.52459843, -2.77079935626),
    ("jpsi", True): (22648.9853068, 110.089054069, -64.0621685392, 6183.23580676, -1.04376202682),
    ("upsilon", False): (23756.5882453, 111.028179138, 47.7153906097, 18998.032851, 1.27579107412),
    ("upsilon", True): (23141.6307997, 110.746825902, 11.0489391986, 19385.6364751, 2.39733367643),
    ("h", False): (118802.900342, 1138.85682366, 0.82962095665, 242789.608248, 1.20193395741),
    ("h", True): (117302.249855, 1118.3946231, -112.220847564, 249202.803584, -0.214388928821),
}
# fmt: on
"""Sums over 2000 pairs of seed 3, before there was a momentum scale: pt of the leading muon, ptErr
of the other, charge times eta, generated mass; and the last phi of the other."""


@pytest.mark.parametrize("resonance, simulation", BEFORE)
def test_events_without_a_momentum_scale_are_those_they_always_were(resonance, simulation):
    pairs = generate(resonance, 2000, seed=3, simulation=simulation).pairs
    a, b = pairs.leading, pairs.subleading
    found = (a.pt.sum(), b.pt_err.sum(), a.charge @ a.eta, np.nansum(pairs.gen_mass), b.phi[-1])
    # the last digits depend on the processor
    np.testing.assert_allclose(found, BEFORE[resonance, simulation], rtol=1e-9)


@pytest.mark.parametrize("q", [-1, 1])
def test_biased_solves_the_equation(q):
    random = np.random.default_rng(1)
    k = 1 / random.uniform(2, 300, 10_000)
    A, e, M = (size * random.normal(size=len(k)) for size in (2e-3, 5e-3, 3e-5))
    e[:100] = 0.0
    found = biased(k, q, A, e, M)
    np.testing.assert_allclose((1 + A - e * found) * found + q * M, k, rtol=1e-14)
    assert np.all(np.abs(found / k - 1) < 0.1)


@pytest.fixture(scope="module")
def jpsi():
    return generate("jpsi", 120_000, seed=4, truth=momentum_truth())


def muons_of(pairs, truth):
    """Return corrected and generated k, eta bin and resolution of all muons."""
    columns = []
    for m in (pairs.leading, pairs.subleading):
        at = np.digitize(m.eta, truth.eta_edges) - 1
        A, e, M, a, c = (np.array(getattr(truth, n))[at] for n in ("A", "e", "M", "a", "c"))
        k = 1 / m.pt
        width = np.sqrt(a**2 + (c * m.gen_pt) ** 2)
        columns.append(((1 + A - e * k) * k + m.charge * M, 1 / m.gen_pt, at, width))
    return [np.concatenate(x) for x in zip(*columns, strict=True)]


def test_the_correction_takes_back_what_was_put_in_muon_by_muon(jpsi):
    """The same events without a scale: their k is what the smearing alone made of them."""
    truth = momentum_truth()
    nothing = replace(truth, **dict.fromkeys(("A", "e", "M"), (0.0,) * 48))
    smeared = generate("jpsi", 120_000, seed=4, truth=nothing).pairs
    corrected, k_gen, *_ = muons_of(jpsi.pairs, truth)
    measured, *_ = muons_of(jpsi.pairs, nothing)
    alone, other, *_ = muons_of(smeared, nothing)
    _, here, there = np.intersect1d(k_gen, other, return_indices=True)
    assert len(here) > 30_000
    np.testing.assert_allclose(corrected[here], alone[there], rtol=1e-13)
    moved = measured[here] / alone[there] - 1
    assert 1e-4 < np.abs(moved).mean() < 3e-3


@pytest.mark.parametrize("resonance, simulation", [("jpsi", False), ("jpsi", True), ("z", False)])
def test_residuals_have_the_resolution_of_their_eta_bin(resonance, simulation, jpsi):
    truth = momentum_truth(simulation=simulation, resonance=resonance)
    pairs = jpsi.pairs
    if simulation or resonance != "jpsi":
        pairs = generate(resonance, 120_000, seed=5, truth=truth, simulation=simulation).pairs
    # what the cuts of the toys let through whatever the smearing
    least, low, high = {"jpsi": (3.6, 2.9, 3.3), "z": (25.0, 78.0, 105.0)}[resonance]
    pairs = pairs.take(
        (pairs.leading.gen_pt > least)
        & (pairs.subleading.gen_pt > least)
        & (pairs.gen_mass > low)
        & (pairs.gen_mass < high)
    )
    corrected, k_gen, at, width = muons_of(pairs, truth)
    pull = (corrected / k_gen - 1) / width
    n = np.bincount(at, minlength=48)
    assert len(n) == 48 and n.min() > 500
    mean = np.bincount(at, pull) / n
    spread = np.sqrt(np.bincount(at, pull**2) / n)
    assert np.all(np.abs(mean) < 5 / np.sqrt(n))
    assert np.all(np.abs(spread - 1) < 5 / np.sqrt(2 * n))
    np.testing.assert_allclose(
        np.mean(pairs.leading.pt_err / pairs.leading.pt) * 1.1,
        np.mean(width[: len(pairs)]),
        rtol=1e-12,
    )


def test_a_real_detector_in_size_and_the_simulation_another_one():
    data, simulation = momentum_truth(), momentum_truth(simulation=True)
    assert np.ptp(data.A) > 1e-3 and np.abs(data.A).max() < 3e-3
    assert 1e-3 < np.min(data.e) and np.max(data.e) < 1e-2
    assert np.min(data.M) < -1e-5 and np.max(data.M) > 1e-5 and np.abs(data.M).max() < 4e-5
    assert 0.007 <= np.min(data.a) < 0.008 and 0.015 < np.max(data.a) <= 0.02
    assert 1e-4 <= np.min(data.c) and np.max(data.c) <= 2.5e-4
    better = np.array(simulation.a) / data.a
    assert np.all((better > 0.9 - 1e-12) & (better < 0.95 + 1e-12))
    for name in "AeM":
        assert np.corrcoef(getattr(data, name), getattr(simulation, name))[0, 1] < 0.95
    for other in ("upsilon", "z"):
        same = momentum_truth(resonance=other)
        assert [getattr(same, n) for n in "AeMac"] == [getattr(data, n) for n in "AeMac"]
    assert len(momentum_truth(24).A) == 24 and len(momentum_truth(24).eta_edges) == 25


@pytest.mark.parametrize("resonance", ["jpsi", "upsilon", "z"])
def test_background_in_the_window_and_masses_beyond_it(resonance):
    truth = momentum_truth(resonance=resonance)
    made = generate(resonance, 60_000, seed=6, truth=truth)
    low, high = RESONANCES[resonance].window
    inside = (made.pairs.mass >= low) & (made.pairs.mass < high)
    assert made.background[inside].mean() == pytest.approx(truth.background, rel=0.2)
    masses = made.pairs.mass[made.background]
    assert masses.min() < KEPT[resonance][0] * 1.01 and masses.max() > KEPT[resonance][1] * 0.98
    # falls as it should: the mean of an exponential over the same range
    m = np.linspace(*KEPT[resonance], 10_001)
    weight = np.exp(-truth.slope * m)
    assert masses.mean() == pytest.approx(np.average(m, weights=weight), rel=0.02)


def test_refusals():
    with pytest.raises(InputError, match="key 'A': found 3 numbers, expected 48"):
        replace(momentum_truth(), A=(0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="key 'M': found 1 numbers, expected 0"):
        Truth(M=(1e-5,))
    with pytest.raises(InputError, match="'eta_edges': the edges are not ascending"):
        Truth(eta_edges=(0.0, -1.0), A=(0.0,), e=(0.0,), M=(0.0,))
    with pytest.raises(InputError, match="key 'c': found nan"):
        Truth(c=(1e-4, float("nan"), 1e-4))
    with pytest.raises(InputError, match="none of 20 blocks"):
        generate("z", 10, min_pt=(4000.0, 4000.0))


EDGES = tuple(np.linspace(-np.pi, np.pi, 9).tolist())
FLAT = ((0.0,) * 8,) * 48


def with_phi(**changed):
    """Return a truth in which every cell of eta and phi has numbers of its own."""
    random = np.random.default_rng(8)
    A, M = (size * random.standard_normal((48, 8)) for size in (1e-3, 2e-5))
    own = {"phi_edges": EDGES, "A_phi": tuple(map(tuple, A)), "M_phi": tuple(map(tuple, M))}
    return replace(momentum_truth(), **{**own, **changed})


def test_a_scale_that_changes_with_phi_is_put_into_its_cells():
    """The same random numbers without it: the corrected k is the same, muon by muon."""
    truth = with_phi()
    made = generate("jpsi", 4000, seed=5, truth=truth, mass_window=(0.5, 9.0), min_pt=(0.5, 0.4))
    plain = generate(
        "jpsi", 4000, seed=5, truth=momentum_truth(), mass_window=(0.5, 9.0), min_pt=(0.5, 0.4)
    )
    assert made.truth["A_phi"] == truth.A_phi and "A_phi" not in plain.truth
    same = made.pairs.leading.charge == plain.pairs.leading.charge  # else the other one leads
    assert same.mean() > 0.95
    for a, b in (
        (made.pairs.leading, plain.pairs.leading),
        (made.pairs.subleading, plain.pairs.subleading),
    ):
        k = []
        for muons, added in ((a, 1), (b, 0)):
            i = np.digitize(muons.eta, truth.eta_edges) - 1
            j = np.digitize(muons.phi, EDGES) - 1
            A = np.array(truth.A)[i] + added * np.array(truth.A_phi)[i, j]
            M = np.array(truth.M)[i] + added * np.array(truth.M_phi)[i, j]
            k_measured = 1 / muons.pt
            k.append((1 + A - np.array(truth.e)[i] * k_measured) * k_measured + muons.charge * M)
        np.testing.assert_array_equal(a.phi[same], b.phi[same])
        np.testing.assert_allclose(k[0][same], k[1][same], rtol=1e-12)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"phi_edges": (0.0, 1.0, 6.28)}, "from -pi to pi"),
        ({"phi_edges": EDGES[::-1]}, "ascending"),
        ({"A_phi": FLAT[:47]}, "'A_phi'.*48 rows of 8"),
        ({"M_phi": (*FLAT[:47], (0.0,) * 7)}, "'M_phi'.*48 rows of 8"),
        ({"M_phi": (*FLAT[:47], (0.1,) * 8)}, "'M_phi'.*-0.01 to 0.01"),
        ({"phi_edges": ()}, "'A_phi'"),
        ({"A_phi": ((float("nan"),) * 8,) * 48}, "'A_phi'.*nan"),
    ],
)
def test_a_phi_that_cannot_be(changed, words):
    with pytest.raises(InputError, match=words):
        with_phi(**changed)
