"""Z and J/psi decaying to two radiating muons, by means that calib does not use.

Amplitudes of the Z and the photon by helicity, rapidities from two toy parton densities,
Collins-Soper angles with A0, A2 and A4, and radiation by the second-order exponentiated structure
function. For ``tests.independent``; nothing of calib is imported, its numbers are of the PDG.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

Array = NDArray[np.float64]
Table = tuple[float, float, Array]

M_Z, GAMMA_Z = 91.1880, 2.4955
SIN2_THETA = 0.2315
ALPHA_AT_Z, ALPHA = 1 / 128.9, 1 / 137.036
M_MU = 0.1056584
M_JPSI = 3.09690
BEAM = 13_600.0
"""Energy of the collisions, in GeV."""

LUMINOSITY_POWER = -0.8
"""tau dL/dtau falls as m to this power around the Z."""

SHARE_UP = 0.57
"""Of the quark pairs that make a Z-like mass, before couplings, which are of up type."""

CHARGES = {"up": (2 / 3, 0.5), "down": (-1 / 3, -0.5), "lepton": (-1.0, -0.5)}
"""Charge, third component of the isospin."""

Z_MASSES = (50.0, 200.0)
MAX_RAPIDITY = 2.4

PT_AS_IN_DATA = np.array(
    [
        [0, 0.0],
        [0.5, 0.018],
        [1.5, 0.042],
        [2.5, 0.053],
        [3.5, 0.0555],
        [4.5, 0.0535],
        [6, 0.047],
        [8, 0.038],
        [10, 0.0305],
        [13, 0.0222],
        [16, 0.0164],
        [20, 0.0113],
        [25, 0.0074],
        [30, 0.0051],
        [40, 0.0027],
        [50, 0.00155],
        [60, 0.00094],
        [80, 0.0004],
        [100, 0.00019],
        [150, 4.3e-5],
        [200, 1.35e-5],
        [300, 2.2e-6],
        [500, 1e-7],
    ]
)
"""Pair pt in GeV and density in 1/GeV: read off measured Z at 13 TeV, rounded."""


def squared_amplitudes(mass: Array, kind: str, photon: bool = True) -> tuple[Array, Array]:
    """Return the helicity sums that go with 1 + cos^2 and with 2 cos, each of shape (n,).

    A_ij = Q_q Q_l / s + g_i g_j / (s - M^2 + i s Gamma / M): LL and RR go as (1 + cos)^2, the
    others as (1 - cos)^2, cos that of the negative muon to the quark. Times s, in 1/GeV^2.
    """
    s = mass**2
    propagator = 1 / (s - M_Z**2 + 1j * s * GAMMA_Z / M_Z)
    norm = np.sqrt(SIN2_THETA * (1 - SIN2_THETA))
    (q, q_iso), (lep, lep_iso) = CHARGES[kind], CHARGES["lepton"]
    quark = [(q_iso - q * SIN2_THETA) / norm, -q * SIN2_THETA / norm]
    muon = [(lep_iso - lep * SIN2_THETA) / norm, -lep * SIN2_THETA / norm]
    electric = q * lep / s if photon else 0.0
    squared = [[np.abs(electric + g * h * propagator) ** 2 for h in muon] for g in quark]
    same, other = squared[0][0] + squared[1][1], squared[0][1] + squared[1][0]
    return s * (same + other), s * (same - other)


def z_line(mass: Array, photon: bool = True) -> Array:
    """Return the density of the mass before radiation, not normalised."""
    up, down = (squared_amplitudes(mass, kind, photon)[0] for kind in ("up", "down"))
    parton = mass ** (LUMINOSITY_POWER - 1)
    return np.asarray(parton * (SHARE_UP * up + (1 - SHARE_UP) * down))


def z_asymmetry(mass: Array) -> Array:
    """Return r of 1 + cos^2 + r cos with respect to the quark."""
    up, down = (squared_amplitudes(mass, kind) for kind in ("up", "down"))
    even = SHARE_UP * up[0] + (1 - SHARE_UP) * down[0]
    return np.asarray(2 * (SHARE_UP * up[1] + (1 - SHARE_UP) * down[1]) / even)


def parton_rapidity(y: Array) -> tuple[Array, Array]:
    """Return the density of the rapidity of a Z, not normalised, and 2 P(quark along y) - 1."""
    x1, x2 = (M_Z / BEAM * np.exp(sign * y) for sign in (1, -1))

    def sea(x: Array) -> Array:
        return np.asarray(0.35 * x**-0.25 * (1 - x) ** 7)

    def quark(x: Array) -> Array:
        return np.asarray(sea(x) + 2.2 * x**0.65 * (1 - x) ** 3.5)

    along, against = quark(x1) * sea(x2), quark(x2) * sea(x1)
    return along + against, (along - against) / (along + against)


def inverse_table(x: Array, density: Array, n: int = 1 << 15) -> Table:
    """Return the inverse of a distribution on an even grid of its probability."""
    cumulative = np.concatenate([[0.0], np.cumsum(np.diff(x) * (density[1:] + density[:-1]) / 2)])
    return 0.0, 1.0, np.interp(np.linspace(0, 1, n + 1), cumulative / cumulative[-1], x)


def even_table(low: float, high: float, values: Array) -> Table:
    """Return a table of a function on an even grid."""
    return low, high, values


def look_up(table: Table, at: Array) -> Array:
    """Return the linear interpolation in a table on an even grid."""
    low, high, values = table
    place = (at - low) * ((len(values) - 1) / (high - low))
    cell = np.clip(place.astype(np.int64), 0, len(values) - 2)
    left = values[cell]
    return np.asarray(left + (place - cell) * (values[cell + 1] - left))


@lru_cache(maxsize=16)
def table_of(name: str) -> Table:
    """Return the table of a distribution or function by its name."""
    if name == "z_mass":
        mass = np.linspace(*Z_MASSES, 300_001)
        return inverse_table(mass, z_line(mass))
    if name == "z_asymmetry":
        return even_table(*Z_MASSES, z_asymmetry(np.linspace(*Z_MASSES, 4001)))
    if name == "z_rapidity":
        y = np.linspace(-MAX_RAPIDITY, MAX_RAPIDITY, 9601)
        return inverse_table(y, parton_rapidity(y)[0])
    if name == "z_dilution":
        y = np.linspace(-MAX_RAPIDITY, MAX_RAPIDITY, 961)
        return even_table(y[0], y[-1], parton_rapidity(y)[1])
    if name == "jpsi_rapidity":
        y = np.linspace(-MAX_RAPIDITY, MAX_RAPIDITY, 9601)
        return inverse_table(y, np.exp(-0.5 * (y / 2.6) ** 2))
    if name == "jpsi_pt":
        pt = np.linspace(8.0, 60.0, 52_001)
        return inverse_table(pt, pt / (1 + (pt / 7.0) ** 2) ** 2.9)
    if name == "jpsi_pt_soft":
        pt = np.linspace(8.0, 60.0, 52_001)
        return inverse_table(pt, pt / (1 + (pt / 4.5) ** 2) ** 3.2)
    assert name == "z_pt_as_in_data", name
    pt = np.linspace(0, 500, 100_001)
    known = PT_AS_IN_DATA
    logs = np.interp(pt, known[1:, 0], np.log(known[1:, 1]))
    rising = np.where(pt < known[1, 0], pt / known[1, 0], 1.0)
    return inverse_table(pt, rising * np.exp(logs))


def z_angles(mass: Array, pt: Array, y: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Return cos theta and phi of the negative muon in the Collins-Soper frame.

    (1 - A0/2)(1 + cos^2) + A0 sin^2 + A4 cos + (A2/2) sin^2 cos 2 phi with A2 = A0 (Lam and
    Tung): sampled exactly, the even part as a mixture, the sign and the quadrant afterwards.
    """
    n = len(mass)
    a0 = pt**2 / (pt**2 + 1.2 * mass**2)
    cos = random.random(n)
    which = random.random(n)
    squared = which < 0.25
    cos[squared] = np.cbrt(cos[squared])
    longitudinal = np.flatnonzero(random.random(n) < 0.5 * a0)
    cos[longitudinal] = np.abs(2 * random.beta(2, 2, len(longitudinal)) - 1)
    cos2 = cos**2
    even = (1 - 0.5 * a0) * (1 + cos2) + a0 * (1 - cos2)
    odd = look_up(table_of("z_asymmetry"), mass) * look_up(table_of("z_dilution"), y)
    odd *= (1 - a0) * cos
    cos = np.where(2 * random.random(n) * even < even + odd, cos, -cos)
    phi = 2 * np.pi * random.random(n)
    turned = 2 * random.random(n) * even > even + 0.5 * a0 * (1 - cos2) * np.cos(2 * phi)
    return cos, phi + 0.5 * np.pi * turned


