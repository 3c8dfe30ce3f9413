"""The radiators against each other and against the spectrum of the first order, by quadrature.

What is allowed beside four standard deviations: `mass_terms`, terms of (m_mu/m)^2 that all leave
out; and, where a generator with several photons meets the spectrum of one, twice the strength of
radiation, of relative order alpha.
"""

from functools import cache

import numpy as np
import pytest
from scipy.integrate import dblquad, quad

import calib.toys.decay
from calib.calibrations.momentum_scale.sums.collect import COUNTER
from calib.events.random import keys
from calib.physics.constants import ALPHA, MUON_MASS, RESONANCES
from calib.physics.embedding import DRAWS, embed, fsr_weight, narrow_line
from calib.physics.radiation import FIRST_PHOTON_DRAW, MIN_PHOTON, PHOTON_DRAWS, mean_photons
from calib.toys.generation import Truth, generate

COPIES = 10
EDGES = [0.003, 0.01, 0.03, 0.1, -2 * np.log(0.9), 0.5, 1.0, 2.0]
"""Of -2 ln(m/m_born)."""
HEAVY = ["z", "jpsi"]
CASES = [(name, radiation) for name in HEAVY for radiation in ("leading_log", "exponentiated")]


@cache
def source(name):
    return generate(name, 40_000, seed=11, truth=Truth(background=0.0)).pairs


@cache
def made(name, radiation):
    """Return ten copies of the pairs, all of one mass before radiation."""
    pairs = source(name)
    key = keys(1, pairs.run, pairs.luminosityBlock, pairs.event)
    nothing, line = np.zeros(len(pairs)), narrow_line(born(name))
    return [
        embed(pairs, nothing, nothing, key, copy, line, radiation=radiation)
        for copy in range(COPIES)
    ]


def born(name):
    return RESONANCES[name].masses[0]


def column(found, field):
    return np.concatenate([getattr(one, field) for one in found])


def logarithm(name):
    return 2 * np.log(born(name) / MUON_MASS)


def strength(name):
    return 2 * ALPHA / np.pi * (logarithm(name) - 1)


def mass_terms(name):
    return 2 * strength(name) * (2 * MUON_MASS / born(name)) ** 2


def highest(name):
    """Return the share of m^2 beyond which two muons at rest have no room."""
    return 1 - (2 * MUON_MASS / born(name)) ** 2


def spectrum(x, name, radiation):
    """Return dN/dx of one photon that takes the share x of m^2, of both muons."""
    reduced = np.log1p(-x) if radiation == "exponentiated" else 0.0
    rate = ALPHA / np.pi * (1 + (1 - x) ** 2) / x
    return rate * np.maximum(logarithm(name) + reduced - 1, 0.0)


def first_order(name, radiation, function, low=MIN_PHOTON):
    def integrand(t):
        x = np.exp(t)
        return x * spectrum(x, name, radiation) * function(x)

    return quad(integrand, np.log(low), np.log(highest(name)), limit=500)[0]


@cache
def tails(name, radiation, rate=1.0):
    """Return P(-2 ln(m/m_born) > edge) by convolution: of any number of photons, or of two muons.

    -2 ln(m/m_born) is the sum of -ln(1 - x) of all photons.
    """
    n, step = 1 << 19, 16 / (1 << 19)
    x = np.geomspace(MIN_PHOTON, highest(name), 200_001)
    density = x * spectrum(x, name, radiation)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(np.log(x))
    whole = rate * np.concatenate([[0], np.cumsum(steps)])
    cells = -np.expm1(-(np.arange(n + 1) - 0.5) * step)
    photon = np.fft.rfft(np.diff(np.interp(cells, x, whole)))
    if radiation == "exponentiated":
        found = np.exp(photon - whole[-1])
    else:
        found = (1 - 0.5 * whole[-1] + 0.5 * photon) ** 2
    cumulative = np.cumsum(np.fft.irfft(found, n))
    return 1 - np.interp(EDGES, (np.arange(n) + 0.5) * step, cumulative)


def softening(found, name):
    return -2 * np.log(column(found, "mass") / born(name))


