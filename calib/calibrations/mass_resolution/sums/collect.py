"""Columns and templates of one chunk of events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numba
import numpy as np

from calib.calibrations.mass_resolution.settings import Settings
from calib.events.categories import Axis, Categories
from calib.events.histograms import Fill
from calib.events.pairs import Muons, Pairs
from calib.events.random import half, keys, uniforms
from calib.physics.constants import RESONANCES, Z_MASS
from calib.physics.embedding import Generated, embed, fsr_weight
from calib.physics.kinematics import mass as pair_mass
from calib.physics.line_shapes import LineTable, line_weight, narrow_line, z_line
from calib.physics.radiated import radiated_ratio
from calib.physics.radiation import Radiation
from calib.results import Pass
from calib.types import AnyArray, Array, BoolArray, IntArray

from . import generated_mass as generated_shapes
from .template_grid import Cuts, Scan, coarse_bins, group_of, pair_of

PREDICTED_EDGES = np.geomspace(0.05, 25.0, 1601)
"""Bins of the predicted resolution in GeV, 0.4 % wide, for its median."""


REFERENCE_PT = 45.0
"""GeV; where the slopes in ln pt are zero."""

RUN_STEP, N_RUN_BINS = 2, 250_000
"""Bins of the run number, by which the closure finds periods with the same number of events."""


@dataclass(frozen=True)
class MadeCuts:
    """What the event loop knows of the selection: the cuts that made muons must pass too."""

    leading_pt: float = 26.0
    subleading_pt: float = 20.0


def categories(settings: Settings) -> Categories:
    """Return the categories: leading pt x leading |eta| x sub-leading |eta|, ``30-45_OB``."""
    rings = settings.ring_labels
    return Categories.of(
        (
            Axis("leading_pt", settings.leading_pt, unit="GeV"),
            Axis("leading_abs_eta", settings.abs_eta, rings),
            Axis("subleading_abs_eta", settings.abs_eta, rings),
        ),
        ("_", ""),
    )


def relative_resolution(muons: Muons, settings: Settings) -> Array:
    """Return the predicted sigma_k/k of each muon: ptErr/pt, or from the settings.

    Parameters
    ----------
    muons : Muons, length n
        GeV.
    settings : Settings
        With ``predicted_resolution``, or none: then ptErr is taken.

    Returns
    -------
    array, shape (n,)
        Without unit; NaN outside all |eta| ranges of the settings.
    """
    if settings.predicted_resolution is None:
        assert muons.pt_err is not None
        return muons.pt_err / muons.pt
    found = np.full(len(muons.pt), np.nan)
    for part in settings.predicted_resolution:
        low, high = part.abs_eta
        inside = (np.abs(muons.eta) >= low) & (np.abs(muons.eta) < high)
        found[inside] = np.hypot(part.a, part.c * muons.pt[inside])
    return found


def category_of(pairs: Pairs, settings: Settings) -> IntArray:
    """Return the flat category of each pair.

    Parameters
    ----------
    pairs : Pairs, length n
        GeV.
    settings : Settings
        Edges.

    Returns
    -------
    int array, shape (n,)
        -1 outside.
    """
    return categories(settings).index(
        pairs.leading.pt, np.abs(pairs.leading.eta), np.abs(pairs.subleading.eta)
    )


def rejects(pairs: Pairs, settings: Settings) -> Mapping[str, BoolArray]:
    """Return the pairs that cannot be used, by reason.

    Parameters
    ----------
    pairs : Pairs, length n
        GeV.
    settings : Settings
        Edges, and where the predicted resolution is from.

    Returns
    -------
    mapping of str to bool array, shape (n,)
        True for what is left out.
    """
    found = {"outside_categories": category_of(pairs, settings) < 0}
    if settings.predicted_resolution is not None:
        first = relative_resolution(pairs.leading, settings)
        second = relative_resolution(pairs.subleading, settings)
        found["no_predicted_resolution"] = ~np.isfinite(first + second)
    return found


def cuts(settings: Settings, selected: MadeCuts) -> Cuts:
    """Return the cuts that made muons must pass.

    Parameters
    ----------
    settings : Settings
        Edges.
    selected : MadeCuts
        Least pt of both muons.

    Returns
    -------
    Cuts
        GeV.
    """
    return Cuts(
        selected.leading_pt,
        selected.subleading_pt,
        np.asarray(settings.leading_pt),
        np.asarray(settings.abs_eta),
        settings.mass_edges,
        np.asarray(settings.muons.abs_eta),
    )


def coarse_edges(settings: Settings) -> Array:
    """Return the edges of the coarse mass bins of the rows of muons, in GeV."""
    fine = settings.mass_edges
    n = coarse_bins(len(fine) - 1)
    return np.asarray(fine[0] + settings.step * group_of(len(fine) - 1) * np.arange(n + 1))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _muon_rows(leading, other, part, pt_edges, eta_edges, flat, own):  # type: ignore[no-untyped-def]
    """Write the row of each pair, and variance and variance times ln pt of both its muons."""
    pt, eta1, variance1, log1 = leading
    eta2, variance2, log2 = other
    n, n_pt = len(eta_edges) - 1, len(pt_edges) - 1
    pairs = n * (n + 1) // 2
    for i in range(len(flat)):
        # edges are counted: where a muon lies cannot be guessed, a branch would be costly
        a, b, at = -1, -1, -1
        for edge in eta_edges:
            a += abs(eta1[i]) >= edge
            b += abs(eta2[i]) >= edge
        for edge in pt_edges:
            at += pt[i] >= edge
        inside = (min(a, b) >= 0) & (max(a, b) < n) & (at >= 0) & (at < n_pt)
        flat[i] = (part[i] * n_pt + at) * pairs + pair_of(a, b, n) if inside else -1
        v1, v2 = variance1[i], variance2[i]
        l1, l2 = v1 * log1[i], v2 * log2[i]
        leads = a <= b
        own[0, i], own[1, i] = v1 if leads else v2, l1 if leads else l2
        own[2, i], own[3, i] = v2 if leads else v1, l2 if leads else l1


def observed_muons(
    pairs: Pairs,
    variance: tuple[Array, Array],
    log_pt: tuple[Array, Array],
    part: IntArray,
    settings: Settings,
) -> Fill:
    """Return the mass of the pairs in rows of muons, with what their factors need.

    ``variance_first`` is the relative variance of the muon in the lower |eta| bin, ``pt_first``
    the logarithm of its pt over 45 GeV, weighted with it.

    Parameters
    ----------
    pairs : Pairs
    variance : two arrays, shape (n,)
        Predicted relative variance of the leading and the other muon.
    log_pt : two arrays, shape (n,)
        Logarithm of pt over 45 GeV, likewise.
    part : int array, shape (n,)
        Half of the sample.
    settings : Settings
        Edges.

    Returns
    -------
    Fill
        Masses in GeV.
    """
    edges, lead, other = np.asarray(settings.muons.abs_eta), pairs.leading, pairs.subleading
    n = (len(settings.leading_pt) - 1) * (len(edges) - 1) * len(edges) // 2
    flat, own = np.empty(len(pairs), dtype=np.int64), np.empty((4, len(pairs)))
    _muon_rows(
        (lead.pt, lead.eta, variance[0], log_pt[0]),
        (other.eta, variance[1], log_pt[1]),
        part,
        np.asarray(settings.leading_pt),
        edges,
        flat,
        own,
    )
    names = ("variance_first", "pt_first", "variance_second", "pt_second")
    means = dict(zip(names, own, strict=True))
    return Fill(flat, 2 * n, pairs.mass, coarse_edges(settings), pairs.weight, means)


def observed(pairs: Pairs, settings: Settings) -> dict[str, Fill | AnyArray]:
    """Return mass and predicted resolution of the pairs, by half and category, and their runs.

    Parameters
    ----------
    pairs : Pairs
        GeV.
    settings : Settings
        Edges.

    Returns
    -------
    dict of str to Fill or array
        ``mass`` and ``predicted`` (GeV), ``muons``, ``runs``.
    """
    n = len(categories(settings))
    part = half(pairs.run, pairs.luminosityBlock, pairs.event)
    category = category_of(pairs, settings)
    flat = np.where(category < 0, -1, part * n + category)
    first = relative_resolution(pairs.leading, settings) ** 2
    second = relative_resolution(pairs.subleading, settings) ** 2
    log_pt = (np.log(pairs.leading.pt / REFERENCE_PT), np.log(pairs.subleading.pt / REFERENCE_PT))
    mass = pairs.mass
    means = {"variance_leading": first, "variance_subleading": second, "log_pt": log_pt[0]}
    predicted = 0.5 * mass * np.sqrt(first + second)
    return {
        "mass": Fill(flat, 2 * n, mass, settings.mass_edges, pairs.weight, means),
        "predicted": Fill(flat, 2 * n, predicted, PREDICTED_EDGES, pairs.weight),
        "muons": observed_muons(pairs, (first, second), log_pt, part, settings),
        "runs": np.bincount(
            np.minimum(pairs.run.astype(np.int64) // RUN_STEP, N_RUN_BINS - 1), minlength=N_RUN_BINS
        ),
    }


def line_of(resonance: str) -> LineTable:
    """Return the line shape of a resonance."""
    return z_line() if resonance == "z" else narrow_line(RESONANCES[resonance].masses[0])


def unit_of(resonance: str) -> float:
    """Return the scale of the residuals: the resonance's mass over that of the Z."""
    return RESONANCES[resonance].masses[0] / Z_MASS


