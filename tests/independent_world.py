"""The worlds that ``tests.independent`` makes events of: nature and detector, by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tests.independent_nature import Array

RINGS = (0.0, 0.9, 1.8, 2.4)
MAX_ETA = 2.4

Scale = float | tuple[float, ...] | Callable[[Array], Array]


@dataclass(frozen=True)
class World:
    """What nature and the detector are; every default is the clean world.

    Parameters
    ----------
    pair_pt : str
        ``smooth``; ``data`` as measured for the Z, and softer for the J/psi.
    photon : bool
        Photon exchange and its interference with the Z.
    mass_power : float
        The line shape is multiplied by m to this power.
    radiation : str
        ``structure_function`` or ``exponentiated``: photons one by one, beyond the leading log.
    radiation_strength : float
        Multiplies the radiator beta.
    resolution : float
        Multiplies the true resolution, and ptErr with it.
    spread : float
        Log-normal, of the resolution of each muon; ptErr knows of it.
    ring_factors : three floats
        True resolution over ptErr by ring of |eta| 0, 0.9, 1.8, 2.4; so are the next four.
    pt_err_power : float
        p of (pt/45)^p.
    pt_err_phi : float
        a of 1 + a cos(phi).
    within_ring : float
        w of 1 - w ... 1 + w, linear in |eta| across each ring.
    pt_err_noise : float
        Log-normal, of ptErr alone.
    tails, tail_width : float
        Share of the muons whose resolution is so many times wider; ptErr does not know.
    scale : float
        Largest relative shift of pt, a smooth function of eta and charge.
    A, e, M : float, one value for each of equal bins of eta in [-2.4, 2.4], or function of eta
        k_true / k = 1 + A - e k + q M / k with the measured k = 1/pt in 1/GeV.
    A_phi : float
        Amplitude of cos(2 phi) in A.
    background, slope : float, optional
        Share in the analysis window (Z 75-105, J/psi 2.9-3.3), and of exp(-slope m) in 1/GeV.
    background_turn_on : (float, float), optional
        Mass and width of an error function that multiplies the background, in GeV.
    turn_on : (float, float), optional
        Of the efficiency in the pt of the leading muon, in GeV: half of its height, width.
    negative_share : float
        Share of the weights of a simulation that are -1.
    """

    pair_pt: str = "smooth"
    photon: bool = True
    mass_power: float = 0.0
    radiation: str = "structure_function"
    radiation_strength: float = 1.0
    resolution: float = 1.0
    spread: float = 0.10
    ring_factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pt_err_power: float = 0.0
    pt_err_phi: float = 0.0
    within_ring: float = 0.0
    pt_err_noise: float = 0.0
    tails: float = 0.0
    tail_width: float = 2.5
    scale: float = 0.0
    A: Scale = 0.0
    e: Scale = 0.0
    M: Scale = 0.0
    A_phi: float = 0.0
    background: float | None = None
    slope: float | None = None
    background_turn_on: tuple[float, float] | None = None
    turn_on: tuple[float, float] | None = None
    negative_share: float = 0.0

    def __post_init__(self) -> None:
        if self.pair_pt not in ("smooth", "data"):
            raise ValueError(f"pair_pt {self.pair_pt!r} is not 'smooth' or 'data'")
        if self.radiation not in ("structure_function", "exponentiated"):
            raise ValueError(f"radiation {self.radiation!r} is not known")

    def digest(self) -> str:
        """Return what is the same for the same world; functions count by their values."""
        at = np.linspace(-MAX_ETA, MAX_ETA, 481)
        known: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        known = {k: np.asarray(v(at)).tolist() if callable(v) else v for k, v in known.items()}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def at_eta(values: Scale, eta: Array) -> Array:
    """Return A, e or M at each eta."""
    if callable(values):
        return np.asarray(values(eta), dtype=float)
    if isinstance(values, tuple):
        cell = np.floor((eta + MAX_ETA) * len(values) / (2 * MAX_ETA)).astype(np.int64)
        return np.asarray(values)[np.clip(cell, 0, len(values) - 1)]
    return np.full(np.shape(eta), float(values))


def resolution(pt: Array, eta: Array) -> Array:
    """Return sigma_k / k = a(eta) (+) c(eta) pt: 0.8 % at eta 0 and 40 GeV, 2.7 % at 2.4."""
    far = np.abs(eta) / MAX_ETA
    a, c = 0.007 + 0.015 * far**2, 1e-4 * (1 + 3 * far**3)
    return np.asarray(np.sqrt(a**2 + (c * pt) ** 2))


def pt_err_factor(world: World, pt: Array, eta: Array, phi: Array) -> Array:
    """Return the true resolution over ptErr of each muon, without noise and tails."""
    at = np.abs(eta)
    ring = np.clip(np.searchsorted(RINGS, at, side="right") - 1, 0, 2)
    factor = np.asarray(world.ring_factors)[ring]
    if world.pt_err_power:
        factor = factor * (pt / 45) ** world.pt_err_power
    if world.pt_err_phi:
        factor = factor * (1 + world.pt_err_phi * np.cos(phi))
    if world.within_ring:
        low, high = np.asarray(RINGS)[ring], np.asarray(RINGS)[ring + 1]
        factor = factor * (1 + world.within_ring * (2 * (at - low) / (high - low) - 1))
    return np.asarray(factor)


def measured_pt(world: World, pt: Array, eta: Array, phi: Array, charge: int) -> Array:
    """Return the pt that the detector's momentum scale makes of an unbiased one."""
    if world.scale:
        shape = 0.5 * np.sin(1.4 * eta + 0.3) + 0.5 * charge * np.cos(1.9 * eta)
        pt = pt * (1 + world.scale * shape)
    if all(v == 0.0 for v in (world.A, world.e, world.M, world.A_phi)):
        return pt
    a, e, m = (at_eta(v, eta) for v in (world.A, world.e, world.M))
    a = a + world.A_phi * np.cos(2 * phi)
    true = 1 / pt
    k = true
    for _ in range(5):  # each is e k, some 1e-3, closer
        k = (true - charge * m + e * k**2) / (1 + a)
    return np.asarray(1 / k)


