"""Bins of eta and phi that each have parameters of their own: names, neighbours, stand-ins."""

from __future__ import annotations

import numpy as np

from calib.events.categories import Axis, Categories


def eta_phi(eta: tuple[float, ...], phi: tuple[float, ...]) -> Categories:
    """Return the bins, phi fastest: ``e3``, or ``e3_f0`` where there are several of phi.

    Parameters
    ----------
    eta, phi : tuple of float
        Edges; phi in rad.

    Returns
    -------
    Categories
        phi fastest.
    """
    axes = Axis("eta", eta), Axis("phi", phi)
    rows = range(len(axes[0])), range(len(axes[1]))
    names = [f"e{i}" + f"_f{j}" * (len(axes[1]) > 1) for i in rows[0] for j in rows[1]]
    return Categories(axes, tuple(names))


def neighbours(places: Categories) -> list[list[int]]:
    """Return for each bin those of the same phi that are at most two away in eta."""
    n_eta, n_phi = places.shape
    return [
        [e * n_phi + phi for e in range(n_eta) if 0 < abs(e - eta) <= 2]
        for eta, phi in (places.bins(i) for i in range(len(places)))
    ]


def stand_ins(places: Categories, i: int) -> dict[str, list[int]]:
    """Return what a bin falls back on, nearest first: all phi of it, then both signs of eta.

    Parameters
    ----------
    places : Categories
        Of `eta_phi`.
    i : int
        The bin.

    Returns
    -------
    dict of list of int
        By name (``e3``, ``e3e8``), the bins that are merged.
    """
    (eta, _), (n_eta, n_phi) = places.bins(i), places.shape
    edges = np.asarray(places.axes[0].edges)
    ring = [eta * n_phi + j for j in range(n_phi)]
    found = {f"e{eta}": ring} if n_phi > 1 else {}
    other = n_eta - 1 - eta
    if np.allclose(edges, -edges[::-1]) and other != eta:
        low, high = sorted((eta, other))
        found[f"e{low}e{high}"] = ring + [other * n_phi + j for j in range(n_phi)]
    return found
