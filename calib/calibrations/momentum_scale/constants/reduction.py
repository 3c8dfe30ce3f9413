"""From the sums to A, e, M and the resolution of each eta bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.collect import resolution_of, steps_of
from calib.calibrations.momentum_scale.sums.passes import pass_number
from calib.fitting.scale import chi2
from calib.fitting.scale.model import KINDS, Extraction, Means, composed
from calib.physics.constants import RESONANCES
from calib.results import Pass, Status
from calib.types import AnyArray, Array, IntArray

from .peaks import Peaks, Source, resonance_peaks

SCALE = KINDS[:3]
NEAR = 3.0
"""Moves in units of their errors below which the likelihood is worth its time."""

FLOOR = 0.6
"""Of the variance of v, as a share of the usual one."""


@dataclass(frozen=True)
class Kind:
    """The result for the data, or for the simulation as if it were data.

    ``steps`` (s, 3, n_eta) are the corrections before this reduction, ``a2, c2`` the resolution
    of its reference; ``chi2, likelihood`` are the moves from there.
    """

    name: str
    peaks: tuple[Peaks, ...]
    steps: Array
    a2: Array
    c2: Array
    chi2: Extraction
    likelihood: Extraction | None
    settings: Settings

    @property
    def chosen(self) -> Extraction:
        """The extraction that is published."""
        if self.settings.method == "likelihood" and self.likelihood is not None:
            return self.likelihood
        return self.chi2

    def moves(self, extraction: Extraction | None = None) -> dict[str, Array]:
        """Return the moves by kind of parameter, 0 where they are not determined."""
        found = extraction or self.chosen
        return {k: np.nan_to_num(found.kind(k)) for k in KINDS}

    def significance(self) -> dict[str, float]:
        """Return the largest move of each kind, in units of its error."""
        out = {}
        for k in KINDS:
            with np.errstate(invalid="ignore", divide="ignore"):
                pull = np.abs(self.chosen.kind(k) / self.chosen.kind_err(k))
            out[k] = float(np.max(pull[self.good()], initial=0.0))
        return out

    def good(self) -> AnyArray:
        """Return which eta bins are determined, shape (n_eta,)."""
        return np.asarray(self.statuses() == Status.OK.value)

    def statuses(self) -> AnyArray:
        """Return the status of each eta bin."""
        found, gates = self.chosen, self.settings.gates
        status = np.full(self.settings.n_eta, Status.OK.value, dtype="<U24")
        limits = {"A": gates.A_err, "e": gates.e_err, "M": gates.M_err}
        with np.errstate(invalid="ignore"):
            for k, limit in limits.items():
                status[~(found.kind_err(k) < limit)] = Status.NOT_DETERMINED.value
        for k in KINDS:
            status[~np.isfinite(found.kind(k))] = Status.NOT_DETERMINED.value
        entries = np.zeros(self.settings.n_eta)
        for p in self.peaks:
            for at in (p.means.eta_plus, p.means.eta_minus):
                np.add.at(entries, at[p.ok], p.n_events[p.ok])
        status[entries == 0] = Status.TOO_FEW_EVENTS.value
        return status

    def total(self, extraction: Extraction | None = None) -> dict[str, Array]:
        """Return A, e, M of all corrections together, and the resolution a2, c2."""
        moves = self.moves(extraction)
        values = (np.zeros(self.settings.n_eta),) * 3
        for step in self.steps:
            values = composed(values, (step[0], step[1], step[2]))
        values = composed(values, (moves["A"], moves["e"], moves["M"]))
        return {
            **dict(zip(SCALE, values, strict=True)),
            "a2": self.a2 + moves["a2"],
            "c2": self.c2 + moves["c2"],
        }

    def all_steps(self) -> Array:
        """Return the corrections before and the moves now, shape (s + 1, 3, n_eta)."""
        moves = self.moves()
        return np.concatenate([self.steps, np.stack([moves[k] for k in SCALE])[None]])

    def groups(self) -> dict[str, IntArray]:
        """Return the merging of each resonance's categories, to be kept in later passes."""
        return {p.resonance: p.group for p in self.peaks}