@pytest.mark.parametrize(("name", "radiation"), CASES)
def test_first_order_by_quadrature(name, radiation):
    """Fraction below 0.9 of the mass before radiation, and mean loss."""
    ratio = column(made(name, radiation), "mass") / born(name)
    below = (ratio < 0.9).astype(float)
    tail = first_order(name, "exponentiated", lambda x: 1.0, low=1 - 0.9**2)
    loss = first_order(name, "exponentiated", lambda x: 1 - np.sqrt(1 - x))
    for values, expected in ((below, tail), (1 - ratio, loss)):
        error = values.std() / np.sqrt(len(values))
        # the leading logarithm lacks ln(1 - x), beside the logarithm of the mass less 1
        missing = 1 / (logarithm(name) - 1) if radiation == "leading_log" else 0.0
        theory = (2 * strength(name) + missing) * expected + mass_terms(name)
        assert abs(values.mean() - expected) < 4 * error + theory


@pytest.mark.parametrize(("name", "radiation"), CASES)
def test_spectrum_of_the_mass(name, radiation):
    found = softening(made(name, radiation), name)
    for edge, expected in zip(EDGES, tails(name, radiation), strict=True):
        error = np.sqrt(expected * (1 - expected) / len(found))
        assert np.mean(found > edge) == pytest.approx(expected, abs=4 * error + mass_terms(name))


@pytest.mark.parametrize("name", HEAVY)
def test_leading_log_radiates_harder_by_the_logarithm_that_it_lacks(name):
    found = [softening(made(name, radiation), name) > EDGES[4] for _, radiation in CASES[:2]]
    more = found[0].mean() - found[1].mean()
    expected = tails(name, "leading_log")[4] - tails(name, "exponentiated")[4]
    error = np.sqrt(sum(x.mean() / len(x) for x in found))
    assert more > 4 * error
    assert more == pytest.approx(expected, abs=4 * error + 2 * mass_terms(name))


@pytest.mark.parametrize("name", HEAVY)
def test_number_of_photons(name):
    expected = first_order(name, "exponentiated", lambda x: 1.0)
    mean = mean_photons(np.array([born(name)]))[0]
    assert mean == pytest.approx(expected, abs=mass_terms(name))
    number = column(made(name, "exponentiated"), "photons")
    assert number.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / len(number)))
    assert number.var() == pytest.approx(mean, rel=4 * np.sqrt((2 + 1 / mean) / len(number)))


@pytest.mark.parametrize("name", HEAVY)
def test_angles_of_single_photons_follow_the_matrix_element(name):
    """Away from the muons, |cos| < 0.8: (x1^2 + x2^2)/((1 - x1)(1 - x2)), x = 2 E/m."""
    found = made(name, "exponentiated")
    x1, x2 = 1 - column(found, "lost_first"), 1 - column(found, "lost_second")
    photon = 2 - x1 - x2
    open_angle = np.minimum(1 - x1, 1 - x2) > 0.1 * photon
    single = column(found, "photons") == 1
    none = np.exp(-first_order(name, "exponentiated", lambda x: 1.0))
    for low, high in ((0.01, 0.1), (0.1, 0.5), (0.5, 0.95)):
        expected = (
            none
            * dblquad(
                lambda one, x: (
                    ALPHA / (2 * np.pi) * ((1 - one) ** 2 + (1 - x + one) ** 2) / (one * (x - one))
                ),
                low,
                high,
                lambda x: 0.1 * x,
                lambda x: 0.9 * x,
            )[0]
        )
        seen = np.mean(single & open_angle & (photon > low) & (photon < high))
        error = np.sqrt(expected / len(photon))
        assert seen == pytest.approx(expected, abs=4 * error + mass_terms(name))


def four_momentum(made):
    total = 0
    for part in ("first", "second"):
        pt, eta, phi = (getattr(made, f"{field}_{part}") for field in ("pt", "eta", "phi"))
        energy = np.hypot(pt * np.cosh(eta), MUON_MASS)
        total += np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    return total