def momentum_world(simulation: bool = False, n_eta: int = 48) -> World:
    """Return a clean world with a momentum scale of a real detector's size.

    A of 1e-3, e of some MeV, M of 2e-5/GeV in data; less and other ones in the simulation, whose
    resolution is 6 % too good. One value for each of n_eta equal bins of eta.
    """
    eta = MAX_ETA * (2 * np.arange(n_eta) + 1 - n_eta) / n_eta
    far = np.abs(eta) / MAX_ETA
    if simulation:
        a = 2e-4 * np.cos(2.7 * eta) - 1e-4
        e, m = 8e-4 * (1 + far), 6e-6 * np.sin(3.1 * eta)
    else:
        a = 6e-4 + 7e-4 * np.sin(1.2 * eta + 0.5) - 3e-4 * np.cos(4 * eta)
        e, m = 2.5e-3 + 3.5e-3 * far**3, 1.6e-5 * np.sin(1.6 * eta) + 6e-6 * np.cos(4.3 * eta)
    values = {"A": tuple(a.tolist()), "e": tuple(e.tolist()), "M": tuple(m.tolist())}
    return World(**values, resolution=0.94 if simulation else 1.0)


def worlds() -> dict[str, World | tuple[World, World]]:
    """Return the worlds of the proof by name; where there are two, of data and of simulation."""
    six = (1.06, 0.94, 1.06)
    jpsi, simulated = momentum_world(), momentum_world(simulation=True)
    together = World(
        pair_pt="data",
        radiation_strength=1.05,
        ring_factors=six,
        pt_err_power=0.06,
        pt_err_phi=0.04,
        within_ring=0.10,
        pt_err_noise=0.08,
        tails=0.01,
        scale=4e-4,
        background=0.02,
        turn_on=(24.0, 2.0),
    )
    return {
        "clean": World(),
        "clean_rings": World(ring_factors=six),
        "pt_err_pt": World(pt_err_power=0.25),
        "pt_err_phi": World(pt_err_phi=0.10),
        "tails": World(tails=0.02),
        "pt_err_noise": World(pt_err_noise=0.15),
        "within_ring": World(within_ring=0.20),
        "scale": World(scale=1e-3),
        "background": World(background=0.03),
        "turn_on": World(turn_on=(24.0, 2.0)),
        "pair_pt": World(pair_pt="data"),
        "radiation": World(radiation_strength=1.15),
        "simulation_radiation": (World(), World(radiation_strength=0.7)),
        "simulation_negative": (World(), World(negative_share=0.15)),
        "together": together,
        "jpsi_clean": (jpsi, simulated),
        "jpsi_radiation": (replace(jpsi, radiation_strength=1.2), simulated),
        "jpsi_background": (
            replace(jpsi, background=0.15, background_turn_on=(2.95, 0.12)),
            simulated,
        ),
        "jpsi_turn_on": (replace(jpsi, background=0.15, turn_on=(6.0, 1.0)), simulated),
        "jpsi_tails": (replace(jpsi, tails=0.02), simulated),
        "jpsi_phi": (replace(jpsi, A_phi=5e-4), simulated),
    }
