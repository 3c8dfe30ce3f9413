"""Radiation stronger or weaker than in the reference: what it does to the scale, and its trace.

A mass peak fitted with a template that radiates too little comes out low, since the fit takes part
of the tail below the peak for a shift. To first order no fit is made again: with t(f) the expected
shares of the bins for a radiation of strength f and the rows J = dt/d(lambda, v, background), the
minimum moves by H^-1 J (dt/df / t) for a unit of f, with H = J J^T / t. What of dt/df no parameter
can take up measures f itself.

Where the generated line is narrow, what lies below it has radiated: those entries are weighted
with f. Of a Z it is not known which have; the template radiates f - 1 times more, by the
collinear spectrum (alpha/pi)(ln(m^2/m_mu^2) - 1)(1 + (1-x)^2)/(2x) of either muon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.fitting.kernel import numpy_engine
from calib.fitting.kernel.problem import SLOPE_ERROR, Problem, coefficients, problem
from calib.physics.constants import ALPHA, LABELS, MUON_MASS, RESONANCES
from calib.results import Check
from calib.types import Array, IntArray

from .peaks import WIDE, Peaks
from .reduction import Kind, chi2_of

STRENGTH = 0.1
"""The variation: radiation x 1.1, and x 0.9 the other way."""

AT_PEAK = 3.5e-4
"""Half of the relative width of the bin of the generated mass that holds the line itself."""

LEAST_PHOTON = 1e-4
STEP = 0.02
BLOCK = 500
ERRORS = 3.0


def stronger(template: Array, mass: Array, resonance: str, strength: float) -> Array:
    """Return templates with another strength of the radiation.

    Parameters
    ----------
    template : array, shape (n, gen bins)
        Entries.
    mass : array, shape (gen bins,)
        Mean generated mass of each bin, GeV.
    resonance : str
        ``jpsi``, ``upsilon`` or ``z``.
    strength : float
        1 is what they are.

    Returns
    -------
    array, shape (n, gen bins)
        Entries.
    """
    found = RESONANCES[resonance]
    if found.width > WIDE:
        return np.asarray(template + (strength - 1) * (template @ _radiating(mass)))
    line = np.zeros(len(mass), dtype=np.bool_)
    for m in found.masses:
        line |= np.abs(mass / m - 1) < AT_PEAK
    total = np.maximum(template.sum(1, keepdims=True), 1e-300)
    radiated = template[:, ~line].sum(1, keepdims=True) / total
    rest = (1 - strength * radiated) / np.maximum(1 - radiated, 1e-9)
    return np.asarray(template * np.where(line, rest, strength))


def _radiating(mass: Array) -> Array:
    """Return what one more unit of radiation does to entries of each bin, (gen bins, gen bins)."""
    n = len(mass)
    edges = np.exp(np.linspace(np.log(LEAST_PHOTON), np.log(0.9), 61))
    x = np.sqrt(edges[1:] * edges[:-1])
    spectrum = 0.5 * (1 + (1 - x) ** 2) * np.diff(np.log(edges))
    size = 2 * ALPHA / np.pi * (2 * np.log(mass / MUON_MASS) - 1)
    out = np.zeros((n, n))
    for shrink, share in zip(np.sqrt(1 - x), spectrum, strict=True):
        at = np.interp(mass * shrink, mass, np.arange(n), left=-1.0)
        low = np.minimum(np.floor(at).astype(int), n - 2)
        inside = np.flatnonzero(at >= 0)
        upper = at[inside] - low[inside]
        np.add.at(out, (inside, low[inside]), share * size[inside] * (1 - upper))
        np.add.at(out, (inside, low[inside] + 1), share * size[inside] * upper)
        out[np.arange(n), np.arange(n)] -= share * size
    return out


@dataclass(frozen=True)
class Response:
    """What a unit of the strength does to the fits of the categories of one resonance.

    Parameters
    ----------
    log_mu, v : arrays, shape (n,)
        Bias of ln mu and of (sigma/mu)^2 where the data radiate a unit more than the template.
    score, information : arrays, shape (n,)
        Of the strength minus 1 in each category, its own parameters profiled out.
    """

    log_mu: Array
    v: Array
    score: Array
    information: Array


def response(p: Peaks) -> Response:
    """Return what the strength of the radiation does to each category, 0 where it has no fit."""
    n, out = len(p), np.zeros((4, len(p)))
    theta = _theta(p)
    good = np.flatnonzero(p.ok & np.isfinite(theta).all(1) & (p.templates.sum(1) > 0))
    if not len(good):
        return Response(*out)
    shared = _problem(p, theta[good])
    for first in range(0, len(good), BLOCK):
        at = good[first : first + BLOCK]
        out[:, at] = _of_block(p, shared, theta, at)
    assert out.shape == (4, n)
    return Response(*out)


def _theta(p: Peaks) -> Array:
    d = p.data
    columns = [np.log(d.mu), (d.sigma / d.mu) ** 2, d.background, d.slope - p.usual_slope]
    if p.background == "none":
        columns[2:] = [np.zeros(len(p)), np.zeros(len(p))]
    if p.background == "quadratic":
        columns.append(d.curvature)
    return np.stack(columns, 1)


def _problem(p: Peaks, theta: Array) -> Problem:
    used = p.template_mass[(p.templates != 0).any(0)]
    widths = np.sqrt(theta[:, 1].min()), np.sqrt(theta[:, 1].max())
    return problem(
        p.source.grid.mass_edges,
        (float(used.min()), float(used.max())),
        (0.9 * float(widths[0]), 1.1 * float(widths[1])),
        p.background,
        False,
        (0.95, 1.05),
        p.usual_slope,
    )


def _of_block(p: Peaks, shared: Problem, theta: Array, at: IntArray) -> Array:
    def state(strength: float) -> numpy_engine.ModelState:
        made = stronger(p.templates[at], p.template_mass, p.resonance, strength)
        return numpy_engine.evaluate(shared, coefficients(shared, made, p.template_mass), theta[at])

    here = state(1.0)
    slope = (state(1 + STEP).t - state(1 - STEP).t) / (2 * STEP)
    free = 2 + shared.n_background
    rows, t = here.rows[:, :free], here.t[:, None]
    counts, size = p.counts[at], np.maximum(p.counts[at].sum(1), 1e-300)
    hessian = np.matmul(rows / t, rows.transpose(0, 2, 1))
    for i in range(3, free):  # the weak constraint of the slope
        hessian[:, i, i] += 1 / (SLOPE_ERROR**2 * size)
    if free > 2:  # at its limit of 0 the fraction does not move, and the slope means nothing
        fixed = theta[at, 2] <= 0
        hessian[fixed, 2:, :], hessian[fixed, :, 2:] = 0.0, 0.0
        hessian[fixed, 2:, 2:] = np.eye(free - 2)
        rows = np.where((fixed[:, None] & (np.arange(free) >= 2))[:, :, None], 0.0, rows)
    right = np.matmul(rows / t, slope[:, :, None])
    moved = np.linalg.solve(hessian, right)[:, :, 0]
    left = slope - np.einsum("np,npk->nk", moved, rows)
    score = ((counts - size[:, None] * here.t) * left / here.t).sum(1)
    # sums of squared weights: the score scatters by more than the information says
    information = size * (left * slope / here.t).sum(1)
    return np.stack([moved[:, 0], moved[:, 1], score, information])


# parameters --------------------------------------------------------------------------------------
def shift(kind: Kind, responses: Sequence[Response]) -> Array:
    """Return by how much all parameters move if the data radiate 1.1 times.

    All resonances together; NaN where a parameter is not determined.

    Parameters
    ----------
    kind : Kind
        The result.
    responses : sequence of Response
        One of each resonance.

    Returns
    -------
    array, shape (5 n_eta,)
        A, e (GeV), M (1/GeV), a2, c2 (1/GeV^2), kind by kind.
    """
    moved = [
        replace(p, log_mu=p.log_mu - STRENGTH * r.log_mu, v=p.v - STRENGTH * r.v)
        for p, r in zip(kind.peaks, responses, strict=True)
    ]
    there, here = (chi2_of(peaks, kind.settings).values for peaks in (moved, kind.peaks))
    return np.asarray(there - here)


def responses(kind: Kind) -> list[Response]:
    """Return the response of each resonance; none where the reference is the data's own."""
    return [
        response(p) if p.source.copies > 0 else Response(*np.zeros((4, len(p)))) for p in kind.peaks
    ]