def reduce_kind(
    name: str,
    sources: Sequence[Source],
    settings: Settings,
    walk: Pass,
    *,
    halves: tuple[int, ...] = (0, 1),
    drop: frozenset[str] = frozenset(),
    with_likelihood: bool = True,
    reference_errors: bool = True,
) -> Kind:
    """Return the moves that all categories of the data (or of the simulation) ask for.

    The likelihood waits until the moves are small, or no pass is left: before, least squares shows
    the way as well.

    Parameters
    ----------
    name : {"data", "simulation"}
        Whose result it is.
    sources : sequence of Source
        One of each resonance.
    settings : Settings
        Of the run.
    walk : Pass
        With the corrections and the resolution so far.
    halves : tuple of int
        Halves of the data that take part.
    drop : frozenset of str
        Categories left out by hand.
    with_likelihood : bool
        Whether there is a likelihood at all.
    reference_errors : bool
        Without, the covariance is that of the events alone: for halves of them, which have the
        reference in common.

    Returns
    -------
    Kind
        Moves from the corrections so far.
    """
    steps = steps_of(walk.values, name, settings.n_eta)
    a2, c2 = resolution_of(walk.values, name, settings)
    kept = {s.grid.resonance: walk.values.get(group_key(name, s)) for s in sources}
    peaks = [
        resonance_peaks(s, settings, a2, c2, halves, drop, kept[s.grid.resonance]) for s in sources
    ]
    if not reference_errors:
        peaks = [replace(p, covariance=p.covariance - p.reference_covariance) for p in peaks]
    peaks = [still_dropped(p, walk.values.get(dropped_key(name, p.source))) for p in peaks]
    found = chi2_of(peaks, settings)
    peaks = far_ones_marked(peaks, found, settings)
    found = chi2_of(peaks, settings)
    kind = Kind(name, tuple(peaks), steps, a2, c2, found, None, settings)
    near = max(kind.significance().values()) < NEAR or pass_number(walk) >= settings.max_passes
    if not (with_likelihood and near):
        return kind
    return replace(kind, likelihood=likelihood_of(peaks, settings, found))


def group_key(name: str, source: Source) -> str:
    """Return the name under which a pass keeps the merging of a resonance's categories.

    Parameters
    ----------
    name : {"data", "simulation"}
        Whose it is.
    source : Source
        Of the resonance.

    Returns
    -------
    str
        ``data_group_jpsi``.
    """
    return f"{name}_group_{source.grid.resonance}"


def dropped_key(name: str, source: Source) -> str:
    """Return the name under which a pass keeps which categories were dropped, and why.

    Parameters
    ----------
    name : {"data", "simulation"}
        Whose it is.
    source : Source
        Of the resonance.

    Returns
    -------
    str
        ``data_dropped_jpsi``.
    """
    return f"{name}_dropped_{source.grid.resonance}"


def still_dropped(peaks: Peaks, codes: IntArray | None) -> Peaks:
    """Return the peaks without what an earlier pass has dropped.

    A category at the edge of a gate would come and go, and the iteration with it.

    Parameters
    ----------
    peaks : Peaks
        Of n categories.
    codes : int array, shape (n,), or None
        Codes of the status in an earlier pass.

    Returns
    -------
    Peaks
        Of as many categories.
    """
    if codes is None:
        return peaks
    for status in Status:
        if status.code:
            peaks = peaks.without(codes == status.code, status)
    return peaks