MOST_COPIES = 8
MADE = 10_000_000
"""Pairs that are enough to make: the noise of the templates is then small beside other errors."""

_THINNING = 1 << 30
"""Number of the random number of an event that decides whether it is embedded at all."""


def copies_for(n_events: int) -> float:
    """Return the copies of each of so many pairs: 8, or that divided by a power of two.

    In large steps, so that a few more events do not change it for all.
    """
    halved = max(0, math.ceil(math.log2(max(n_events, 1) * MOST_COPIES / MADE)))
    return MOST_COPIES * 0.5**halved


def copies_of(settings: Settings, walk: Pass) -> float:
    """Return the number of embedded copies of a pass.

    Parameters
    ----------
    settings : Settings
        Their number, or ``auto``.
    walk : Pass
        With ``copies`` where it is automatic.

    Returns
    -------
    float
        Below 1: the share of the sources that is used.
    """
    if settings.copies != "auto":
        return float(settings.copies)
    return float(walk.values.get("copies", np.asarray(MOST_COPIES)))


FSR_CHANGE, POWER_CHANGE = 0.1, 1.5
"""By how much the line shape is varied: relative rate of radiation, power of the mass."""


def variations_of(resonance: str, settings: Settings) -> tuple[str, ...]:
    """Return the names of the variations of the line shape of a resonance.

    Parameters
    ----------
    resonance : str
        ``z`` or ``h``.
    settings : Settings
        Whether muons radiate.

    Returns
    -------
    tuple of str
        In the order of the weights of `varied`.
    """
    radiates = ("fsr",) if settings.fsr else ()
    return (*radiates, "photon", "mass_power") if resonance == "z" else radiates