@dataclass(frozen=True)
class Strength:
    """Strength of the radiation of the data over that of the reference, and its error.

    ``scale`` is by how much ln(mass) is off for a unit of the strength, the mean over the events.
    """

    value: float
    error: float
    scale: float


def strength_of(p: Peaks, r: Response) -> Strength:
    """Return the strength that the tail below the peak shows.

    Parameters
    ----------
    p : Peaks
        Categories of one resonance.
    r : Response
        Of the same.

    Returns
    -------
    Strength
        NaN where no category can tell.
    """
    information, weight = float(r.information.sum()), np.where(p.ok, p.n_events, 0.0)
    if not information > 0:
        return Strength(np.nan, np.nan, 0.0)
    excess = 1.0
    if p.variance is not None:
        excess = float(p.variance[p.ok].sum() / max(p.counts[p.ok].sum(), 1e-300))
    variance = max(excess, 1.0) / information + _of_template(p)
    return Strength(
        1 + float(r.score.sum()) / information,
        float(np.sqrt(variance)),
        float((weight * r.log_mu).sum() / max(weight.sum(), 1.0)),
    )


def _of_template(p: Peaks) -> float:
    """Return the variance of the strength from the events that the template was made of."""
    total, line = p.templates[p.ok].sum(0), np.zeros(len(p.template_mass), dtype=np.bool_)
    for m in RESONANCES[p.resonance].masses:
        line |= np.abs(p.template_mass / m - 1) < AT_PEAK
    tail = (p.template_mass > p.source.grid.mass_edges[0]) & ~line
    sources = total / max(p.source.copies, 1)
    return float(1 / max(sources[tail].sum(), 1.0))


def check(p: Peaks, r: Response) -> Check:
    """Return whether the tail below the peak is that of the reference.

    What the variation covers is well enough; beyond, three errors are needed to say so.

    Parameters
    ----------
    p : Peaks
        Categories of one resonance.
    r : Response
        Of the same.

    Returns
    -------
    Check
        ``tail_below_peak_RESONANCE``: distance of the strength from 1.
    """
    found = strength_of(p, r)
    off = abs(found.value - 1)
    most = float(np.hypot(STRENGTH, ERRORS * found.error))
    passed = bool(off <= most) or not np.isfinite(found.value)
    name, title = f"tail_below_peak_{p.resonance}", f"Radiative tail of {LABELS[p.resonance]}"
    if not np.isfinite(found.value):
        return Check(name, 0.0, STRENGTH, True, "no category can tell", "<=", title)
    shift_of = found.scale * (found.value - 1)
    return Check(
        name,
        off,
        most,
        passed,
        f"the tail below the peak is {found.value:.3f} ± {found.error:.3f} times that of the"
        f" reference; were all of it radiation, the mass scale would be off by {shift_of:+.1e}"
        f" ({STRENGTH:.0%} is in the stated error)",
        "<=",
        title,
        "take a simulation whose muons radiate (final-state radiation), or embedding with"
        " settings.fsr: true; else look for a background below the peak",
    )