def together(peaks: Sequence[Peaks], values: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
    """Return arrays of all resonances one after the other, of the usable categories.

    Parameters
    ----------
    peaks : sequence of Peaks
        One of each resonance.
    values : mapping of str to sequence of array
        By name, one array of each resonance.

    Returns
    -------
    dict of str to array
        Usable categories of all resonances.
    """
    return {
        name: np.concatenate([v[p.ok] for p, v in zip(peaks, columns, strict=True)])
        for name, columns in values.items()
    }


def chi2_of(peaks: Sequence[Peaks], settings: Settings) -> Extraction:
    """Return the moves that describe (mu^2, sigma^2) of all usable categories.

    Parameters
    ----------
    peaks : sequence of Peaks
        One of each resonance.
    settings : Settings
        Number of eta bins.

    Returns
    -------
    Extraction
        A, e (GeV), M (1/GeV), a2, c2 (1/GeV^2).
    """
    mu2 = [np.exp(2 * p.log_mu) for p in peaks]
    covariance = []
    for p, m in zip(peaks, mu2, strict=True):
        c = p.covariance.copy()
        c[:, 0, 0] *= 4 * m * m
        c[:, 0, 1] *= 2 * m
        c[:, 1, 0] *= 2 * m
        covariance.append(floored(c, p))
    columns: Any = together(
        peaks, {f: [getattr(p.means, f) for p in peaks] for f in Means.__dataclass_fields__}
    )
    # errors go with the width of the peak: the resolution and the natural width
    width2 = [p.v + p.reference_v + natural_width2(p.resonance) for p in peaks]
    rest = together(
        peaks, {"mu2": mu2, "v": [p.v for p in peaks], "cov": covariance, "width2": width2}
    )
    found = chi2.extract(
        Means(**columns),
        rest["mu2"],
        rest["v"],
        rest["cov"],
        n_eta=settings.n_eta,
        errors="smoothed",
        width2=rest["width2"],
    )
    return replace(found, residuals=scattered(peaks, found.residuals))


def floored(covariance: Array, peaks: Peaks) -> Array:
    """Return the covariance with no error of v far below what its width and events allow.

    Where few events fluctuate to a narrow peak the likelihood is steep, and its error of v too
    small by far; all categories of a resonance together know better.

    Parameters
    ----------
    covariance : array, shape (n, 2, 2)
        Of (mu^2, v).
    peaks : Peaks
        Of the n categories.

    Returns
    -------
    array, shape (n, 2, 2)
        With the same correlations.
    """
    ok = peaks.ok
    if ok.sum() < 20:
        return covariance
    # the width of the reference does not fluctuate
    width2 = peaks.reference_v + natural_width2(peaks.resonance)
    usual = width2**2 / np.maximum(peaks.n_events, 1.0)
    floor = FLOOR * np.median(covariance[ok, 1, 1] / usual[ok]) * usual
    variance = np.where(covariance[:, 1, 1] > 0, covariance[:, 1, 1], np.inf)
    grow = np.sqrt(np.fmax(1.0, floor / variance))
    out = covariance.copy()
    out[:, 1, :] *= grow[:, None]
    out[:, :, 1] *= grow[:, None]
    return out


def natural_width2(resonance: str) -> float:
    """Return the square of the natural width over the mass."""
    found = RESONANCES[resonance]
    return (found.width / found.masses[0]) ** 2


def scattered(peaks: Sequence[Peaks], values: Array) -> Array:
    """Return values of the usable categories as one of all, NaN for the others.

    Parameters
    ----------
    peaks : sequence of Peaks
        One of each resonance, n categories in all.
    values : array, shape (usable,)
        Of the usable ones.

    Returns
    -------
    array, shape (n,)
        NaN for the others.
    """
    ok = np.concatenate([p.ok for p in peaks])
    out = np.full(len(ok), np.nan)
    out[ok] = values
    return out


def far_ones_marked(peaks: Sequence[Peaks], found: Extraction, settings: Settings) -> list[Peaks]:
    """Return the peaks with categories far from all others marked.

    Parameters
    ----------
    peaks : sequence of Peaks
        One of each resonance.
    found : Extraction
        With residuals of all categories.
    settings : Settings
        Largest residual, in errors.

    Returns
    -------
    list of Peaks
        One of each resonance.
    """
    far = np.abs(np.nan_to_num(found.residuals)) > settings.gates.residual
    ends = np.cumsum([len(p) for p in peaks])[:-1]
    return [
        p.without(at, Status.OFF_NEIGHBOURS)
        for p, at in zip(peaks, np.split(far, ends), strict=True)
    ]


def likelihood_of(peaks: Sequence[Peaks], settings: Settings, start: Extraction) -> Extraction:
    """Return the moves from one likelihood over all usable categories.

    Parameters
    ----------
    peaks : sequence of Peaks
        One of each resonance.
    settings : Settings
        Number of eta bins.
    start : Extraction
        Where it begins.

    Returns
    -------
    Extraction
        A, e (GeV), M (1/GeV), a2, c2 (1/GeV^2).
    """
    from calib.fitting.scale import likelihood

    parts = []
    for p in peaks:
        at = p.ok
        if not at.any():
            continue
        parts.append(
            likelihood.Part(
                counts=p.counts[at],
                variance=None if p.variance is None else p.variance[at],
                edges=p.source.grid.mass_edges,
                templates=p.templates[at],
                template_variance=np.zeros_like(p.templates[at]),
                template_mass=p.template_mass,
                means=taken(p, at),
                background=p.background,
                fraction=p.data.background[at],
                slope=p.data.slope[at],
                log_mu=p.reference_log_mu[at],
                v=p.reference_v[at],
                reference_covariance=p.reference_covariance[at],
                usual_slope=p.usual_slope,
            )
        )
    found = likelihood.extract(parts, settings.n_eta, start)
    return replace(found, residuals=start.residuals)


def taken(peaks: Peaks, at: AnyArray) -> Means:
    """Return the means of some categories.

    Parameters
    ----------
    peaks : Peaks
        Categories of one resonance.
    at : bool array, shape (n,), or int array
        Mask or indices.

    Returns
    -------
    Means
        Of these.
    """
    m = peaks.means
    return type(m)(**{f: getattr(m, f)[at] for f in m.__dataclass_fields__})