def varied(made: Generated, resonance: str, names: tuple[str, ...]) -> Array:
    """Return the weights of generated pairs for each variation.

    ``fsr``: radiation times 1.1; ``photon``: Z exchange alone; ``mass_power``: times (m / m_Z)^1.5.
    What simulated muons radiated is not known: theirs is the ratio of the spectra after radiation.

    Parameters
    ----------
    made : Generated
        n pairs.
    resonance : str
        ``z`` or ``h``.
    names : tuple of str
        Of `variations_of`.

    Returns
    -------
    array, shape (variations, n)
        About 1.
    """
    known = made.radiation != "unknown"
    weights: dict[str, Callable[[], Array]] = {
        "fsr": lambda: (
            fsr_weight(made, 1 + FSR_CHANGE)
            if known
            else radiated_ratio(made.mass, resonance, 1 + FSR_CHANGE)
        ),
        "photon": lambda: line_weight(made.born_mass, "no_photon"),
        "mass_power": lambda: line_weight(made.born_mass, "mass_power", power=POWER_CHANGE),
    }
    out = np.empty((len(names), len(made)))
    for row, name in zip(out, names, strict=True):
        row[:] = weights[name]()
    return out


def embedded(
    pairs: Pairs, settings: Settings, selected: MadeCuts, resonance: str, seed: int, walk: Pass
) -> dict[str, AnyArray]:
    """Return templates made from the pairs under the peak, by half and category.

    Parameters
    ----------
    pairs : Pairs
        Reconstructed ones of the target, GeV.
    settings : Settings
        Edges, source window, copies.
    selected : MadeCuts
        Cuts that made muons must pass.
    resonance : str
        ``z`` or ``h``.
    seed : int
        Of the random numbers of the copies.
    walk : Pass
        With the number of copies.

    Returns
    -------
    dict of str to array
        Sums, named ``embedded/...``.
    """
    names = variations_of(resonance, settings)
    found = Scan(2, cuts(settings, selected), unit_of(resonance), names)
    source, copies = embedded_copies(pairs, settings, resonance, seed, walk)
    part = half(source.run, source.luminosityBlock, source.event)
    found.add(
        ((made, made.mass) for made in copies),
        source.weight,
        part,
        lambda m: varied(m, resonance, names),
    )
    return {f"embedded/{name}": values for name, values in found.sums().items()}


