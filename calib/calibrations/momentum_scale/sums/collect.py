"""Sums of one chunk of events: the data, and the reference made from generated muons.

``observed`` fills the pairs as they are after the corrections at hand. ``reference`` smears
generated muons with the current resolution, and nothing else, several times, and puts them
through the same cuts and categories; the generated mass of what arrives is the template of the
category. The mass of the data is then measured against the reference: what cuts, categories and
the second order of the resolution do to one they do to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from calib.calibrations.momentum_scale.settings import Settings
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.events.random import keys
from calib.physics.constants import RESONANCES
from calib.physics.embedding import LineTable, embed, narrow_line, z_line
from calib.types import AnyArray, Array

from .grid import LOOSE, Grid
from .inner_loops import Histogram, PairKinematics, Placed, bins_of, observe, place, smeared

MEANS = ("k_plus", "k_minus", "pt_plus", "pt_minus", "pt2_plus", "pt2_minus")
MARGIN = np.linspace(0.85, 1.25, 41)
"""Bins of pt over the least pt, of the softer muon, before corrections."""

COUNTER = 1000
"""First of the random numbers of an event that smear; embedding takes those below."""


def kinematics(pairs: Pairs, generated: bool = False) -> PairKinematics:
    """Return the muons by charge, reconstructed or generated ones.

    Parameters
    ----------
    pairs : Pairs
        GeV.
    generated : bool
        Whether it is the generated muons.

    Returns
    -------
    PairKinematics
        GeV.
    """
    first = pairs.leading.charge > 0
    names = [("gen_" if generated else "") + name for name in ("pt", "eta", "phi")]
    columns = [(getattr(pairs.leading, n), getattr(pairs.subleading, n)) for n in names]
    return PairKinematics(
        *(np.where(first, a, b) for a, b in columns), *(np.where(first, b, a) for a, b in columns)
    )


def has_unit_weights(weight: Array) -> bool:
    """Return whether all events count as one.

    Parameters
    ----------
    weight : array, shape (n,)
        Of the events.

    Returns
    -------
    bool
        True without events as well.
    """
    return bool(np.all(weight == 1.0))


# data ------------------------------------------------------------------------------------------
def observed(pairs: Pairs, grid: Grid, steps: Array) -> dict[str, AnyArray]:
    """Return mass histograms and means by half and category, and the spectrum at the cut.

    Parameters
    ----------
    pairs : Pairs
        GeV.
    grid : Grid
        Of the resonance.
    steps : array, shape (s, 3, n_eta)
        Corrections A, e (GeV), M (1/GeV), one after the other.

    Returns
    -------
    dict of str to array
        Sums.
    """
    histogram = Histogram.empty(2 * len(grid), grid.mass_edges, has_unit_weights(pairs.weight))
    key = keys(0, pairs.run, pairs.luminosityBlock, pairs.event)  # its last bit is the half
    means, margin, used = observe(pairs, key, grid, steps, histogram, MARGIN)
    return {
        **histogram.sums("mass"),
        **{f"mean/{name}": means[:, i].copy() for i, name in enumerate(MEANS)},
        "margin": margin,
        "used": np.array([used, len(pairs)], dtype=np.int64),
    }


# reference -------------------------------------------------------------------------------------
def generated_of(pairs: Pairs, sample: str) -> tuple[PairKinematics, Array, Pairs]:
    """Return generated muons and their mass, where there are any, and those pairs.

    Parameters
    ----------
    pairs : Pairs
        Simulated ones, GeV.
    sample : str
        Name, for the sentence of the error.

    Returns
    -------
    PairKinematics
        Generated muons, GeV.
    array, shape (n,)
        Their mass, in GeV.
    Pairs
        The n pairs that have them.

    Raises
    ------
    InputError
        If a simulated sample has no generated muons.
    """
    if pairs.leading.gen_pt is None or pairs.gen_mass is None:
        raise InputError(
            f"sample {sample}: simulation without generated muons (mu1_gen_pt, mu1_gen_eta,"
            " mu1_gen_phi, mu2_...; GenPart and Muon_genPartIdx in NanoAOD); the reference is"
            " made from them: add the columns, or leave the sample out to make it from the data"
        )
    assert pairs.subleading.gen_pt is not None
    known = (pairs.leading.gen_pt > 0) & (pairs.subleading.gen_pt > 0) & (pairs.gen_mass > 0)
    pairs = pairs.take(known)
    assert pairs.gen_mass is not None
    return kinematics(pairs, generated=True), pairs.gen_mass, pairs


Copy = tuple[PairKinematics, Array, Array]
"""One copy of the events: smeared muons, generated mass, weight."""


def simulated_copies(
    pairs: Pairs, grid: Grid, a2: Array, c2: Array, sample: str, seed: int, copies: int
) -> Iterator[Copy]:
    """Yield the generated muons of a simulation, smeared anew in each copy.

    Parameters
    ----------
    pairs : Pairs
        Simulated ones, GeV.
    grid : Grid
        Of the resonance.
    a2, c2 : array, shape (n_eta,)
        Resolution, without unit and in 1/GeV^2.
    sample : str
        Name, for the sentence of the error.
    seed : int
        Of the smearing.
    copies : int
        Their number.

    Yields
    ------
    (PairKinematics, generated mass, weight)
        One copy of all pairs, GeV.
    """
    muons, mass, pairs = generated_of(pairs, sample)
    key = keys(seed, pairs.run, pairs.luminosityBlock, pairs.event)
    for copy in range(copies):
        yield smeared(muons, grid, a2, c2, key, COUNTER + 2 * copy), mass, pairs.weight


def embedded_copies(
    pairs: Pairs, grid: Grid, a2: Array, c2: Array, steps: Array, settings: Settings, seed: int
) -> Iterator[Copy]:
    """Yield muons made from the corrected pairs under the peak: a new mass, FSR, smearing.

    Parameters
    ----------
    pairs : Pairs
        Reconstructed ones, GeV.
    grid : Grid
        Of the resonance.
    a2, c2 : array, shape (n_eta,)
        Resolution, without unit and in 1/GeV^2.
    steps : array, shape (s, 3, n_eta)
        Corrections A, e (GeV), M (1/GeV), one after the other.
    settings : Settings
        Source window, number of copies, FSR.
    seed : int
        Of masses, radiation and smearing.

    Yields
    ------
    (PairKinematics, generated mass, weight)
        One copy of all pairs under the peak, GeV.
    """
    own = settings.of(grid.resonance)
    placed = place(kinematics(pairs), _open(grid), steps)
    low, high = own.source_window
    at = np.flatnonzero((placed.category >= 0) & (placed.mass >= low) & (placed.mass < high))
    source = _with_pt(pairs.take(at), placed, at)
    key = keys(seed, source.run, source.luminosityBlock, source.event)
    line = line_of(grid.resonance, own.shares)
    nothing = np.zeros(len(source))
    first_is_plus = source.leading.charge > 0
    for copy in range(settings.embedded_copies):
        made = embed(source, nothing, nothing, key, copy, line, fsr=settings.fsr)
        first = (made.pt_first, made.eta_first, made.phi_first)
        second = (made.pt_second, made.eta_second, made.phi_second)
        muons = PairKinematics(
            *(np.where(first_is_plus, x, y) for x, y in zip(first, second, strict=True)),
            *(np.where(first_is_plus, y, x) for x, y in zip(first, second, strict=True)),
        )
        counter = COUNTER + 2 * copy
        yield smeared(muons, grid, a2, c2, key, counter), made.mass, source.weight


def _open(grid: Grid) -> Grid:
    """Return the grid with its cuts as loose as the selection: made muons may move up."""
    number = np.zeros_like(grid.number)
    return replace(
        grid,
        number=number,
        leading_pt=LOOSE * grid.leading_pt,
        subleading_pt=LOOSE * grid.subleading_pt,
    )


def _with_pt(pairs: Pairs, placed: Placed, at: AnyArray) -> Pairs:
    plus, minus = placed.pt_plus[at], placed.pt_minus[at]

    def moved(muons: Muons) -> Muons:
        return replace(muons, pt=np.where(muons.charge > 0, plus, minus))

    return replace(pairs, leading=moved(pairs.leading), subleading=moved(pairs.subleading))


def line_of(resonance: str, shares: tuple[float, ...]) -> LineTable:
    """Return the line shape; several peaks with their shares.

    Parameters
    ----------
    resonance : str
        ``jpsi``, ``upsilon`` or ``z``.
    shares : tuple of float
        Of several peaks, in any normalisation.

    Returns
    -------
    LineTable
        Masses before radiation, in GeV.
    """
    masses = RESONANCES[resonance].masses
    if resonance == "z":
        return z_line(50.0, 140.0)
    if len(masses) == 1:
        return narrow_line(masses[0])
    parts = np.asarray(shares, dtype=float) / sum(shares)
    n = np.rint(np.cumsum(parts) * (1 << 17)).astype(int)
    return LineTable(np.repeat(masses, np.diff(n, prepend=0)))


def reference(copies: Iterator[Copy], grid: Grid, prefix: str, unit: bool) -> dict[str, AnyArray]:
    """Return mass histograms of smeared copies and the templates of the same entries.

    Parameters
    ----------
    copies : iterator of (PairKinematics, generated mass, weight)
        Smeared, GeV.
    grid : Grid
        Of the resonance.
    prefix : str
        Beginning of the names of the sums.
    unit : bool
        Whether all weights are 1.

    Returns
    -------
    dict of str to array
        Sums.
    """
    n = len(grid)
    histogram = Histogram.empty(n, grid.mass_edges, unit)
    template = Histogram.empty(n, grid.gen_edges, unit)
    inside = np.zeros(grid.n_gen)
    total = np.zeros(grid.n_gen)
    nothing = np.zeros((0, 3, grid.full.shape[0]))
    known, bins = None, np.zeros(0, dtype=np.int64)
    for muons, gen, weight in copies:
        found = place(muons, grid, nothing)
        histogram.fill(found.category, found.mass, weight)
        if gen is not known:  # copies of a simulated event share its generated mass
            known, bins = gen, bins_of(gen, grid.gen_edges)
        new, moved = template.fill_known(found.category, bins, gen, weight)
        inside += new
        total += moved
    return {
        **histogram.sums(f"{prefix}/mass"),
        **template.sums(f"{prefix}/template"),
        f"{prefix}/gen_weight": inside,
        f"{prefix}/gen_mass": total,
    }


def steps_of(values: Mapping[str, AnyArray], prefix: str, n_eta: int) -> Array:
    """Return the corrections of a pass.

    Parameters
    ----------
    values : mapping of str to array
        Of a pass.
    prefix : {"data", "simulation"}
        Whose corrections.
    n_eta : int
        Number of eta bins.

    Returns
    -------
    array, shape (s, 3, n_eta)
        A, e (GeV), M (1/GeV); s = 0 in the first pass.
    """
    found = values.get(f"{prefix}_steps")
    return np.zeros((0, 3, n_eta)) if found is None else np.asarray(found, dtype=float)


def resolution_of(
    values: Mapping[str, AnyArray], prefix: str, settings: Settings
) -> tuple[Array, Array]:
    """Return a2 and c2 that the reference of a pass is made with.

    Parameters
    ----------
    values : mapping of str to array
        Of a pass.
    prefix : {"data", "simulation"}
        Whose resolution.
    settings : Settings
        Where the first pass starts.

    Returns
    -------
    array, shape (n_eta,)
        a2, without unit.
    array, shape (n_eta,)
        c2, in 1/GeV^2.
    """
    if f"{prefix}_a2" in values:
        return np.asarray(values[f"{prefix}_a2"]), np.asarray(values[f"{prefix}_c2"])
    n = settings.n_eta
    return np.full(n, settings.start.a**2), np.full(n, settings.start.c**2)
