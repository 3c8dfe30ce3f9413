"""Sums of a clean calibration drawn from the model itself: no events, no cuts, some seconds a set.

Every category has its muons' pt, a width, a generated line with a radiative tail and a background.
Data are drawn by half, category and bins of phi; the reference from sources that have several
smeared copies. What the constants do to a mass is applied to the drawn masses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from calib.calibrations.momentum_scale.closing import along, axes, cross_validation
from calib.calibrations.momentum_scale.closing.closure import walk_of
from calib.calibrations.momentum_scale.constants.peaks import Source
from calib.calibrations.momentum_scale.constants.reduction import Kind, reduce_kind
from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.grid import Grid, grid
from calib.fitting.scale.model import KINDS, Means, sigma2
from calib.fitting.scale.normal_equations import design
from calib.physics.constants import RESONANCES
from calib.results import Pass, Reduction

COPIES = 4
SETTINGS = Settings(
    eta=(-2.4, -1.2, 0.0, 1.2, 2.4), method="chi2", calibrate_simulation=False, copies=COPIES
)
A2, C2 = 0.012**2 * np.array([2.0, 1.0, 1.0, 2.0]), np.full(4, 1.5e-4**2)
SHARE, SLOPE = 0.07, 0.8
"""Of the background in the window, and its fall over it."""


@dataclass(frozen=True)
class Drawn:
    """Entries: category, mass (GeV), and for the data half and bins of phi."""

    category: np.ndarray
    mass: np.ndarray
    generated: np.ndarray
    half: np.ndarray
    phi: np.ndarray


@dataclass(frozen=True)
class Toy:
    """The categories that have entries: where their muons are, and the expected events of each."""

    grid: Grid
    means: Means
    events: np.ndarray
    width: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Return d ln(mass ratio) / d(A, e, M) of each category, shape (n, 3 n_eta)."""
        n = SETTINGS.n_eta
        made, out = (
            design(self.means, np.zeros(3 * n), n, False),
            np.zeros((len(self.means), 3 * n)),
        )
        for half in (slice(0, 3), slice(3, 6)):
            for i, at in enumerate(made.columns[:, half]):
                out[i, at] += 0.5 * made.rows[i, 0, half]
        return out


def toy(events: float, resonance: str = "jpsi") -> Toy:
    """Return categories with some ``events`` on average."""
    g = grid(SETTINGS, resonance)
    i, j, ratio, angle = g.bins()
    own, (mass,) = SETTINGS.of(resonance), RESONANCES[resonance].masses
    logs = np.clip(np.asarray(own.log_pt_ratio), -1.2, 1.2)
    cosines = np.clip(np.asarray(own.cos_delta_phi), 0.6, 1.0)
    r = np.exp(0.5 * (logs[1:] + logs[:-1]))[ratio]
    opening = (
        np.cosh(0.3) * (i != j) + (i == j) - (0.5 * (cosines[1:] + cosines[:-1]))[angle] + 0.02
    )
    size = mass / np.sqrt(2 * np.maximum(opening, 0.01))
    plus, minus = size * np.sqrt(r), size / np.sqrt(r)
    means = Means(i, j, 1 / plus, 1 / minus, plus, minus, plus**2, minus**2)
    near = (np.abs(i - j) <= 1) & (np.minimum(plus, minus) > 3.5) & (np.maximum(plus, minus) < 40)
    random = np.random.default_rng(2)
    number = np.where(near, random.lognormal(0.0, 0.6, len(g)), 0.0)
    return Toy(g, means, number * events / number[near].mean(), np.sqrt(sigma2(means, A2, C2)))


def draw(t: Toy, random: np.random.Generator, copies: int = 0) -> Drawn:
    """Return data, or a reference with some copies of every source."""
    number = random.poisson(t.events)
    category = np.repeat(np.arange(len(number)), number)
    n = len(category)
    (line,) = RESONANCES["jpsi"].masses
    tail = random.random(n) < 0.2
    generated = np.where(tail, line * (1 - random.exponential(0.02, n)), line)
    if copies:
        category, generated = np.tile(category, copies), np.tile(generated, copies)
    mass = generated * (1 + t.width[category] * random.standard_normal(len(category)))
    if not copies:
        low, high = t.grid.mass_edges[[0, -1]]
        under = random.random(n) < SHARE
        u = random.random(n)
        mass = np.where(under, low + (high - low) * -np.log1p(-u * -np.expm1(-SLOPE)) / SLOPE, mass)
    half, phi = random.integers(0, 2, len(mass)), random.integers(0, 12, (2, len(mass)))
    return Drawn(category, mass, generated, half, phi)


def counted(row: np.ndarray, value: np.ndarray, rows: int, edges: np.ndarray) -> np.ndarray:
    """Return histograms of the rows, shape (rows, bins)."""
    n, at = len(edges) - 1, np.searchsorted(edges, value, side="right") - 1
    inside = (row >= 0) & (at >= 0) & (at < n)
    return np.bincount(row[inside] * n + at[inside], minlength=rows * n).reshape(rows, n)


def axis_rows(t: Toy, d: Drawn) -> list[np.ndarray]:
    """Return the row of every entry for each variable and charge."""
    m, c = t.means, d.category
    pt = [np.searchsorted(axes.PT["jpsi"], x[c]) - 1 for x in (m.inverse_k_plus, m.inverse_k_minus)]
    columns, first, out = [m.eta_plus[c], m.eta_minus[c], *d.phi, *pt], 0, []
    edges = axes.edges_of(SETTINGS, "jpsi")
    for number, name in enumerate(edges):
        n = len(edges[name]) - 1
        for values in columns[2 * number : 2 * number + 2]:
            out.append(np.where((values >= 0) & (values < n), first + values, -1))
            first += n
    return out


