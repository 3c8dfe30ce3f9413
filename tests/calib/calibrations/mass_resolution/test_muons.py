"""Factors of single muons: from rows whose truth is known, and from events of another generator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import voigt_profile

from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import (
    REFERENCE_PT,
    coarse_edges,
    relative_resolution,
)
from calib.calibrations.mass_resolution.sums.template_grid import NODES
from calib.calibrations.mass_resolution.widths.muons import MuonFactors, muon_factors
from calib.results import Status
from calib.toys.generation import ToyEvents
from tests.independent import World, generate

from .conftest import make

SETTINGS = Settings()
EDGES = np.asarray(SETTINGS.muons.abs_eta)
N = len(EDGES) - 1
RINGS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
LEADING = np.array([38.0, 48.0, 56.0, 80.0])
OTHER = np.array([32.0, 40.0, 44.0, 50.0])
EVENTS = np.array([0.35, 0.40, 0.15, 0.10])
LOWER, UPPER = np.triu_indices(N)


def true_logs(power):
    """Return ln F by fine bin: from 0.8 to 1.2 across each ring, and a power of pt in each ring."""
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    low, high = np.array([0.0, 0.9, 1.8])[RINGS], np.array([0.9, 1.8, 2.4])[RINGS]
    return np.concatenate([np.log(0.8 + 0.4 * (middle - low) / (high - low)), power])


def rows(n_events):
    """Return (rows, ...) of both muons: bins, relative variances, ln(pt / 45 GeV), and events."""
    first, second = np.tile(LOWER, 4), np.tile(UPPER, 4)
    at = np.repeat(np.arange(4), len(LOWER))
    own = 0.008 + 0.012 * (0.5 * (EDGES[1:] + EDGES[:-1]) / 2.4) ** 2
    # the harder muon is in the one bin in half of the rows, in the other in the rest
    swap = (first + second) % 2 == 1
    pt = np.stack([np.where(swap, OTHER[at], LEADING[at]), np.where(swap, LEADING[at], OTHER[at])])
    variance = np.stack([own[first], own[second]]) ** 2
    share = EVENTS[at] * np.exp(-((EDGES[first] - EDGES[second]) ** 2) / 4)
    share *= np.where(first == second, 0.5, 1.0)
    return first, second, variance, np.log(pt / REFERENCE_PT), n_events * share / share.sum()


def peak(sigma, edges):
    """Return the fraction of a Voigt profile in each bin, shape (len(sigma), bins)."""
    node, weight = np.polynomial.legendre.leggauss(4)
    half = 0.5 * np.diff(edges)
    at = (0.5 * (edges[1:] + edges[:-1]))[:, None] + half[:, None] * node - 91.2
    return np.array([voigt_profile(at, s, 1.25) @ weight * half for s in sigma])


@pytest.fixture(scope="module")
def ideal():
    """Return rows and templates without noise."""
    first, second, variance, log_pt, events = rows(600_000)
    edges = coarse_edges(SETTINGS)
    sigma = 0.5 * 91.2 * np.sqrt(variance.sum(0))
    template = np.stack([peak(f * sigma, edges) for f in NODES], axis=1) * 1e5
    return first, second, variance, log_pt, events, edges, template


def toy(ideal, values, random):
    """Return the sums of one toy with these true values; half of the events in each half."""
    first, second, variance, log_pt, events, edges, template = ideal
    factors = [
        np.exp(values[b] + values[N + RINGS[b]] * p)
        for b, p in zip((first, second), log_pt, strict=True)
    ]
    sigma = 0.5 * 91.2 * np.sqrt((variance * np.array(factors) ** 2).sum(0))
    shape = peak(sigma, edges)
    expected = 0.5 * events[:, None] * (0.99 * shape + 0.01 / shape.shape[1])
    counts = random.poisson(np.concatenate([expected, expected])).astype(float)
    total = counts.sum(1)
    sums = {"muons/sumw": counts, "muons/sumw2": counts}
    for k, name in enumerate(("first", "second")):
        own = np.tile(variance[k], 2) * total
        sums[f"muons/mean_variance_{name}"] = own
        sums[f"muons/mean_pt_{name}"] = own * np.tile(log_pt[k], 2)
    return sums, {"embedded/muons": np.concatenate([template, template])}


TOYS = 25
POWER = np.array([0.15, 0.0, -0.10])


@pytest.fixture(scope="module")
def fitted(ideal):
    random = np.random.default_rng(41)
    truth = true_logs(POWER)
    found = [
        muon_factors(*toy(ideal, truth, random), "embedded", (0, 1), SETTINGS, 0.0)
        for _ in range(TOYS)
    ]
    return truth, found


def test_factors_follow_the_truth_with_honest_errors(fitted):
    """25 toys of 11 values know an rms to about 5 % (they are correlated); four of it."""
    truth, found = fitted
    pulls = np.array([(f.values - truth) / np.sqrt(np.diag(f.covariance)) for f in found])
    assert 0.8 < np.sqrt(np.mean(pulls**2)) < 1.2
    assert np.abs(pulls).max() < 4.5
    assert np.abs(pulls.mean(0)).max() < 4 / np.sqrt(TOYS)
    whole = [
        float((f.values - truth) @ np.linalg.solve(f.covariance, f.values - truth)) for f in found
    ]
    # chi2 of 11 with all correlations: 4.7 wide
    assert abs(np.mean(whole) - len(truth)) < 4 * np.sqrt(2 * len(truth) / TOYS)


def test_they_are_precise_enough_to_see_the_inside_of_rings(fitted):
    truth, found = fitted
    error = np.sqrt(np.diag(found[0].covariance))[:N]
    assert error.max() < 0.1
    assert found[0].status() == (Status.OK,) * N
    mean = np.mean([f.values for f in found], axis=0)
    # from 0.87 to 1.13, in each ring
    assert mean[2] - mean[0] > 0.2 and mean[5] - mean[3] > 0.2 and mean[7] - mean[6] > 0.1


def test_powers_of_pt_are_found(fitted):
    truth, found = fitted
    powers = np.array([f.values[N:] for f in found])
    error = powers.std(0) / np.sqrt(TOYS)
    assert np.all(np.abs(powers.mean(0) - POWER) < 4 * error + 0.01)
    assert powers.mean(0)[0] > 0.1


def test_chi2_of_the_rows(fitted):
    _, found = fitted
    chi2, ndf = (np.array([getattr(f, k) for f in found]) for k in ("chi2", "ndf"))
    assert np.all(ndf > 80)
    assert 0.8 < np.mean(chi2 / ndf) < 1.25


def test_noise_and_the_line_are_in_the_covariance(ideal, fitted):
    truth, _ = fitted
    sums = toy(ideal, truth, np.random.default_rng(42))
    plain, noisy, moved = (
        muon_factors(*sums, "embedded", (0, 1), SETTINGS, noise, line)
        for noise, line in ((0.0, (0.0, 0.0)), (3.0, (0.0, 0.0)), (0.0, (0.02, 0.05)))
    )
    ratio = np.diag(noisy.covariance) / np.diag(plain.covariance)
    assert np.all(ratio[:N] > 1.5)
    np.testing.assert_allclose(moved.values[:N], plain.values[:N] - 0.02, atol=1e-12)
    np.testing.assert_allclose(moved.covariance[:N, :N] - plain.covariance[:N, :N], 0.05**2)


def test_a_half_knows_half(ideal, fitted):
    truth, _ = fitted
    sums = toy(ideal, truth, np.random.default_rng(43))
    whole, half = (
        muon_factors(*sums, "embedded", parts, SETTINGS, 0.0) for parts in ((0, 1), (1,))
    )
    ratio = np.sqrt(np.diag(half.covariance) / np.diag(whole.covariance))
    assert np.median(ratio[:N]) == pytest.approx(np.sqrt(2), rel=0.2)


def test_no_events_no_factors(ideal):
    sums, templates = toy(ideal, true_logs(POWER), np.random.default_rng(44))
    nothing = {name: 0 * values for name, values in sums.items()}
    assert muon_factors(nothing, templates, "embedded", (0, 1), SETTINGS, 0.0) is None


def test_gradient_against_differences():
    random = np.random.default_rng(45)
    values = random.normal(0, 0.1, N + 3)
    pt, eta = random.uniform(20, 120, 50), random.uniform(-2.6, 2.6, 50)

    def logs(v):
        return np.log(MuonFactors(EDGES, RINGS, v, np.eye(N + 3), 0.0, 1).at(pt, eta))

    own = MuonFactors(EDGES, RINGS, values, 0.01 * np.eye(N + 3), 0.0, 1)
    for k in range(N + 3):
        step = np.zeros(N + 3)
        step[k] = 1e-5
        numeric = (logs(values + step) - logs(values - step)) / 2e-5
        np.testing.assert_allclose(own.gradient(pt, eta)[:, k], numeric, atol=1e-8)
    np.testing.assert_allclose(
        own.error(pt, eta), own.at(pt, eta) * 0.1 * np.hypot(1, np.log(pt / REFERENCE_PT))
    )
    # beyond the axis: as in its last bin
    np.testing.assert_array_equal(
        own.bins(np.array([-2.6, 2.6, 2.39, 0.0])), [N - 1, N - 1, N - 1, 0]
    )


# events ------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    "world", [World(within_ring=0.2), World(pt_err_power=0.25)], ids=["within_ring", "power"]
)
def test_factors_of_events_of_another_generator(world):
    """600 000 pairs: root mean square of V F^2 in each fine bin at all pt, within four errors."""
    pairs, extras = generate("z", 600_000, world, seed=46)
    run = make(Settings(copies=4, compare=()), ToyEvents(pairs, extras["background"], {}, "z"))
    state = run.calibration.reduce(run.sums, {}).state
    found = MuonFactors(
        EDGES,
        np.asarray(state["ring_of"]),
        np.asarray(state["muons"]),
        np.asarray(state["muons_covariance"]),
        0.0,
        1,
    )
    pulls, sizes = [], []
    good = ~extras["background"] & (pairs.leading.pt > 30) & (pairs.subleading.pt > 20)
    muons = [(getattr(pairs, k), extras[f"factor_{k}"]) for k in ("leading", "subleading")]
    pt, eta, true, variance = (
        np.concatenate([v[good] for v in columns])
        for columns in zip(
            *((m.pt, m.eta, f, relative_resolution(m, SETTINGS) ** 2) for m, f in muons),
            strict=True,
        )
    )
    at = found.bins(eta)
    mine = found.at(pt, eta)
    for b in range(N):
        inside = (at == b) & (pt < 100)
        both = [np.average(f[inside] ** 2, weights=variance[inside]) ** 0.5 for f in (mine, true)]
        middle = np.exp(np.average(np.log(pt[inside]), weights=variance[inside]))
        error = found.error(np.array([middle]), np.array([0.5 * (EDGES[b] + EDGES[b + 1])]))[0]
        pulls.append((both[0] - both[1]) / error)
        sizes.append(both[1])
    assert np.abs(pulls).max() < 4
    assert np.sqrt(np.mean(np.square(pulls))) < 2
    if world.within_ring:
        assert max(sizes) > 1.1 and min(sizes) < 0.9
    else:
        power, error = found.values[N:], np.sqrt(np.diag(found.covariance))[N:]
        # 600 000 pairs know it to 0.2 to 0.4: not enough to tell it from 0
        assert np.all(np.abs(power - 0.25) < 4 * error)
        assert np.all(error < 0.6)
