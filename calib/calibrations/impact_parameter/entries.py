"""d0 and z0 of one chunk of events, by category or over their resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.events.categories import Axis
from calib.events.histograms import Fill
from calib.events.pairs import Muons, Pairs
from calib.events.random import half
from calib.physics.kinematics import p_tilde
from calib.types import AnyArray, Array, IntArray

from .settings import Settings

OBSERVABLES = {"d0": "dxy", "z0": "dz"}
"""Each with its name in NanoAOD."""

CM = 1e4
"""In um."""

PULLS = 0.5 * np.sinh(np.linspace(-np.arcsinh(60.0), np.arcsinh(60.0), 121))
"""Bins of d0 and z0 in units of their resolution."""


@dataclass(frozen=True)
class Entries:
    """One entry for each muon, or each pair of muons in one category; arrays of shape (n,).

    ``value, error`` in um (the error as the events have it, NaN without), ``u`` = <1/p_tilde^2>
    in 1/GeV^2.
    """

    value: Array
    error: Array
    u: Array
    place: IntArray
    point: IntArray
    pt: Array
    phi: Array
    weight: Array
    half: IntArray


def entries(pairs: Pairs, name: str, settings: Settings) -> Entries:
    """Return the entries of ``d0`` or ``z0``."""
    both = [_of_muons(m, name, settings) for m in (pairs.leading, pairs.subleading)]
    part = half(pairs.run, pairs.luminosityBlock, pairs.event)
    if settings.observable == "single":
        x, dx, u, place, point, pt, phi = (np.concatenate(c) for c in zip(*both, strict=True))
        weight, part = np.tile(pairs.weight, 2), np.tile(part, 2)
        return Entries(x, dx, u, place, point, pt, phi, weight, part)
    (x, dx, u, place, point, pt, phi), (y, dy, v, place2, point2, _, phi2) = both
    # what an offset of the vertex adds to d0 has the sign of the muon's direction
    sign = np.where((name == "d0") & (np.cos(phi - phi2) < 0), -1.0, 1.0)
    same = (place == place2) & (point == point2)
    return Entries(
        (x - sign * y) / np.sqrt(2.0),
        np.hypot(dx, dy) / np.sqrt(2.0),
        0.5 * (u + v),
        np.where(same, place, -1),
        point,
        pt,
        phi,
        pairs.weight,
        part,
    )


def _of_muons(muons: Muons, name: str, settings: Settings) -> tuple[AnyArray, ...]:
    column = OBSERVABLES[name]
    error = muons.extra.get(f"{column}Err", np.full(len(muons.pt), np.nan))
    scale = p_tilde(muons.pt, muons.eta, name)
    return (
        CM * np.asarray(muons.extra[column], dtype=np.float64),
        CM * np.asarray(error, dtype=np.float64),
        scale**-2.0,
        settings.places.index(muons.eta, muons.phi),
        settings.points.index(scale),
        muons.pt,
        muons.phi,
    )


def observed(pairs: Pairs, name: str, settings: Settings) -> Fill:
    """Return d0 or z0 by half and category."""
    e = entries(pairs, name, settings)
    n = len(settings.points)
    inside = (e.place >= 0) & (e.point >= 0)
    flat = np.where(inside, (e.half * len(settings.places) + e.place) * n + e.point, -1)
    means = {"u": e.u, "u_squared": e.u**2, "error_squared": e.error**2}
    return Fill(flat, 2 * len(settings.places) * n, e.value, settings.edges, e.weight, means)


def normalised(pairs: Pairs, name: str, settings: Settings, lines: Array) -> dict[str, Fill]:
    """Return d0 or z0 over its resolution, in bins of the place, of pt and of phi.

    Parameters
    ----------
    lines : array, shape (2, places, 2)
        a^2 and b^2 of each half; an event gets those of the other one.
    """
    e, n = entries(pairs, name, settings), len(settings.places)
    A, B = lines[::-1][e.half, e.place].T  # place -1: some number, left out below
    with np.errstate(invalid="ignore"):
        variance = A + B * e.u
        good = (e.place >= 0) & (e.point >= 0) & (variance > 0)
    scale = np.sqrt(np.where(good, variance, 1.0))
    means = {"constant": scale**-2, "slope": e.u * scale**-2}
    looks = {
        "place": np.zeros(len(e.u), dtype=np.int64),
        "pt": Axis("pt", settings.closure.pt).index(e.pt),
        "phi": Axis("phi", tuple(np.linspace(-3.1416, 3.1416, settings.closure.n_phi + 1))).index(
            e.phi
        ),
    }
    found = {}
    for look, at in looks.items():
        size = settings.looks[look]
        flat = np.where(good & (at >= 0), (e.half * size + at) * n + e.place, -1)
        found[f"{name}_{look}"] = Fill(flat, 2 * size * n, e.value / scale, PULLS, e.weight, means)
    return found
