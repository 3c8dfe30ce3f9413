"""Simulated dimuons with known truth: events to try a calibration on, not a detector simulation.

Z -> mu mu with a realistic pair pt, final-state radiation, a resolution that depends on |eta|
and pt, a ptErr that is wrong by a known factor in each |eta| ring, a known scale, and an
exponential background. Written apart from the code that calibrates, so that it can test it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calib.arrays import Array, BoolArray
from calib.constants import ALPHA, MUON_MASS, RESONANCES
from calib.errors import InputError
from calib.kinematics import mass as pair_mass
from calib.pairs import Muons, Pairs

MIN_PHOTON = 1e-4
"""Smallest energy fraction of a radiated photon."""


@dataclass(frozen=True)
class Truth:
    """What is put in.

    Parameters
    ----------
    ring_edges, a, c : per |eta| ring
        sigma_k / k = a (+) c pt (c in 1/GeV).
    pt_err_factor : per |eta| ring
        True resolution over the ptErr that is written.
    spread : float
        Relative spread of the resolution from muon to muon (log-normal; ptErr knows of it).
    resolution_scale : float
        Multiplies the true resolution, not the ptErr (0.88: a simulation 12 % too good).
    scale : float
        The reconstructed pt is the true one times this.
    background : float
        Share of the pairs in the window that are background.
    slope : float
        Of the background, exp(-slope m), in 1/GeV.
    pair_pt : float
        Mean pt of the pairs, about, in GeV.
    """

    ring_edges: tuple[float, ...] = (0.0, 0.9, 1.8, 2.4)
    a: tuple[float, ...] = (0.0075, 0.0125, 0.0190)
    c: tuple[float, ...] = (1.1e-4, 1.5e-4, 2.6e-4)
    pt_err_factor: tuple[float, ...] = (1.10, 1.20, 1.32)
    spread: float = 0.12
    resolution_scale: float = 1.0
    scale: float = 1.0
    background: float = 0.03
    slope: float = 0.03
    pair_pt: float = 14.0


@dataclass(frozen=True)
class ToyEvents:
    """Pairs with their generated muons (NaN for background), and the truth behind them."""

    pairs: Pairs
    background: BoolArray
    truth: dict[str, Any]
    resonance: str
    simulation: bool = False


def generate(
    resonance: str,
    n: int,
    *,
    seed: int = 1,
    truth: Truth | None = None,
    simulation: bool = False,
    min_pt: tuple[float, float] | None = None,
    max_abs_eta: float = 2.4,
    first_event: int = 1,
) -> ToyEvents:
    """Return n reconstructed pairs.

    Parameters
    ----------
    resonance : str
        One of ``calib.constants.RESONANCES``.
    n : int
        Number of pairs, all within the acceptance and the resonance's mass window.
    seed : int
    truth : Truth, optional
    simulation : bool
        Pairs of a simulated sample: no background, one run number, generator weights of 1.
    min_pt : (float, float)
        Least reconstructed pt of the leading and the other muon, in GeV; well below the usual
        cuts of the resonance where it is not given.
    max_abs_eta : float
    first_event : int
        Number of the first event.

    Raises
    ------
    InputError
        If there is no such resonance.
    """
    if resonance not in RESONANCES:
        raise InputError(
            f"resonance {resonance!r} is not known; choose one of {', '.join(RESONANCES)}"
        )
    truth = truth or Truth()
    min_pt = min_pt or ((26.0, 15.0) if resonance in ("z", "h") else (3.0, 3.0))
    random = np.random.default_rng([seed, 20_11, int(simulation)])
    share = 0.0 if simulation else truth.background
    parts: list[dict[str, Array]] = []
    made = 0
    while made < n:
        ask = int((n - made) * 2.6) + 200
        part = _block(resonance, min(ask, 400_000), random, truth, share, min_pt, max_abs_eta)
        parts.append(part)
        made += len(part["pt1"])
    columns = {key: np.concatenate([p[key] for p in parts])[:n] for key in parts[0]}
    return _as_events(columns, random, truth, simulation, resonance, first_event)


def _block(
    resonance: str,
    n: int,
    random: np.random.Generator,
    truth: Truth,
    share: float,
    min_pt: tuple[float, float],
    max_abs_eta: float,
) -> dict[str, Array]:
    """Return the accepted pairs of n generated ones."""
    heavy = resonance in ("z", "h")
    window = RESONANCES[resonance].window
    margin = 0.08 * window[0]
    is_background = random.random(n) < share
    mass = np.where(
        is_background,
        _exponential(n, window[0] - margin / 2, window[1] + margin / 2, truth.slope, random),
        _line(resonance, n, random),
    )
    pair_pt = _pair_pt(n, heavy, truth, random)
    pair_pt = np.where(is_background & heavy, random.exponential(30.0, n), pair_pt)
    rapidity = random.uniform(-2.6, 2.6, n)
    # plateau with falling edges
    rapidity = np.where(random.random(n) < np.exp(-((rapidity / 2.2) ** 6)), rapidity, rapidity / 2)
    flat = is_background | (resonance != "z")
    cos = np.where(flat, random.uniform(-1, 1, n), _one_plus_cos2(n, random))
    plus, minus = _decay(mass, pair_pt, rapidity, cos, random)

    muons = {}
    for name, (pt, eta, phi) in (("1", plus), ("2", minus)):
        radiated = np.where(is_background, 0.0, _photon_fraction(mass, random))
        gen_pt = pt * (1 - radiated)
        muons["gen_pt" + name], muons["eta" + name], muons["phi" + name] = gen_pt, eta, phi
        ring = np.clip(np.digitize(np.abs(eta), truth.ring_edges) - 1, 0, len(truth.a) - 1)
        a, c = np.asarray(truth.a)[ring], np.asarray(truth.c)[ring]
        width = np.hypot(a, c * gen_pt) * np.exp(truth.spread * random.normal(size=n))
        true_width = width * truth.resolution_scale
        k = (1 + true_width * random.normal(size=n)) / gen_pt
        pt = truth.scale / np.where(k > 1e-5, k, 1e-5)
        muons["pt" + name] = pt
        muons["pt_err" + name] = pt * width / np.asarray(truth.pt_err_factor)[ring]
    reco = pair_mass(
        muons["pt1"], muons["eta1"], muons["phi1"], muons["pt2"], muons["eta2"], muons["phi2"]
    )
    higher = np.maximum(muons["pt1"], muons["pt2"])
    lower = np.minimum(muons["pt1"], muons["pt2"])
    keep = (
        (higher >= min_pt[0])
        & (lower >= min_pt[1])
        & (np.abs(muons["eta1"]) < max_abs_eta)
        & (np.abs(muons["eta2"]) < max_abs_eta)
        & (reco >= window[0])
        & (reco < window[1])
    )
    muons["background"] = is_background.astype(float)
    return {key: values[keep] for key, values in muons.items()}


def _pair_pt(n: int, heavy: bool, truth: Truth, random: np.random.Generator) -> Array:
    """Return the pt of the pairs, falling, in GeV."""
    if not heavy:  # both muons must reach the detector
        return truth.pair_pt * (0.4 + 0.6 * random.gamma(1.2, 0.83, n))
    pair_pt = truth.pair_pt * 0.45 * random.gamma(1.35, 1.48, n)
    recoil = random.random(n) < 0.12  # against jets
    return np.where(recoil, pair_pt + random.exponential(16.0, n), pair_pt)


def _line(resonance: str, n: int, random: np.random.Generator) -> Array:
    """Return masses: a Breit-Wigner with running width for the Z, else narrow lines."""
    masses, width = RESONANCES[resonance].masses, RESONANCES[resonance].width
    if width < 0.1:
        shares = np.array([0.62, 0.23, 0.15][: len(masses)])
        return random.choice(np.array(masses), n, p=shares / shares.sum())
    (m0,) = masses

    def density(m: Array) -> Array:
        s = m**2
        return s / ((s - m0**2) ** 2 + (s * width / m0) ** 2)

    return _inverse(density, 60.0, 130.0, n, random)


def _inverse(
    density: Callable[[Array], Array], low: float, high: float, n: int, random: np.random.Generator
) -> Array:
    grid = np.linspace(low, high, 20_001)
    cumulative = np.concatenate([[0], np.cumsum(density(0.5 * (grid[1:] + grid[:-1])))])
    return np.interp(random.random(n), cumulative / cumulative[-1], grid)


def _exponential(
    n: int, low: float, high: float, slope: float, random: np.random.Generator
) -> Array:
    u = random.random(n)
    if slope == 0:
        return low + u * (high - low)
    return np.asarray(low - np.log1p(-u * -np.expm1(-slope * (high - low))) / slope)


def _one_plus_cos2(n: int, random: np.random.Generator) -> Array:
    """Return cos(theta) from 1 + cos^2, by Cardano's formula."""
    u = 4 * random.random(n) - 2
    root = np.cbrt(u + np.sqrt(u**2 + 1))
    return np.asarray(root - 1 / root)


