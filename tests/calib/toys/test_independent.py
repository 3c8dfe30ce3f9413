"""The generator that the calibration is tested against: is it what it says?

Bounds: 4.5 standard deviations of what is known of each number, or what the order of a formula
leaves open.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2, norm

from tests import independent, independent_nature, independent_world
from tests.independent import World, generate, momentum_world, stage1, true_factors, worlds
from tests.independent_nature import M_JPSI, M_MU, M_Z

SIGMAS = 4.5


def random(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("module", [independent, independent_nature, independent_world])
def test_nothing_of_calib_but_its_pairs(module):
    tree = ast.parse(Path(module.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    ours = {name for name in modules if name.split(".")[0] in ("calib", "processors", "jobs")}
    assert ours <= {"calib.events.pairs"}


# the line shape


def test_masses_follow_the_line_shape():
    n = 400_000
    table = independent_nature.table_of("z_mass")
    mass = independent_nature.look_up(table, random().random(n))
    edges = np.concatenate([[50, 70, 80], np.arange(84, 99, 0.25), [102, 110, 125, 200]])
    parts = np.array(
        [
            quad(independent_nature.z_line, a, b)[0]
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]
    )
    expected = n * parts / parts.sum()
    distance = np.sum((np.histogram(mass, edges)[0] - expected) ** 2 / expected)
    assert chi2.sf(distance, len(parts) - 1) > 1e-4


def test_mean_of_the_peak_against_quadrature():
    table = independent_nature.table_of("z_mass")
    mass = independent_nature.look_up(table, random(6).random(400_000))
    mass = mass[(mass > 80) & (mass < 100)]
    total = quad(independent_nature.z_line, 80, 100, points=[M_Z])[0]
    mean = quad(lambda m: m * independent_nature.z_line(m), 80, 100, points=[M_Z])[0] / total
    assert abs(mass.mean() - mean) < SIGMAS * mass.std() / np.sqrt(len(mass))


@pytest.mark.parametrize("kind, charge, isospin", [("up", 2 / 3, 0.5), ("down", -1 / 3, -0.5)])
def test_asymmetry_of_the_z_alone(kind, charge, isospin):
    even, odd = independent_nature.squared_amplitudes(np.array([M_Z]), kind, photon=False)

    def asymmetry(q: float, t3: float) -> float:
        vector = 1 - 4 * abs(q) * 0.2315
        return 2 * vector / (1 + vector**2)

    assert odd / even == pytest.approx(asymmetry(charge, isospin) * asymmetry(-1, -0.5), rel=1e-12)


def test_interference_changes_sign_at_the_peak():
    mass = np.array([M_Z - 4, M_Z + 4])
    odd, alone = (independent_nature.squared_amplitudes(mass, "up", p)[1] for p in (True, False))
    assert np.all(np.sign(odd - alone) == [-1, 1])


# the decay


def test_angles_have_their_coefficients():
    n = 400_000
    mass, pt, y = np.full(n, 80.0), np.full(n, 60.0), np.full(n, 1.5)
    cos, phi = independent_nature.z_angles(mass, pt, y, random(7))
    a0 = 60**2 / (60**2 + 1.2 * 80**2)
    r = independent_nature.z_asymmetry(mass[:1]) * independent_nature.parton_rapidity(y[:1])[1]
    for values, expected in (
        (cos**2, 0.4 - 0.1 * a0),
        (cos, r[0] * (1 - a0) / 4),
        ((1 - cos**2) * np.cos(2 * phi), 0.1 * a0),
        (np.sqrt(1 - cos**2) * np.cos(phi), 0.0),
    ):
        assert abs(values.mean() - expected) < SIGMAS * values.std() / np.sqrt(n)


def test_decay_keeps_the_pair_and_the_collins_soper_angle():
    n = 1000
    draw = random(8)
    mass, pt = draw.uniform(60, 120, n), draw.uniform(0.1, 90, n)
    y, cos = draw.uniform(-2.4, 2.4, n), draw.uniform(-0.99, 0.99, n)
    minus, plus = independent_nature.decay(mass, pt, y, cos, draw.uniform(0, 6, n), draw)
    p = [
        np.array([t * np.cos(phi), t * np.sin(phi), t * np.sinh(eta)])
        for t, eta, phi in (minus, plus)
    ]
    energy = [np.sqrt(np.sum(v**2, axis=0) + M_MU**2) for v in p]
    total, e = p[0] + p[1], energy[0] + energy[1]
    assert np.allclose(np.sqrt(e**2 - np.sum(total**2, axis=0)), mass, rtol=1e-9)
    assert np.allclose(np.hypot(total[0], total[1]), pt, rtol=1e-9)
    assert np.allclose(np.arctanh(total[2] / e), y, atol=1e-9)
    assert np.allclose(independent_nature.invariant_mass(*minus, *plus), mass, rtol=1e-9)
    light = [(energy[i] + s * p[i][2]) for i in (0, 1) for s in (1, -1)]
    angle = (light[0] * light[3] - light[1] * light[2]) / (mass * np.hypot(mass, pt))
    beta = np.sqrt(1 - 4 * M_MU**2 / mass**2)
    assert np.allclose(angle, beta * cos, atol=1e-9)


# the radiation


@pytest.mark.parametrize("mass", [M_Z, M_JPSI])
def test_structure_function_is_normalised_and_has_the_mean_of_its_evolution(mass):
    """The moments are exp(-eta ...) exactly; the third order, eta^3, is left out."""
    eta = float(independent_nature.radiator(mass))
    over_t = [
        quad(
            lambda t, k=k: (
                (1 - t ** (1 / eta)) ** k * independent_nature.soft_free(1 - t ** (1 / eta), eta)
            ),
            0,
            1,
            points=[0.5, 0.9, 0.95, 0.99],
            limit=400,
        )[0]
        for k in (0, 1, 2)
    ]
    expected = [1, np.exp(-2 * eta / 3), np.exp(-25 * eta / 24)]
    assert np.allclose(over_t, expected, rtol=0, atol=5 * eta**3)


@pytest.mark.parametrize("mass, strength", [(M_Z, 1.0), (M_Z, 1.15), (M_JPSI, 1.0)])
def test_what_muons_keep_follows_the_structure_function(mass, strength):
    n = 1_000_000
    z = independent_nature.kept_fraction(np.full(n, mass), strength, random(9))
    eta = float(independent_nature.radiator(mass, strength))
    assert abs(z.mean() - np.exp(-2 * eta / 3)) < SIGMAS * z.std() / np.sqrt(n) + 5 * eta**3
    for least in (1e-3, 0.03, 0.3, 0.8):  # the share that loses more than this
        share = quad(
            lambda t: independent_nature.soft_free(1 - t ** (1 / eta), eta),
            least**eta,
            1,
            limit=400,
        )[0]
        error = np.sqrt(share / n)
        assert abs(np.mean(1 - z > least) - share) < SIGMAS * error + 5 * eta**3


def test_photons_one_by_one_lose_what_their_spectrum_says():
    n = 1_000_000
    z = independent_nature.kept_after_photons(np.full(n, M_Z), 1.0, random(10))
    over_pi = 1 / 137.036 / np.pi

    def lost(x: float) -> float:
        log = np.log(M_Z**2 * (1 - x) / M_MU**2) - 1
        return over_pi * max(log, 0) * (1 + (1 - x) ** 2) / 2

    expected = np.exp(-quad(lost, independent_nature.SOFTEST, 1)[0])
    assert abs(z.mean() - expected) < SIGMAS * z.std() / np.sqrt(n)


# the detector


@pytest.mark.parametrize("pt, eta", [(40.0, 0.0), (40.0, 2.3), (8.0, 1.2)])
def test_pulls_of_k(pt, eta):
    n = 200_000
    gen, at, phi = np.full(n, pt), np.full(n, eta), random(11).uniform(-3, 3, n)
    world = World(ring_factors=(1.06, 0.94, 1.06))
    reco = dict(independent._reconstructed(gen, at, phi, 1, world, random(12)))
    pull = (gen / reco["pt"] - 1) / reco["sigma"]
    assert abs(pull.mean()) < SIGMAS / np.sqrt(n)
    assert abs(pull.std() - 1) < SIGMAS / np.sqrt(2 * n)
    assert np.allclose(reco["factor"] * reco["err"] / reco["pt"], reco["sigma"], rtol=1e-12)
    log = np.log(reco["sigma"] / independent_world.resolution(gen, at))
    assert abs(log.std() - 0.10) < SIGMAS * 0.10 / np.sqrt(2 * n)


def test_resolution_has_a_real_detectors_size():
    at = independent_world.resolution(np.array([40.0, 40.0]), np.array([0.0, 2.4]))
    assert 0.0075 < at[0] < 0.0085
    assert 0.025 < at[1] < 0.030


def test_tails_are_wider_and_pt_err_does_not_know():
    n = 400_000
    gen, eta = np.full(n, 40.0), np.zeros(n)
    reco = dict(independent._reconstructed(gen, eta, eta, 1, World(tails=0.02), random(13)))
    pull, tail = (gen / reco["pt"] - 1) / reco["sigma"], reco["tail"]
    assert abs(tail.mean() - 0.02) < SIGMAS * np.sqrt(0.02 * 0.98 / n)
    assert abs(pull[tail].std() / 2.5 - 1) < SIGMAS / np.sqrt(2 * tail.sum())
    assert np.all(reco["factor"] == 1)


def test_noise_of_pt_err_leaves_the_width_alone():
    n = 200_000
    gen, eta = np.full(n, 40.0), np.zeros(n)
    reco = dict(independent._reconstructed(gen, eta, eta, 1, World(pt_err_noise=0.15), random(14)))
    assert abs(np.log(reco["factor"]).std() - 0.15) < SIGMAS * 0.15 / np.sqrt(2 * n)
    pull = (gen / reco["pt"] - 1) / reco["sigma"]
    assert abs(np.corrcoef(pull**2, reco["factor"])[0, 1]) < SIGMAS / np.sqrt(n)


def test_factor_of_each_effect():
    pt, phi = np.array([45.0, 90.0, 45.0]), np.array([0.0, np.pi, np.pi / 2])
    eta = np.array([0.0, -0.9, 2.1])
    for world, expected in (
        (World(pt_err_power=0.25), [1, 2**0.25, 1]),
        (World(pt_err_phi=0.1), [1.1, 0.9, 1]),
        (World(ring_factors=(1.0, 2.0, 3.0)), [1, 2, 3]),
        (World(within_ring=0.2), [0.8, 0.8, 1.0]),
    ):
        assert independent_world.pt_err_factor(world, pt, eta, phi) == pytest.approx(expected)


@pytest.mark.parametrize("charge", [-1, 1])
def test_momentum_scale_is_that_of_its_definition(charge):
    world = replace(momentum_world(), A_phi=5e-4)
    eta, phi = random(15).uniform(-2.4, 2.4, 1000), random(16).uniform(-3, 3, 1000)
    true = random(17).uniform(3, 80, 1000)
    k = 1 / independent_world.measured_pt(world, true, eta, phi, charge)
    A, e, M = (independent_world.at_eta(v, eta) for v in (world.A, world.e, world.M))
    A = A + 5e-4 * np.cos(2 * phi)
    assert np.allclose(1 / true / k, 1 + A - e * k + charge * M / k, rtol=0, atol=1e-10)


def test_shift_of_the_scale_is_bounded():
    pt = np.full(4001, 40.0)
    eta = np.linspace(-2.4, 2.4, 4001)
    shifts = [
        independent_world.measured_pt(World(scale=1e-3), pt, eta, eta, q) / pt - 1 for q in (1, -1)
    ]
    assert 7e-4 < np.abs(shifts).max() <= 1e-3
    assert np.abs(shifts[0] - shifts[1]).max() > 5e-4


# the events


@pytest.mark.parametrize("resonance", ["z", "jpsi"])
def test_events_are_what_pairs_want(resonance):
    n = 20_000
    pairs, extras = generate(resonance, n, World(), seed=21)
    more, _ = generate(resonance, n, World(), seed=22, first_event=n + 1)
    written = independent.WRITTEN[resonance]
    a, b = pairs.leading, pairs.subleading
    assert len(pairs) == n and all(len(values) == n for values in extras.values())
    assert (
        np.all(a.pt >= b.pt) and a.pt.min() > written.min_pt[0] and b.pt.min() > written.min_pt[1]
    )
    assert np.all(np.maximum(np.abs(a.eta), np.abs(b.eta)) < 2.4)
    assert np.all(np.maximum(np.abs(a.phi), np.abs(b.phi)) <= np.pi)
    assert np.all(a.charge * b.charge == -1)
    assert pairs.mass.min() >= written.mass[0] - 1e-6 and pairs.mass.max() < written.mass[1] + 1e-6
    numbers = {
        row for p in (pairs, more) for row in zip(p.run, p.luminosityBlock, p.event, strict=True)
    }
    assert len(numbers) == 2 * n
    assert set(np.unique(pairs.run)) == set(range(300_000, 300_020))
    background = extras["background"]
    assert np.array_equal(np.isnan(pairs.gen_mass), background)
    assert np.array_equal(np.isnan(a.gen_pt), background)
    residual = ((pairs.mass - pairs.gen_mass) / extras["sigma_mass"])[~background]
    assert 0.9 < 0.5 * np.diff(np.quantile(residual, norm.cdf([-1, 1])))[0] < 1.1


def test_same_seed_same_events_and_another_for_simulation():
    first, again = (generate("z", 5000, seed=31)[0] for _ in range(2))
    other, simulated = (
        generate("z", 5000, seed=32)[0],
        generate("z", 5000, seed=31, simulation=True),
    )
    assert np.array_equal(first.leading.pt, again.leading.pt)
    assert not np.intersect1d(first.leading.pt, other.leading.pt).size
    assert not np.intersect1d(first.leading.pt, simulated[0].leading.pt).size
    assert set(simulated[0].run) == {1} and not simulated[1]["background"].any()


@pytest.mark.parametrize("resonance, share", [("z", 0.03), ("jpsi", 0.15)])
def test_share_of_background_is_that_of_the_window(resonance, share):
    pairs, extras = generate(resonance, 200_000, World(background=share), seed=41)
    low, high = independent.WRITTEN[resonance].window
    inside = (pairs.mass >= low) & (pairs.mass < high)
    found, n = extras["background"][inside].mean(), inside.sum()
    pilot = share / np.sqrt(50_000)  # of the window's part of the background, which is about half
    assert abs(found - share) < SIGMAS * np.hypot(np.sqrt(share * (1 - share) / n), pilot)


def test_negative_weights_come_with_more_events():
    pairs, _ = generate("z", 20_000, World(negative_share=0.15), seed=51, simulation=True)
    assert len(pairs) == round(20_000 / 0.7**2)
    error = np.sqrt(0.15 * 0.85 / len(pairs))
    assert abs(np.mean(pairs.weight < 0) - 0.15) < SIGMAS * error
    assert set(np.unique(pairs.weight)) == {-1.0, 1.0}


def test_turn_on_halves_what_is_written_at_its_height():
    pairs = [
        generate("jpsi", 100_000, w, seed=61)[0] for w in (World(), World(turn_on=(12.0, 1.0)))
    ]
    counts = []
    for at in ((11.75, 12.25), (18.0, 22.0)):
        counts.append([np.sum((p.leading.pt > at[0]) & (p.leading.pt < at[1])) for p in pairs])
    (half_before, half), (full_before, full) = counts
    ratio = half / half_before / (full / full_before)
    assert abs(ratio - 0.5) < SIGMAS * ratio * np.sqrt(np.sum(1 / np.array(counts))) + 0.01


def test_columns_of_a_flat_file():
    pairs, _ = generate("z", 100, seed=71, simulation=True)
    columns = stage1(pairs, simulation=True)
    assert columns["dimuon_mass"] == pytest.approx(pairs.mass, rel=1e-7)
    assert {"mu1_ptErr", "mu2_charge", "mu2_gen_phi", "gen_dimuon_mass"} <= set(columns)
    assert not any("gen" in name for name in stage1(pairs, simulation=False))


# the truth


def test_truth_is_kept_and_made_again_alike(tmp_path):
    world = World(ring_factors=(1.06, 0.94, 1.06))
    first, kept, again = (
        true_factors(world, n=60_000, folder=f) for f in (tmp_path, tmp_path, None)
    )
    assert len(list(tmp_path.iterdir())) == 1
    for name in ("factor", "factor_err", "sigma", "median", "n_pairs"):
        for other in (kept, again):
            assert np.array_equal(getattr(first, name), getattr(other, name), equal_nan=True)


def test_two_truths_agree_within_their_errors():
    one, two = (true_factors(World(), seed=s, n=400_000) for s in (81, 82))
    pull = (one.factor - two.factor) / np.hypot(one.factor_err, two.factor_err)
    pull = pull[np.minimum(one.n_pairs, two.n_pairs) > 500]
    assert len(pull) >= 30
    assert 1e-4 < chi2.cdf(np.sum(pull**2), len(pull)) < 1 - 1e-4


def test_truth_follows_the_rings():
    """Both muons in one ring: the same events, and exactly the factor of the ring."""
    rings = (1.06, 0.94, 1.12)
    clean, wrong = (true_factors(w, n=400_000) for w in (World(), World(ring_factors=rings)))
    for ring, factor in zip(("BB", "OO", "EE"), rings, strict=True):
        at = independent.CATEGORIES.index(f"45-52_{ring}")
        assert wrong.factor[at] / clean.factor[at] == pytest.approx(factor, rel=1e-9)


def test_names_of_the_categories():
    names = independent.CATEGORIES
    assert len(names) == 36 and names[:4] == ("30-45_BB", "30-45_BO", "30-45_BE", "30-45_OB")
    assert names[9] == "45-52_BB" and names[-1] == "62-200_EE"
    pairs, _ = generate("z", 20_000, seed=91)
    row = independent.category_of(pairs)
    chosen = row == names.index("45-52_OB")
    assert chosen.any()
    assert np.all((pairs.leading.pt[chosen] >= 45) & (pairs.leading.pt[chosen] < 52))
    assert np.all(np.abs(pairs.leading.eta[chosen]) >= 0.9)
    assert np.all(np.abs(pairs.subleading.eta[chosen]) < 0.9)


def test_each_world_makes_events():
    digests = set()
    for name, world in worlds().items():
        resonance = "jpsi" if name.startswith("jpsi") else "z"
        data, simulation = world if isinstance(world, tuple) else (world, None)
        digests.add(data.digest() + (simulation.digest() if simulation else ""))
        assert len(generate(resonance, 2000, data, seed=3)[0]) == 2000
        if simulation:
            assert len(generate(resonance, 2000, simulation, seed=3, simulation=True)[0]) >= 2000
    assert len(digests) == len(worlds())


def test_digest_is_that_of_values_and_not_of_objects():
    assert World(A=lambda eta: 1e-3 * eta).digest() == World(A=lambda eta: eta * 1e-3).digest()
    assert World(A=lambda eta: 1e-3 * eta).digest() != World(A=lambda eta: 2e-3 * eta).digest()
    with pytest.raises(ValueError, match="radiation"):
        World(radiation="none")