def _by_category(pairs: Pairs, wanted: BoolArray, settings: Settings) -> IntArray:
    """Return the numbers of the wanted pairs, those of one half and category together."""
    part = half(pairs.run, pairs.luminosityBlock, pairs.event)
    n = len(categories(settings))
    at = np.flatnonzero(wanted)
    number = (n * part + category_of(pairs, settings))[at]
    # a stable order of few bits is found by counting
    return at[np.argsort(number.astype(np.int16) if n < 1 << 14 else number, kind="stable")]


def embedded_copies(
    pairs: Pairs, settings: Settings, resonance: str, seed: int, walk: Pass
) -> tuple[Pairs, Iterator[Generated]]:
    """Return the source pairs under the peak, and one generated pair for each, copy by copy.

    The pairs of one category stand together: what is filled next is near in memory.

    Parameters
    ----------
    pairs : Pairs
        Reconstructed ones of the target, GeV.
    settings : Settings
        Source window, copies.
    resonance : str
        ``z`` or ``h``.
    seed : int
        Of the random numbers of the copies.
    walk : Pass
        With the number of copies.

    Returns
    -------
    Pairs
        Those under the peak.
    iterator of Generated
        One pair of each source, copy by copy.
    """
    low, high = settings.source_window
    mass, number = pairs.mass, copies_of(settings, walk)
    wanted = (mass >= low) & (mass < high)
    if number < 1:
        identity = (pairs.run, pairs.luminosityBlock, pairs.event)
        wanted &= uniforms(keys(seed, *identity), _THINNING) < number
    source = pairs.take(_by_category(pairs, wanted, settings))
    line = line_of(resonance)
    key = keys(seed, source.run, source.luminosityBlock, source.event)
    first = relative_resolution(source.leading, settings)
    second = relative_resolution(source.subleading, settings)
    radiation: Radiation = settings.radiation if settings.fsr else "none"
    copies = (
        embed(source, first, second, key, copy, line, radiation=radiation)
        for copy in range(math.ceil(number))
    )
    return source, copies


def kernel_embedded(
    pairs: Pairs, settings: Settings, selected: MadeCuts, resonance: str, seed: int, walk: Pass
) -> dict[str, AnyArray]:
    """Return generated shapes made from the pairs under the peak, by half and category.

    Parameters
    ----------
    pairs : Pairs
        Reconstructed ones of the target, GeV.
    settings : Settings
        Edges, source window, copies.
    selected : MadeCuts
        Cuts that made muons must pass.
    resonance : str
        ``z`` or ``h``.
    seed : int
        Of the random numbers of the copies.
    walk : Pass
        With the number of copies.

    Returns
    -------
    dict of str to array
        Sums, named ``kernel/...``.
    """
    n = len(categories(settings))
    sums = generated_shapes.empty(2 * n)
    source, copies = embedded_copies(pairs, settings, resonance, seed, walk)
    offset = n * half(source.run, source.luminosityBlock, source.event)
    limits = cuts(settings, selected)
    for made in copies:
        generated_shapes.fill(sums, made, source.weight, offset, limits, unit_of(resonance))
    return {f"kernel/{name}": values for name, values in sums.items()}


def kernel_simulated(
    pairs: Pairs, settings: Settings, selected: MadeCuts, resonance: str
) -> dict[str, AnyArray]:
    """Return generated shapes of simulated pairs, by category.

    Parameters
    ----------
    pairs : Pairs
        With generated masses, GeV.
    settings : Settings
        Edges.
    selected : MadeCuts
        Cuts that smeared muons must pass.
    resonance : str
        ``z`` or ``h``.

    Returns
    -------
    dict of str to array
        Sums, named ``kernel/...``.
    """
    sums = generated_shapes.empty(len(categories(settings)))
    source, made, _ = simulated_muons(pairs, settings)
    offset = np.zeros(len(source), dtype=np.int64)
    limits = cuts(settings, selected)
    generated_shapes.fill(sums, made, source.weight, offset, limits, unit_of(resonance))
    return {f"kernel/{name}": values for name, values in sums.items()}


def simulated(
    pairs: Pairs, settings: Settings, selected: MadeCuts, resonance: str, seed: int
) -> dict[str, AnyArray]:
    """Return templates from simulated pairs, their residuals stretched, by category.

    Parameters
    ----------
    pairs : Pairs
        With generated masses, GeV.
    settings : Settings
        Edges.
    selected : MadeCuts
        Cuts that stretched muons must pass.
    resonance : str
        ``z`` or ``h``.
    seed : int
        Of the pairs that are made beside them.

    Returns
    -------
    dict of str to array
        Sums, named ``simulation/...``.
    """
    names = variations_of(resonance, settings)
    found = Scan(1, cuts(settings, selected), unit_of(resonance), names)
    source, generated, base = simulated_muons(pairs, settings)
    whole = np.zeros(len(source), dtype=np.int64)
    found.add([(generated, base)], source.weight, whole, lambda m: varied(m, resonance, names))
    sums = {f"simulation/{name}": values for name, values in found.sums().items()}
    if resonance == "z" and pairs.leading.gen_pt is not None:
        sums |= radiated_sums(source, generated, settings, selected, seed)
    return sums