def _photon_fraction(mass: Array, random: np.random.Generator) -> Array:
    """Return the energy fraction that one muon radiates, 0 for most.

    Leading logarithm, collinear: dP/dx = (alpha/pi)(ln(m^2/m_mu^2) - 1)(1 + (1-x)^2)/(2x).
    """
    strength = ALPHA / np.pi * (2 * np.log(mass / MUON_MASS) - 1)
    x = MIN_PHOTON ** random.random(len(mass))  # 1/x
    emits = random.random(len(mass)) < strength * -np.log(MIN_PHOTON)
    accepted = random.random(len(mass)) < (1 + (1 - x) ** 2) / 2
    return np.where(emits & accepted, x, 0.0)


def _decay(
    mass: Array, pair_pt: Array, rapidity: Array, cos: Array, random: np.random.Generator
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Return (pt, eta, phi) of both muons in the laboratory."""
    n = len(mass)
    azimuth, pair_phi = random.uniform(-np.pi, np.pi, n), random.uniform(-np.pi, np.pi, n)
    p = np.sqrt(mass**2 / 4 - MUON_MASS**2)
    sin = np.sqrt(1 - cos**2)
    px, py, pz = p * sin * np.cos(azimuth), p * sin * np.sin(azimuth), p * cos
    out = []
    for sign in (1.0, -1.0):
        x, y, z, e = sign * px, sign * py, sign * pz, mass / 2
        transverse_mass = np.hypot(mass, pair_pt)
        gamma, gamma_beta = transverse_mass / mass, pair_pt / mass
        x, e = gamma * x + gamma_beta * e, gamma * e + gamma_beta * x
        z, e = (
            np.cosh(rapidity) * z + np.sinh(rapidity) * e,
            np.cosh(rapidity) * e + np.sinh(rapidity) * z,
        )
        pt = np.hypot(x, y)
        phi = np.remainder(np.arctan2(y, x) + pair_phi + np.pi, 2 * np.pi) - np.pi
        out.append((pt, np.arcsinh(z / pt), phi))
    return out[0], out[1]


def _as_events(
    columns: dict[str, Array],
    random: np.random.Generator,
    truth: Truth,
    simulation: bool,
    resonance: str,
    first_event: int,
) -> ToyEvents:
    n = len(columns["pt1"])
    is_background = columns["background"] > 0
    plus_leads = columns["pt1"] >= columns["pt2"]
    nan = np.where(is_background, np.nan, 1.0)

    def muon(first: BoolArray, charge: Any) -> Muons:
        def pick(name: str) -> Array:
            return np.where(first, columns[name + "1"], columns[name + "2"])

        return Muons(
            pt=pick("pt"),
            eta=pick("eta"),
            phi=pick("phi"),
            charge=charge.astype(np.int64),
            pt_err=pick("pt_err"),
            gen_pt=pick("gen_pt") * nan,
            gen_eta=pick("eta") * nan,
            gen_phi=pick("phi") * nan,
        )

    leading = muon(plus_leads, np.where(plus_leads, 1, -1))
    subleading = muon(~plus_leads, np.where(plus_leads, -1, 1))
    number = np.arange(first_event, first_event + n, dtype=np.uint64)
    run = np.full(n, 1) if simulation else np.sort(random.integers(300_000, 300_020, n))
    assert leading.gen_pt is not None and leading.gen_eta is not None
    assert leading.gen_phi is not None and subleading.gen_pt is not None
    assert subleading.gen_eta is not None and subleading.gen_phi is not None
    pairs = Pairs(
        leading=leading,
        subleading=subleading,
        weight=np.ones(n),
        run=run.astype(np.uint64),
        luminosityBlock=(1 + number // np.uint64(500)).astype(np.uint64),
        event=number,
        gen_mass=pair_mass(
            leading.gen_pt,
            leading.gen_eta,
            leading.gen_phi,
            subleading.gen_pt,
            subleading.gen_eta,
            subleading.gen_phi,
        ),
    )
    return ToyEvents(pairs, is_background, asdict(truth), resonance, simulation)
