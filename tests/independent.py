"""Dimuon events that share no formula with calib: what the calibration is tested against.

Use it wherever a number of the calibration is compared with a truth; ``calib.toys`` has the
calibration's own line shape, radiator and rings of resolution, this has none of them. Only
``Pairs`` and ``Muons`` of calib are used, to hand the events over. Not a detector simulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.special import erf

from calib.events.pairs import Muons, Pairs
from tests import independent_nature as nature
from tests.independent_nature import Array
from tests.independent_world import (
    MAX_ETA,
    RINGS,
    World,
    measured_pt,
    momentum_world,
    pt_err_factor,
    resolution,
    worlds,
)

__all__ = [
    "CATEGORIES",
    "TrueFactors",
    "World",
    "category_of",
    "generate",
    "momentum_world",
    "stage1",
    "true_factors",
    "worlds",
]

BLOCK = 1 << 16
"""Pairs that are made at a time."""

LEADING_PT = (30, 45, 52, 62, 200)
RUNS = (300_000, 300_020)


@dataclass(frozen=True)
class Written:
    """What is written of a resonance: least pt of the two muons, masses; and background."""

    min_pt: tuple[float, float]
    mass: tuple[float, float]
    window: tuple[float, float]
    background: float
    slope: float


WRITTEN = {
    "z": Written((20.0, 15.0), (65.0, 120.0), (75.0, 105.0), 0.01, 0.03),
    "jpsi": Written((3.0, 3.0), (2.6, 3.6), (2.9, 3.3), 0.05, 1.5),
}


def generate(
    resonance: str,
    n: int,
    world: World | None = None,
    *,
    seed: int = 1,
    simulation: bool = False,
    signal_only: bool = False,
    first_event: int = 1,
) -> tuple[Pairs, dict[str, Array]]:
    """Return n reconstructed pairs, and what is true of them.

    Parameters
    ----------
    resonance : str
        ``z``: leading pt > 20, other > 15, 65 <= m < 120 GeV; ``jpsi``: pt > 3, 2.6 <= m < 3.6;
        |eta| < 2.4.
    n : int
        Number of pairs; of a simulation with negative weights n / (1 - 2 share)^2 are made, which
        know as much as n.
    world : World, optional
    seed : int
    simulation : bool
        No background, run 1, weights of +-1.
    signal_only : bool
    first_event : int
        Number of the first event.

    Returns
    -------
    Pairs
        Generated muons, after radiation, are not a number for background.
    dict of arrays, shape (n,)
        ``background``; ``tail_leading``; ``sigma_leading``: true relative resolution without
        tails; ``factor_leading``: that over ptErr / pt; the same of ``subleading``;
        ``sigma_mass`` in GeV, of the core; ``born_mass`` before radiation.
    """
    world = world or World()
    random = _random(seed, int(simulation), sorted(WRITTEN).index(resonance))
    if simulation:
        n = round(n / (1 - 2 * world.negative_share) ** 2)
    share = 0.0 if simulation or signal_only else _written_share(resonance, world)
    is_background = random.random(n) < share
    n_background = int(np.count_nonzero(is_background))
    found = _accepted(resonance, n - n_background, world, random, False)
    if n_background:
        other = _accepted(resonance, n_background, world, random, True)
        order = np.empty(n, dtype=np.int64)
        order[~is_background] = np.arange(n - n_background)
        order[is_background] = np.arange(n - n_background, n)
        found = {k: np.concatenate([found[k], other[k]])[order] for k in found}
    weight = np.ones(n)
    if simulation and world.negative_share:
        weight[random.random(n) < world.negative_share] = -1.0
    number = np.arange(first_event, first_event + n, dtype=np.uint64)
    run = np.full(n, 1) if simulation else np.sort(random.integers(*RUNS, n))
    return _as_pairs(found, weight, run.astype(np.uint64), number, is_background)


def _random(*seeds: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([*seeds, 77_013]))


@lru_cache(maxsize=256)
def _written_share(resonance: str, world: World) -> float:
    """Return the share of background among written pairs that makes it right in the window."""
    given = WRITTEN[resonance].background if world.background is None else world.background
    if given == 0:
        return 0.0
    low, high = WRITTEN[resonance].window
    inside = []
    for is_background in (False, True):
        pilot = _accepted(resonance, 50_000, world, _random(4, 8, 15), is_background)
        inside.append(np.mean((pilot["mass"] >= low) & (pilot["mass"] < high)))
    return float(given * inside[0] / (given * inside[0] + (1 - given) * inside[1]))


def _accepted(
    resonance: str, n: int, world: World, random: np.random.Generator, is_background: bool
) -> dict[str, Array]:
    parts = []
    made, tried = 0, 0
    while made < n:
        rate = made / tried if made else 0.4
        ask = int(min(BLOCK, 1.02 * (n - made) / rate + 500))
        parts.append(_block(resonance, ask, world, random, is_background))
        made, tried = made + len(parts[-1]["mass"]), tried + ask
        if tried > 1000 * (made + 1000):
            raise ValueError(f"{made} of {tried} pairs of {resonance} are accepted in {world}")
    if not parts:
        parts = [_block(resonance, 500, world, random, is_background)]
    return {k: np.concatenate([p[k] for p in parts])[:n] for k in parts[0]}


def _pair_pt(
    resonance: str, n: int, world: World, random: np.random.Generator, is_background: bool
) -> Array:
    soft = world.pair_pt == "data"
    if resonance == "jpsi":
        return nature.look_up(
            nature.table_of("jpsi_pt_soft" if soft or is_background else "jpsi_pt"),
            random.random(n),
        )
    if is_background:
        return random.exponential(25.0, n)
    if soft:
        return nature.look_up(nature.table_of("z_pt_as_in_data"), random.random(n))
    # x / (1 + x^2)^2.5, x = pt/13 GeV: mean 13 GeV
    return np.asarray(13.0 * np.sqrt(np.maximum((1 - random.random(n)) ** (-1 / 1.5) - 1, 0)))


def _mass(
    resonance: str, n: int, world: World, random: np.random.Generator, is_background: bool
) -> Array:
    if is_background:
        low, high = WRITTEN[resonance].mass
        margin = 0.1 * low
        slope = WRITTEN[resonance].slope if world.slope is None else world.slope
        x = np.linspace(low - margin, high + margin, 4001)
        density = np.exp(-slope * (x - low))
        if world.background_turn_on:
            at, width = world.background_turn_on
            density = density * 0.5 * (1 + erf((x - at) / width))
        return nature.look_up(nature.inverse_table(x, density, 8192), random.random(n))
    if resonance == "jpsi":
        return np.full(n, nature.M_JPSI)
    return nature.look_up(_z_mass_table(world.photon, world.mass_power), random.random(n))


@lru_cache(maxsize=16)
def _z_mass_table(photon: bool, power: float) -> nature.Table:
    mass = np.linspace(*nature.Z_MASSES, 300_001)
    return nature.inverse_table(mass, nature.z_line(mass, photon) * mass**power)


def _born(
    resonance: str, n: int, world: World, random: np.random.Generator, is_background: bool
) -> tuple[Array, list[tuple[Array, Array, Array]]]:
    """Return the masses and (pt, eta, phi) of the - and + muons before radiation, |eta| < 2.4."""
    mass = _mass(resonance, n, world, random, is_background)
    pt = _pair_pt(resonance, n, world, random, is_background)
    y = nature.look_up(nature.table_of(f"{resonance}_rapidity"), random.random(n))
    if resonance == "z" and not is_background:
        cos, phi = nature.z_angles(mass, pt, y, random)
    else:
        cos, phi = 2 * random.random(n) - 1, 2 * np.pi * random.random(n)
    minus, plus = nature.decay(mass, pt, y, cos, phi, random)
    # no muon gains more than a third: ten resolutions of the worst muon
    least = 0.75 * WRITTEN[resonance].min_pt[1]
    keep = np.flatnonzero(
        (np.abs(minus[1]) < MAX_ETA)
        & (np.abs(plus[1]) < MAX_ETA)
        & (minus[0] > least)
        & (plus[0] > least)
    )
    return mass[keep], [tuple(values[keep] for values in muon) for muon in (minus, plus)]


def _block(
    resonance: str, n: int, world: World, random: np.random.Generator, is_background: bool
) -> dict[str, Array]:
    """Return the accepted ones of n pairs; ``1`` is the negative muon."""
    born, muons = _born(resonance, n, world, random, is_background)
    columns = {"born": born}
    radiate = (
        nature.kept_fraction
        if world.radiation == "structure_function"
        else nature.kept_after_photons
    )
    for name, charge, (pt, eta, phi) in zip("12", (-1, 1), muons, strict=True):
        z = 1.0 if is_background else radiate(born, world.radiation_strength, random)
        gen = np.maximum(pt * z, 1e-3)
        columns |= {"gen" + name: gen, "eta" + name: eta, "phi" + name: phi}
        columns |= {k + name: v for k, v in _reconstructed(gen, eta, phi, charge, world, random)}
    first, second = columns["pt1"], columns["pt2"]
    columns["mass"] = nature.invariant_mass(
        first, columns["eta1"], columns["phi1"], second, columns["eta2"], columns["phi2"]
    )
    written = WRITTEN[resonance]
    leading = np.maximum(first, second)
    keep = (leading > written.min_pt[0]) & (np.minimum(first, second) > written.min_pt[1])
    keep &= (columns["mass"] >= written.mass[0]) & (columns["mass"] < written.mass[1])
    if world.turn_on:
        at, width = world.turn_on
        keep &= 2 * random.random(len(born)) < 1 + erf((leading - at) / (np.sqrt(2) * width))
    chosen = np.flatnonzero(keep)
    return {k: v[chosen] for k, v in columns.items()}


def _reconstructed(
    gen: Array, eta: Array, phi: Array, charge: int, world: World, random: np.random.Generator
) -> Iterator[tuple[str, Array]]:
    """Yield pt, ptErr, true relative resolution, its factor over ptErr, and who is in a tail."""
    n = len(gen)
    sigma = world.resolution * resolution(gen, eta)
    sigma = sigma * np.exp(world.spread * random.standard_normal(n))
    tail = random.random(n) < world.tails if world.tails else np.zeros(n, dtype=bool)
    pull = np.where(tail, world.tail_width, 1.0) * random.standard_normal(n)
    pt = measured_pt(world, gen / np.maximum(1 + sigma * pull, 1e-3), eta, phi, charge)
    factor = pt_err_factor(world, pt, eta, phi)
    if world.pt_err_noise:
        factor = factor * np.exp(world.pt_err_noise * random.standard_normal(n))
    yield from {
        "pt": pt,
        "err": pt * sigma / factor,
        "sigma": sigma,
        "factor": factor,
        "tail": tail,
    }.items()


def _as_pairs(
    found: dict[str, Array], weight: Array, run: Array, number: Array, is_background: Array
) -> tuple[Pairs, dict[str, Array]]:
    minus_leads = found["pt1"] >= found["pt2"]

    def pick(name: str, leading: bool) -> Array:
        first = minus_leads if leading else ~minus_leads
        return np.where(first, found[name + "1"], found[name + "2"])

    extras = {"background": is_background, "born_mass": found["born"]}
    muons = {}
    for role, leading in (("leading", True), ("subleading", False)):
        eta, phi, gen = (pick(name, leading) for name in ("eta", "phi", "gen"))
        minus = minus_leads if leading else ~minus_leads
        known = {"gen_pt": gen.copy(), "gen_eta": eta.copy(), "gen_phi": phi.copy()}
        for values in known.values():
            values[is_background] = np.nan
        muons[role] = Muons(
            pt=pick("pt", leading),
            eta=eta,
            phi=phi,
            charge=np.where(minus, -1, 1).astype(np.int64),
            pt_err=pick("err", leading),
            **known,
        )
        extras |= {f"{k}_{role}": pick(k, leading) for k in ("sigma", "factor", "tail")}
    a, b = muons["leading"], muons["subleading"]
    gen_mass = nature.invariant_mass(a.gen_pt, a.gen_eta, a.gen_phi, b.gen_pt, b.gen_eta, b.gen_phi)
    extras["sigma_mass"] = (
        0.5 * gen_mass * np.hypot(extras["sigma_leading"], extras["sigma_subleading"])
    )
    block = (1 + number // np.uint64(500)).astype(np.uint64)
    return Pairs(a, b, weight, run, block, number, gen_mass), extras


def stage1(pairs: Pairs, simulation: bool) -> dict[str, Array]:
    """Return the columns of a flat file of pairs, generated ones for a simulation only."""
    columns = {
        "run": pairs.run,
        "luminosityBlock": pairs.luminosityBlock,
        "event": pairs.event,
        "wgt_nominal": pairs.weight,
    }
    for name, muon in (("mu1", pairs.leading), ("mu2", pairs.subleading)):
        names = ("pt", "eta", "phi", "charge") + simulation * ("gen_pt", "gen_eta", "gen_phi")
        columns |= {f"{name}_{key}": getattr(muon, key) for key in names}
        columns[f"{name}_ptErr"] = muon.pt_err
    a, b = pairs.leading, pairs.subleading
    columns["dimuon_mass"] = nature.invariant_mass(a.pt, a.eta, a.phi, b.pt, b.eta, b.phi)
    if simulation:
        columns["gen_dimuon_mass"] = pairs.gen_mass
    return columns


CATEGORIES = tuple(
    f"{low}-{high}_{first}{second}"
    for low, high in zip(LEADING_PT[:-1], LEADING_PT[1:], strict=True)
    for first in "BOE"
    for second in "BOE"
)
"""Names of the 36 categories, pt slowest, ring of the sub-leading muon fastest."""


@dataclass(frozen=True)
class TrueFactors:
    """Truth of the 36 categories; arrays of shape (36,), not a number below 20 pairs.

    ``factor`` is half the central 68.27 % of m_reco - m_gen (``sigma``, GeV) over the median
    predicted resolution (``median``, GeV); ``factor_err`` is its statistical error.
    """

    names: tuple[str, ...]
    factor: Array
    factor_err: Array
    sigma: Array
    median: Array
    n_pairs: Array


def true_factors(
    world: World, *, seed: int = 900, n: int = 9_000_000, folder: Path | str | None = None
) -> TrueFactors:
    """Return the truth of the Z's categories from n independent written pairs of signal.

    Pairs with 75 <= m < 105, leading pt >= 26 and other pt >= 20 GeV count.

    Parameters
    ----------
    world : World
    seed : int
    n : int
    folder : path, optional
        Keeps the truth, by a digest of the world; what is there already is not made again.
    """
    kept = Path(folder) / f"truth-{world.digest()}-{seed}-{n}.npz" if folder else None
    if kept is not None and kept.exists():
        with np.load(kept) as found:
            return TrueFactors(CATEGORIES, **{k: found[k] for k in found.files})
    parts = []
    for first in range(0, n, 500_000):
        part = min(500_000, n - first)
        parts.append(_residuals(world, part, 1_000_003 * seed + first))
    category, residual, predicted = (np.concatenate(p) for p in zip(*parts, strict=True))
    order = np.argsort(category, kind="stable")
    ends = np.searchsorted(category[order], np.arange(len(CATEGORIES) + 1))
    rows = [
        _row(residual[order[low:high]], predicted[order[low:high]])
        for low, high in zip(ends[:-1], ends[1:], strict=True)
    ]
    names = ("factor", "factor_err", "sigma", "median", "n_pairs")
    columns = dict(zip(names, np.array(rows).T, strict=True))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part_file = kept.with_suffix(".part.npz")
        np.savez(part_file, **columns)
        part_file.replace(kept)
    return TrueFactors(CATEGORIES, **columns)


def category_of(pairs: Pairs) -> Array:
    """Return the category of each pair, or -1."""
    a, b = pairs.leading, pairs.subleading
    row = np.searchsorted(LEADING_PT, a.pt, side="right") - 1
    first, second = (np.searchsorted(RINGS, np.abs(m.eta), side="right") - 1 for m in (a, b))
    return np.asarray(np.where((row >= 0) & (row < 4), 9 * row + 3 * first + second, -1))


def _residuals(world: World, n: int, seed: int) -> tuple[Array, Array, Array]:
    pairs, _ = generate("z", n, world, seed=seed, signal_only=True)
    a, b = pairs.leading, pairs.subleading
    mass = nature.invariant_mass(a.pt, a.eta, a.phi, b.pt, b.eta, b.phi)
    category = category_of(pairs)
    keep = (category >= 0) & (a.pt >= 26) & (b.pt >= 20) & (mass >= 75) & (mass < 105)
    predicted = 0.5 * mass * np.hypot(a.pt_err / a.pt, b.pt_err / b.pt)
    return category[keep].astype(np.int8), (mass - pairs.gen_mass)[keep], predicted[keep]


def _row(residual: Array, predicted: Array) -> tuple[float, ...]:
    n = len(residual)
    if n < 20:
        return np.nan, np.nan, np.nan, np.nan, n
    outside = 0.15865
    step = min(0.05, 2 / np.sqrt(n))
    low, high = np.quantile(residual, [outside, 1 - outside])
    median = float(np.median(predicted))
    sigma = 0.5 * float(high - low)

    def density(values: Array, at: float) -> float:
        ends = np.quantile(values, [at - step, at + step])
        return float(2 * step / (ends[1] - ends[0]))

    f_low, f_high = density(residual, outside), density(residual, 1 - outside)
    inside = outside * (1 - outside) * (f_low**-2 + f_high**-2) - 2 * outside**2 / (f_low * f_high)
    sigma_err = 0.5 * np.sqrt(inside / n)
    median_err = 0.5 / (density(predicted, 0.5) * np.sqrt(n))
    error = sigma / median * np.hypot(sigma_err / sigma, median_err / median)
    return sigma / median, float(error), sigma, median, n