RADIATED_SHARE = 0.25
"""Of the simulated pairs, from which pairs are made anew to measure the radiation."""
RADIATED_COPY = 4000
"""Number of the copy that radiates as known; those of the templates lie below."""


def radiated_sums(
    source: Pairs, generated: Generated, settings: Settings, selected: MadeCuts, seed: int
) -> dict[str, AnyArray]:
    """Return the generated mass of simulated pairs, and of pairs like them that are made anew.

    The latter radiate as the exact first order says; ``fsr`` and ``mass_power`` are theirs with
    the weights of `varied`. All pass the same cuts.

    Parameters
    ----------
    source : Pairs, length n
        Simulated ones, GeV.
    generated : Generated
        Their generated muons.
    settings : Settings
        Source window.
    selected : MadeCuts
        Cuts that muons must pass.
    seed : int
        Of the pairs that are made.

    Returns
    -------
    dict of str to array
        Spectra and their variances.
    """
    limits = cuts(settings, selected)
    low, high = settings.source_window
    key = keys(seed, source.run, source.luminosityBlock, source.event)
    mass, chosen = source.mass, uniforms(key, _THINNING + 1) < RADIATED_SHARE
    peak = source.take(np.flatnonzero((mass >= low) & (mass < high) & chosen))
    key = keys(seed, peak.run, peak.luminosityBlock, peak.event)
    widths = [relative_resolution(m, settings) for m in (peak.leading, peak.subleading)]
    made = embed(
        peak, widths[0], widths[1], key, RADIATED_COPY, z_line(), radiation="exponentiated"
    )
    fsr, power = varied(made, "z", ("fsr", "mass_power"))
    own = generated_shapes.spectra(generated, source.weight[None], limits, unit_of("z"))
    weights = np.stack([peak.weight, peak.weight * fsr, peak.weight * power])
    anew = generated_shapes.spectra(made, weights, limits, unit_of("z"))
    found = {}
    names = ("own", "made", "fsr", "mass_power")
    for name, sums, squares in zip(names, *np.concatenate([own, anew], axis=1), strict=True):
        found[f"simulation/radiated_{name}"] = sums
        found[f"simulation/radiated_{name}_squares"] = squares
    return found


def simulated_muons(pairs: Pairs, settings: Settings) -> tuple[Pairs, Generated, Array]:
    """Return simulated pairs with generated mass, as generated muons, and their base mass.

    The pairs of one category stand together, as those of `embedded_copies`.

    With generated muons the residual of each is that of its k. With the generated mass alone
    the mass residual is divided between the muons in proportion to their predicted variances,
    which is right on average; migrations between categories are then approximate.

    Parameters
    ----------
    pairs : Pairs
        Simulated ones, GeV.
    settings : Settings
        Edges.

    Returns
    -------
    Pairs
        The m of them that have a generated mass.
    Generated
        Their generated muons.
    array, shape (m,)
        Base mass, in GeV.
    """
    assert pairs.gen_mass is not None
    known = np.isfinite(pairs.gen_mass)
    a, b = pairs.leading, pairs.subleading
    if a.gen_pt is not None and b.gen_pt is not None:
        known &= np.isfinite(a.gen_pt) & np.isfinite(b.gen_pt)
    pairs = pairs.take(_by_category(pairs, known, settings))
    a, b = pairs.leading, pairs.subleading
    assert pairs.gen_mass is not None
    if a.gen_pt is not None and b.gen_pt is not None:
        pt1, pt2 = a.gen_pt, b.gen_pt
    else:
        log_ratio = -2 * np.log(pairs.mass / pairs.gen_mass)
        first = relative_resolution(a, settings) ** 2
        second = relative_resolution(b, settings) ** 2
        pt1 = a.pt * np.exp(log_ratio * first / (first + second))
        pt2 = b.pt * np.exp(log_ratio * second / (first + second))
    lost = np.full(len(pairs), np.nan)
    generated = Generated(
        pt1,
        pt2,
        a.eta,
        b.eta,
        a.phi,
        b.phi,
        pairs.gen_mass,
        pt1 / a.pt - 1,
        pt2 / b.pt - 1,
        lost,
        lost,
        pairs.gen_mass,
    )
    return pairs, generated, pair_mass(pt1, a.eta, a.phi, pt2, b.eta, b.phi)
