"""Simulated dimuons with known truth: events to try a calibration on, not a detector simulation.

J/psi, Upsilon, Z or H -> mu mu with a realistic pair pt, final-state radiation, a resolution that
depends on eta and pt, a ptErr that is wrong by a known factor, a known scale and an exponential
background. The momentum scale may depend on eta, pt and charge (A, e, M), with a resolution per
eta bin: see `momentum_truth`; d0 and z0 may be there as well. Written apart from the code that
calibrates, so that it can test it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.physics.constants import RESONANCES
from calib.physics.kinematics import mass as pair_mass
from calib.toys import decay
from calib.toys.impact_parameter import with_impact_parameters
from calib.toys.truth import Truth, momentum_truth, named_truth
from calib.types import Array, BoolArray

__all__ = ["ToyEvents", "Truth", "biased", "generate", "momentum_truth", "named_truth"]

BLOCK, SMALL_BLOCK = 400_000, 65_536
"""Most pairs made at a time; the small one stays in the processor's cache."""

TRIES = 20
"""Blocks without an accepted pair before we give up."""

KEPT = {"jpsi": (2.6, 3.6), "upsilon": (7.6, 12.2), "z": (60.0, 125.0), "h": (105.0, 145.0)}
"""Masses that are written with an injected momentum scale, in GeV: five resolutions beyond the
windows of the fits, so that a sample that is smeared anew misses nothing at their edges."""


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
    mass_window: tuple[float, float] | None = None,
    max_abs_eta: float = 2.4,
    first_event: int = 1,
) -> ToyEvents:
    """Return n reconstructed pairs.

    Parameters
    ----------
    resonance : str
        One of ``calib.physics.constants.RESONANCES``.
    n : int
        Number of pairs, all within the acceptance and the resonance's mass window.
    seed : int
        Of all random numbers.
    truth : Truth, optional
        What is put in; by default that of the resonance.
    simulation : bool
        Pairs of a simulated sample: no background, one run number, generator weights of 1.
    min_pt : (float, float)
        Least reconstructed pt of the leading and the other muon, in GeV; well below the usual
        cuts of the resonance where it is not given.
    mass_window : (float, float), optional
        Reconstructed masses that are kept, in GeV: those of the resonance, or with a momentum
        scale put in those of ``KEPT``.
    max_abs_eta : float
        Largest |eta| of the reconstructed muons.
    first_event : int
        Number of the first event.

    Returns
    -------
    ToyEvents
        n pairs with their generated muons.

    Raises
    ------
    InputError
        If there is no such resonance, or its pairs are never accepted.
    """
    if resonance not in RESONANCES:
        raise InputError(
            f"resonance {resonance!r} is not known; choose one of {', '.join(RESONANCES)}"
        )
    truth = truth or Truth()
    cuts = _cuts(resonance, truth, min_pt, mass_window, max_abs_eta)
    random = np.random.default_rng([seed, 20_11, int(simulation)])
    share = 0.0 if simulation else _generated_share(resonance, truth)
    most = SMALL_BLOCK if truth.has_momentum_scale else BLOCK
    parts: list[dict[str, Array]] = []
    made = 0
    while made < n:
        ask = int((n - made) * 2.6) + 200
        part = _block(resonance, min(ask, most), random, truth, share, cuts)
        parts.append(part)
        made += len(part["pt1"])
        if made == 0 and len(parts) == TRIES:
            raise InputError(
                f"resonance {resonance}: none of {TRIES} blocks of toys has a pair with pt above"
                f" {cuts.min_pt[0]:g} and {cuts.min_pt[1]:g} GeV and a mass in"
                f" {cuts.mass_window}; correct the truth"
            )
    columns = {key: np.concatenate([p[key] for p in parts])[:n] for key in parts[0]}
    del parts
    injected = {**asdict(truth), "min_pt": cuts.min_pt, "mass_window": cuts.mass_window}
    if truth.impact_parameter is None:
        del injected["impact_parameter"]
    if not truth.phi_edges:
        for key in ("phi_edges", "A_phi", "M_phi"):
            del injected[key]
    events = _as_events(columns, random, injected, simulation, resonance, first_event)
    if truth.impact_parameter is None:
        return events
    pairs = with_impact_parameters(events.pairs, truth.impact_parameter, seed, simulation)
    return replace(events, pairs=pairs)


@dataclass(frozen=True)
class _PtCuts:
    """On reconstructed muons: least pt of the harder and the softer one, |eta|, mass; GeV."""

    min_pt: tuple[float, float]
    mass_window: tuple[float, float]
    max_abs_eta: float


def _cuts(
    resonance: str,
    truth: Truth,
    min_pt: tuple[float, float] | None,
    mass_window: tuple[float, float] | None,
    max_abs_eta: float,
) -> _PtCuts:
    usual = RESONANCES[resonance].window
    heavy = (20.0, 15.0) if truth.has_momentum_scale else (26.0, 15.0)
    return _PtCuts(
        min_pt or (heavy if _is_heavy(resonance) else (3.0, 3.0)),
        mass_window or (KEPT[resonance] if truth.has_momentum_scale else usual),
        max_abs_eta,
    )


def _is_heavy(resonance: str) -> bool:
    return resonance in ("z", "h")


def _background_range(resonance: str, truth: Truth) -> tuple[float, float]:
    """Return the masses in which background is made: beyond what is kept, by the resolution."""
    low, high = RESONANCES[resonance].window
    if truth.has_momentum_scale:
        low, high = KEPT[resonance]
    margin = 0.08 * low
    return low - margin / 2, high + margin / 2