def sums_of_data(t: Toy, d: Drawn, moved: np.ndarray) -> dict[str, np.ndarray]:
    """Return the sums of the data after the constants have moved ln(mass) of each category."""
    g, n, m = t.grid, len(t.grid), t.means
    mass = d.mass * np.exp(-moved[d.category])
    category = d.category + n * d.half
    inside = (mass >= g.mass_edges[0]) & (mass < g.mass_edges[-1])
    size = np.bincount(category[inside], minlength=2 * n)
    means = {
        "k_plus": m.k_plus,
        "k_minus": m.k_minus,
        "pt_plus": m.inverse_k_plus,
        "pt_minus": m.inverse_k_minus,
        "pt2_plus": m.pt2_plus,
        "pt2_minus": m.pt2_minus,
    }
    sums = {f"mean/{k}": size * np.tile(v, 2) for k, v in means.items()}
    sums["mass/counts"] = counted(category, mass, 2 * n, g.mass_edges)
    rows, columns = len(axes.rows(SETTINGS, "jpsi")), axis_rows(t, d)
    effect = t.rows.reshape(n, 3, SETTINGS.n_eta)
    after, halves = 0, 0
    moves = np.zeros((2 * rows, 3, SETTINGS.n_eta))
    for row in columns:
        own = np.where(row >= 0, row + rows * d.half, -1)
        after = after + counted(row, mass, rows, g.mass_edges)
        halves = halves + counted(own, mass, 2 * rows, g.mass_edges)
        at = inside & (own >= 0)
        pairs = np.bincount(own[at] * n + d.category[at], minlength=2 * rows * n)
        moves += np.tensordot(pairs.reshape(2 * rows, n), effect, 1)
    return sums | {
        "axes/before/counts": after,
        "axes/after/counts": after,
        "axes/half/counts": halves,
        "axes/moves": moves,
    }


def sums_of_reference(t: Toy, d: Drawn, copies: int) -> dict[str, np.ndarray]:
    """Return the sums of the reference."""
    g, n = t.grid, len(t.grid)
    template = counted(d.category, d.generated, n, g.gen_edges)
    total = np.histogram(d.generated, g.gen_edges, weights=d.generated)[0]
    rows = len(axes.rows(SETTINGS, "jpsi"))
    made, along_made = 0, 0
    one = len(d.mass) // copies  # phi is that of the source
    same = Drawn(d.category, d.mass, d.generated, d.half, np.tile(d.phi[:, :one], copies))
    for row in axis_rows(t, same):
        made = made + counted(row, d.mass, rows, g.mass_edges)
        along_made = along_made + counted(row, d.generated, rows, g.gen_edges)
    return {
        "reference/mass/counts": counted(d.category, d.mass, n, g.mass_edges),
        "reference/template/counts": template,
        "reference/gen_weight": np.histogram(d.generated, g.gen_edges)[0].astype(float),
        "reference/gen_mass": total,
        "axes/reference/mass/counts": made,
        "axes/reference/template/counts": along_made,
        "axes/reference/shared": (copies - 1.0) * along_made,
    }


@dataclass(frozen=True)
class Closed:
    """Everything that the closure looks at, after the constants of all events are applied."""

    whole: Kind
    first: Kind
    second: Kind
    fits: cross_validation.AxisFits
    table: pd.DataFrame
    tests: list[cross_validation.Crossed]
    reduction: Reduction


def closed(t: Toy, seed: int) -> Closed:
    """Return one set: constants from all of its events, and the closure on them."""
    random = np.random.default_rng([seed, 2026])
    data, made = draw(t, random), draw(t, random, COPIES)
    reference, n = sums_of_reference(t, made, COPIES), SETTINGS.n_eta
    state = {k: np.zeros(n) for k in KINDS[:3]} | {"a2": A2, "c2": C2}
    state |= {"status": np.zeros(n, dtype=np.int64)}
    values, moved = np.zeros(3 * n), np.zeros(len(t.grid))

    def source() -> Source:
        return Source(
            "data",
            t.grid,
            sums_of_data(t, data, moved),
            reference,
            "reference",
            COPIES,
            "simulation",
            "exponential",
        )

    walk = Pass("2", {"data_a2": A2, "data_c2": C2})
    for _ in range(2):
        kind = reduce_kind("data", [source()], SETTINGS, walk, with_likelihood=False)
        values = values + kind.chi2.values[: 3 * n]
        moved = t.rows @ values
    group = {"data_group_jpsi": kind.peaks[0].group}
    nothing = pd.DataFrame()
    reduction = Reduction(nothing, {}, {}, (), (), state | group)
    own, last = [source()], walk_of(reduction)
    whole = reduce_kind("data", own, SETTINGS, last, with_likelihood=False)
    first, second = (
        reduce_kind(
            "data", own, SETTINGS, last, halves=(h,), with_likelihood=False, reference_errors=False
        )
        for h in (0, 1)
    )
    fits = along.fits_of(t.grid, own[0].data, reference, SETTINGS)
    table = along.table_of(t.grid, "data", fits, SETTINGS)
    halves = cross_validation.halves_of(first, second)
    tests = cross_validation.crossed(
        "jpsi", fits, halves, SETTINGS, [p.n_events for p in whole.peaks]
    )
    return Closed(whole, first, second, fits, table, tests, reduction)