@pytest.mark.parametrize("name", HEAVY)
def test_what_is_missing_is_a_photon(name):
    before, after = made(name, "none")[0], made(name, "exponentiated")[0]
    missing = four_momentum(before) - four_momentum(after)
    one = after.photons == 1
    square = missing[0] ** 2 - np.sum(missing[1:] ** 2, axis=0)
    size = four_momentum(before)[0] ** 2
    assert np.all(missing[0, one] > 0)
    assert np.max(np.abs(square / size)[one]) < 1e-11
    assert np.all(square[after.photons > 1] > -1e-11 * size[after.photons > 1])
    silent = after.photons == 0
    for field in ("pt_first", "eta_second", "phi_first", "mass", "lost_first"):
        np.testing.assert_array_equal(getattr(after, field)[silent], getattr(before, field)[silent])


def test_random_numbers_do_not_overlap():
    copies = 1000  # as many as can be asked for
    assert FIRST_PHOTON_DRAW > max(DRAWS * copies, COUNTER + 2 * copies)
    assert FIRST_PHOTON_DRAW + PHOTON_DRAWS * copies < 1 << 30  # thinning
    pairs = source("z")
    key = keys(1, pairs.run, pairs.luminosityBlock, pairs.event)
    nothing = np.zeros(1000)
    part = embed(
        pairs.take(np.arange(1000, 2000)),
        nothing,
        nothing,
        key[1000:2000],
        3,
        narrow_line(born("z")),
        radiation="exponentiated",
    )
    np.testing.assert_array_equal(made("z", "exponentiated")[3].mass[1000:2000], part.mass)


# weights ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "radiation"), CASES)
def test_weights_make_a_stronger_radiator(name, radiation):
    found = made(name, radiation)
    weight = np.concatenate([fsr_weight(one, 1.1) for one in found])
    assert weight.mean() == pytest.approx(1, abs=4 * weight.std() / np.sqrt(len(weight)))
    lost = softening(found, name)
    nominal, stronger = tails(name, radiation), tails(name, radiation, 1.1)
    for edge, expected, before in zip(EDGES, stronger, nominal, strict=True):
        values = weight * (lost > edge)
        error = values.std() / np.sqrt(len(values))
        assert values.mean() == pytest.approx(expected, abs=4 * error + mass_terms(name))
        # and the pairs that carry the weights are themselves: the difference is far better known
        more = (weight - 1) * (lost > edge)
        error = more.std() / np.sqrt(len(more))
        change = expected - before
        assert more.mean() == pytest.approx(change, abs=4 * error + 0.1 * mass_terms(name))


@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_weighted_leading_log_is_the_toys_with_another_coupling(rate, monkeypatch):
    monkeypatch.setattr(calib.toys.decay, "ALPHA", rate * ALPHA)
    random = np.random.default_rng(5)
    mass = np.full(400_000, born("z"))
    toys = -np.log1p(-calib.toys.decay.photon_fraction(mass, random))
    toys -= np.log1p(-calib.toys.decay.photon_fraction(mass, random))
    found = made("z", "leading_log")
    lost = softening(found, "z")
    weight = np.concatenate([fsr_weight(one, rate) for one in found])
    for edge in EDGES:
        seen, expected = weight * (lost > edge), toys > edge
        error = np.hypot(seen.std() / np.sqrt(len(seen)), expected.std() / np.sqrt(len(toys)))
        assert seen.mean() == pytest.approx(expected.mean(), abs=4 * error + mass_terms("z"))


@pytest.mark.parametrize("radiation", ["none", "leading_log", "exponentiated"])
def test_weights_of_the_same_strength_are_one(radiation):
    np.testing.assert_array_equal(fsr_weight(made("z", radiation)[0], 1.0), 1.0)


def test_impossible_strengths():
    with pytest.raises(ValueError, match="must stay between 0 and 1"):
        fsr_weight(made("z", "leading_log")[0], 6.0)
    for radiation in ("leading_log", "exponentiated"):
        with pytest.raises(ValueError, match="FSR strength -1"):
            fsr_weight(made("z", radiation)[0], -1.0)