def _generated_share(resonance: str, truth: Truth) -> float:
    """Return the share of background to make, so that it is right in the resonance's window."""
    if not truth.has_momentum_scale:
        return truth.background
    low, high = _background_range(resonance, truth)
    window = RESONANCES[resonance].window
    edges = -np.expm1(-truth.slope * (np.array([*window, high]) - low))
    if truth.slope == 0:
        edges = np.array([*window, high]) - low
    inside = float((edges[1] - edges[0]) / edges[2])
    return truth.background / (truth.background + inside * (1 - truth.background))


def _block(
    resonance: str, n: int, random: np.random.Generator, truth: Truth, share: float, cuts: _PtCuts
) -> dict[str, Array]:
    """Return the accepted pairs of n generated ones; muon 1 is the positive one."""
    mass, is_background, decayed = _decayed(resonance, n, random, truth, share)
    if truth.has_momentum_scale:
        # what cannot be accepted goes before it costs more: eta is final, and 0.75 of the least
        # pt is ten resolutions away (without a scale put in the seeds would change)
        near = _in_acceptance(decayed, cuts, 0.75)
        mass, is_background = mass[near], is_background[near]
        decayed = {key: values[near] for key, values in decayed.items()}

    muons = dict(decayed)
    for name, q in (("1", 1), ("2", -1)):
        radiated = np.where(is_background, 0.0, decay.photon_fraction(mass, random))
        gen_pt = decayed["pt" + name] * (1 - radiated)
        muons["gen_pt" + name] = gen_pt
        pt, pt_err = _measured(
            gen_pt, decayed["eta" + name], decayed["phi" + name], q, truth, random
        )
        muons["pt" + name], muons["pt_err" + name] = pt, pt_err
    reco = pair_mass(
        muons["pt1"], muons["eta1"], muons["phi1"], muons["pt2"], muons["eta2"], muons["phi2"]
    )
    low, high = cuts.mass_window
    keep = _in_acceptance(muons, cuts) & (reco >= low) & (reco < high)
    muons["background"] = is_background.astype(float)
    return {key: values[keep] for key, values in muons.items()}


def _decayed(
    resonance: str, n: int, random: np.random.Generator, truth: Truth, share: float
) -> tuple[Array, BoolArray, dict[str, Array]]:
    """Return masses, which are background, and the muons before they radiate."""
    heavy = _is_heavy(resonance)
    is_background = random.random(n) < share
    low, high = _background_range(resonance, truth)
    mass = np.where(
        is_background,
        decay.exponential(n, low, high, truth.slope, random),
        decay.line(resonance, n, random),
    )
    pair_pt = decay.pair_pt(n, heavy, truth.pair_pt, random)
    pair_pt = np.where(is_background & heavy, random.exponential(30.0, n), pair_pt)
    rapidity = decay.rapidity(n, random)
    flat = is_background | (resonance != "z")
    cos = np.where(flat, random.uniform(-1, 1, n), decay.one_plus_cos2(n, random))
    plus, minus = decay.decay(mass, pair_pt, rapidity, cos, random)
    muons = {
        key + name: values
        for name, muon in (("1", plus), ("2", minus))
        for key, values in zip(("pt", "eta", "phi"), muon, strict=True)
    }
    return mass, is_background, muons


def _in_acceptance(muons: dict[str, Array], cuts: _PtCuts, share: float = 1.0) -> BoolArray:
    """Return which pairs are above that share of the least pt, and inside in eta."""
    higher = np.maximum(muons["pt1"], muons["pt2"])
    lower = np.minimum(muons["pt1"], muons["pt2"])
    return np.asarray(
        (higher >= share * cuts.min_pt[0])
        & (lower >= share * cuts.min_pt[1])
        & (np.abs(muons["eta1"]) < cuts.max_abs_eta)
        & (np.abs(muons["eta2"]) < cuts.max_abs_eta)
    )


def _measured(
    gen_pt: Array, eta: Array, phi: Array, q: int, truth: Truth, random: np.random.Generator
) -> tuple[Array, Array]:
    """Return pt and ptErr of muons with charge q: smeared in k, then biased."""
    n, at = len(gen_pt), truth.bins(eta)
    width = np.hypot(np.asarray(truth.a)[at], np.asarray(truth.c)[at] * gen_pt)
    if truth.spread or not truth.has_momentum_scale:
        width = width * np.exp(truth.spread * random.normal(size=n))
    k = (1 + width * truth.resolution_scale * random.normal(size=n)) / gen_pt
    k = np.where(k > 1e-5, k, 1e-5)
    if truth.has_momentum_scale:
        k = biased(k, q, *truth.scale_of(eta, phi))
    pt = truth.scale / k
    return pt, pt * width / np.asarray(truth.pt_err_factor)[at]


def biased(k_true: Array, q: int, A: Array, e: Array, M: Array) -> Array:
    """Return the measured k, with k_true = (1 + A - e k) k + q M.

    Parameters
    ----------
    k_true : array, shape (n,)
        1/pt, in 1/GeV.
    q : int
        Charge, 1 or -1.
    A : array, shape (n,)
        Magnetic field, without unit.
    e : array, shape (n,)
        Energy loss, in GeV.
    M : array, shape (n,)
        Sagitta, in 1/GeV.

    Returns
    -------
    array, shape (n,)
        In 1/GeV.
    """
    straight = np.maximum(k_true - q * M, 1e-6)
    root = np.sqrt(np.maximum((1 + A) ** 2 - 4 * e * straight, 0.0))
    return np.asarray(2 * straight / (1 + A + root))


def _as_events(
    columns: dict[str, Array],
    random: np.random.Generator,
    injected: dict[str, Any],
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
    return ToyEvents(pairs, is_background, injected, resonance, simulation)
