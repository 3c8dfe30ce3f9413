"""Impact parameters of the toys: d0 and z0 of known a and b, with tails and a known error.

When to use: `Truth.impact_parameter` is set. Muons come from the vertex itself, so d0 and z0 are
measurement alone; secondary vertices and a beam spot are not made.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.physics.kinematics import p_tilde
from calib.types import Array

CM = 1e-4
"""A micrometre, in cm."""

STREAM = 4_711
"""Of the random numbers: other than that of the kinematics, which stay what they are."""

LARGEST = 1e5
"""Of a and b, in um and um GeV."""


@dataclass(frozen=True)
class ImpactTruth:
    """Resolution of the impact parameters, sigma = a (+) b / p_tilde.

    Parameters
    ----------
    eta_edges : tuple
        Of the eta bins; muons outside have the values of the last one on their side.
    d0_a, z0_a : per eta bin
        Intrinsic term, um.
    d0_b, z0_b : per eta bin
        Multiple scattering, um GeV.
    tail : float
        Share of the muons whose resolution is ``tail_width`` times as wide.
    tail_width : float
    err_factor : float
        True resolution of the core over the dxyErr and dzErr that are written.

    Raises
    ------
    InputError
        If there is not one number for each bin, or a number cannot be.
    """

    eta_edges: tuple[float, ...]
    d0_a: tuple[float, ...]
    d0_b: tuple[float, ...]
    z0_a: tuple[float, ...]
    z0_b: tuple[float, ...]
    tail: float = 0.05
    tail_width: float = 4.0
    err_factor: float = 1.1

    def __post_init__(self) -> None:
        n = len(self.eta_edges) - 1
        if n < 1 or np.any(np.diff(self.eta_edges) <= 0):
            raise InputError("key 'impact_parameter.eta_edges': the edges are not ascending")
        for field in fields(self):
            values = np.atleast_1d(np.asarray(getattr(self, field.name), dtype=float))
            if field.name[:2] in ("d0", "z0") and len(values) != n:
                raise InputError(
                    f"key 'impact_parameter.{field.name}': found {len(values)} numbers, expected"
                    f" {n}, one for each bin of 'eta_edges'; give as many as there are bins"
                )
            low, high = (-10.0, 10.0) if field.name == "eta_edges" else (0.0, LARGEST)
            high = 1.0 if field.name == "tail" else high
            bad = values[~((values >= low) & (values <= high))]
            if len(bad) or (field.name == "err_factor" and self.err_factor == 0):
                raise InputError(
                    f"key 'impact_parameter.{field.name}': found {(*bad, 0.0)[0]:g}, expected"
                    f" {low:g} to {high:g}; correct it"
                )

    def sigma(self, name: str, pt: Array, eta: Array) -> Array:
        """Return the resolution of the core of ``d0`` or ``z0``.

        Parameters
        ----------
        name : {"d0", "z0"}
            Which impact parameter.
        pt, eta : array, shape (n,)
            Of the muons; pt in GeV.

        Returns
        -------
        array, shape (n,)
            In um.
        """
        at = np.clip(np.digitize(eta, self.eta_edges) - 1, 0, len(self.eta_edges) - 2)
        a, b = (np.asarray(getattr(self, f"{name}_{part}"))[at] for part in ("a", "b"))
        return np.asarray(np.hypot(a, b / p_tilde(pt, eta, name)))


def impact_truth(n_eta: int = 12, simulation: bool = False) -> ImpactTruth:
    """Return a resolution of a real detector's size: 12 to 25 um, 60 to 90 um GeV.

    Parameters
    ----------
    n_eta : int
        Equal bins in [-2.4, 2.4]; each has the values at its centre.
    simulation : bool
        A resolution 6 % better.

    Returns
    -------
    ImpactTruth
        um, and um GeV.
    """
    edges = np.linspace(-2.4, 2.4, n_eta + 1)
    eta = 0.5 * (edges[1:] + edges[:-1])
    far, better = (np.abs(eta) / 2.4) ** 2, 0.94 if simulation else 1.0

    def values(centre: float, end: float, uneven: float) -> tuple[float, ...]:
        found = better * (centre + (end - centre) * far) * (1 + uneven * np.sin(2 * eta))
        return tuple(round(float(v), 4) for v in found)

    return ImpactTruth(
        tuple(round(float(x), 10) for x in edges),
        d0_a=values(12.0, 22.0, 0.05),
        d0_b=values(60.0, 85.0, 0.04),
        z0_a=values(28.0, 45.0, -0.05),
        z0_b=values(65.0, 90.0, 0.03),
    )


def with_impact_parameters(pairs: Pairs, truth: ImpactTruth, seed: int, simulation: bool) -> Pairs:
    """Return the pairs with ``dxy, dz, dxyErr, dzErr`` in cm among the extra columns.

    Parameters
    ----------
    pairs : Pairs
        n of them.
    truth : ImpactTruth
        Resolution and tails.
    seed : int
        Of the random numbers.
    simulation : bool
        Whether the random numbers are those of a simulated sample.

    Returns
    -------
    Pairs
        The same, with further columns.
    """
    random = np.random.default_rng([seed, STREAM, int(simulation)])
    return replace(
        pairs,
        leading=_measured(pairs.leading, truth, random),
        subleading=_measured(pairs.subleading, truth, random),
    )


def _measured(muons: Muons, truth: ImpactTruth, random: np.random.Generator) -> Muons:
    extra = dict(muons.extra)
    for name, column in (("d0", "dxy"), ("z0", "dz")):
        sigma = CM * truth.sigma(name, muons.pt, muons.eta)
        wide = random.random(len(sigma)) < truth.tail
        width = np.where(wide, truth.tail_width, 1.0) * sigma
        extra[column] = width * random.normal(size=len(sigma))
        extra[f"{column}Err"] = sigma / truth.err_factor
    return replace(muons, extra=extra)