def decay(
    mass: Array, pt: Array, y: Array, cos: Array, phi: Array, random: np.random.Generator
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Return (pt, eta, phi) of the negative and of the positive muon, from Collins-Soper angles.

    The pair is boosted along its pt, then along the beam, and turned at random around it.
    """
    p = np.sqrt(0.25 * mass**2 - M_MU**2)
    across = p * np.sqrt(1 - cos**2)
    x, side, along = across * np.cos(phi), across * np.sin(phi), p * cos
    stretch = np.sqrt(1 + (pt / mass) ** 2)
    up, down = np.exp(y), np.exp(-y)
    cosh, sinh = 0.5 * (up + down), 0.5 * (up - down)
    around = 2 * np.pi * random.random(len(mass))
    muons = []
    for sign in (1, -1):
        px, py = sign * stretch * x + 0.5 * pt, sign * side
        energy = 0.5 * mass * stretch + sign * pt / mass * x
        pz = sign * along * cosh + energy * sinh
        transverse = np.sqrt(px**2 + py**2)
        turned = np.arctan2(py, px) + around
        turned -= 2 * np.pi * (turned > np.pi)
        muons.append((transverse, np.arcsinh(pz / transverse), turned))
    return muons[0], muons[1]


def invariant_mass(
    pt1: Array, eta1: Array, phi1: Array, pt2: Array, eta2: Array, phi2: Array
) -> Array:
    """Return the mass of two muons, in GeV."""
    z1, z2 = np.sinh(eta1), np.sinh(eta2)
    e1 = np.sqrt((1 + z1**2) * pt1**2 + M_MU**2)
    e2 = np.sqrt((1 + z2**2) * pt2**2 + M_MU**2)
    product = e1 * e2 - pt1 * pt2 * (np.cos(phi1 - phi2) + z1 * z2)
    return np.asarray(np.sqrt(2 * (M_MU**2 + product)))


def radiator(mass: Array | float, strength: float = 1.0) -> Array:
    """Return eta = strength alpha/pi (ln(m^2/m_mu^2) - 1) of one muon: half of beta."""
    return np.asarray(strength * ALPHA / np.pi * (2 * np.log(np.asarray(mass) / M_MU) - 1))


def soft_free(z: Array, eta: float) -> Array:
    """Return D(z) / (eta (1 - z)^(eta - 1)): the structure function without its soft pole.

    Non-singlet, to second order and exponentiated (Jadach and Ward, Comput. Phys. Commun. 56
    (1990) 351; Skrzypek and Jadach, Z. Phys. C 49 (1991) 577).
    """
    soft = np.exp(eta * (0.75 - np.euler_gamma)) / gamma(1 + eta)
    second = 0.5 * (1 + 3 * z**2) * np.log(z) + (1 - z) ** 2
    return np.asarray(soft * (0.5 * (1 + z**2) - 0.25 * eta * second))


@lru_cache(maxsize=128)
def _radiation_table(eta: float, n: int) -> Array:
    """Return t = (1 - z)^eta on an even grid of its probability."""
    t = 1 - np.linspace(1, 0, 40_001) ** 2  # fine where much is radiated
    middle = 0.5 * (t[1:] + t[:-1])
    weight = np.diff(t) * soft_free(1 - middle ** (1 / eta), eta)
    cumulative = np.concatenate([[0.0], np.cumsum(weight)])
    return np.interp(np.linspace(0, 1, n + 1), cumulative / cumulative[-1], t)


def kept_fraction(mass: Array, strength: float, random: np.random.Generator) -> Array:
    """Return z, the share of its energy that each muon keeps, from the structure function."""
    if strength == 0 or len(mass) == 0:
        return np.ones(len(mass))
    n = 1 << 14
    eta = radiator(mass, strength)
    step = strength * 4e-4
    low = np.floor(eta.min() / step) * step
    rows = int(np.ceil((eta.max() - low) / step)) + 1
    table = np.stack([_radiation_table(round(low + i * step, 12), n) for i in range(rows)])
    place = random.random(len(mass)) * n
    cell = place.astype(np.int64)
    # between two rows one is chosen at random: the mixture of their densities
    row = ((eta - low) / step + random.random(len(mass))).astype(np.int64)
    flat = np.minimum(row, rows - 1) * (n + 1) + cell
    table = table.ravel()
    t = table[flat] + (place - cell) * (table[flat + 1] - table[flat])
    return np.asarray(1 - np.exp(np.log(np.maximum(t, 1e-300)) / eta))


SOFTEST = 1e-5
"""Least energy fraction of a photon that is radiated one by one."""


def kept_after_photons(mass: Array, strength: float, random: np.random.Generator) -> Array:
    """Return z of each muon after photons one by one: the first order, exponentiated.

    The number of photons is Poissonian; each takes x of what is left, as
    (alpha/pi) (ln(m^2 (1 - x)/m_mu^2) - 1) (1 + (1 - x)^2)/(2 x): beyond the leading log, the log
    is that of the mass after the photon.
    """
    eta = radiator(mass, strength)
    photons = random.poisson(eta * -np.log(SOFTEST))
    of = np.repeat(np.arange(len(mass)), photons)
    x = np.minimum(SOFTEST ** random.random(len(of)), 1 - 1e-9)
    lower_log = strength * ALPHA / np.pi * np.log1p(-x) / eta[of]
    real = random.random(len(of)) < 0.5 * (1 + (1 - x) ** 2) * np.maximum(1 + lower_log, 0)
    lost = np.bincount(of[real], weights=np.log1p(-x[real]), minlength=len(mass))
    return np.asarray(np.exp(lost))
