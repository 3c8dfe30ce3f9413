"""What is put into the toys: resolution, ptErr, background and, where asked for, A, e and M."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from calib.errors import InputError
from calib.toys.impact_parameter import ImpactTruth, impact_truth
from calib.types import Array, IntArray

SLOPES = {"jpsi": 2.0, "upsilon": 0.3, "z": 0.03, "h": 0.03}
"""Of the background under each resonance, in 1/GeV."""

SHARES = {"jpsi": 0.05, "upsilon": 0.05, "z": 0.03, "h": 0.03}
"""Of the background in the window of each resonance."""

LIMITS = {
    "a": (0.0, 0.5),
    "c": (0.0, 0.1),
    "pt_err_factor": (0.01, 100.0),
    "spread": (0.0, 2.0),
    "resolution_scale": (0.0, 10.0),
    "scale": (0.5, 2.0),
    "background": (0.0, 0.99),
    "pair_pt": (0.1, 1000.0),
    "A": (-0.1, 0.1),
    "e": (-0.5, 0.5),
    "M": (-0.01, 0.01),
    "A_phi": (-0.1, 0.1),
    "M_phi": (-0.01, 0.01),
}
"""Least and largest numbers of a truth that events can be made from."""


WHOLE = 3.1415
"""Least size of the first and the last edge of phi."""


@dataclass(frozen=True)
class Truth:
    """What is put in.

    Parameters
    ----------
    ring_edges : tuple
        Of the |eta| rings of a, c and pt_err_factor, where ``eta_edges`` is not given.
    a, c : per |eta| ring, or per eta bin
        sigma_k / k = a (+) c pt (c in 1/GeV).
    pt_err_factor : per |eta| ring, or per eta bin
        True resolution over the ptErr that is written.
    spread : float
        Relative spread of the resolution from muon to muon (log-normal; ptErr knows of it).
    resolution_scale : float
        Multiplies the true resolution, not the ptErr (0.88: a simulation 12 % too good).
    scale : float
        The reconstructed pt is the true one times this.
    background : float
        Share of the pairs in the window that are background.
    slope : float
        Of the background, exp(-slope m), in 1/GeV.
    pair_pt : float
        Mean pt of the pairs, about, in GeV.
    eta_edges : tuple
        Of the eta bins of the momentum scale; then a, c and pt_err_factor are per eta bin too.
    A, e, M : per eta bin
        Momentum scale, k_true / k = 1 + A - e k + q M / k with the measured k = 1/pt; e in GeV,
        M in 1/GeV. The generated k is smeared first, and then biased.
    phi_edges : tuple
        Of bins of phi, from -pi to pi, where the momentum scale changes with it.
    A_phi, M_phi : per eta bin and phi bin
        What is added to A and M there.
    impact_parameter : ImpactTruth, optional
        Resolution of d0 and z0, which the events then have.

    Raises
    ------
    InputError
        If there is not one number for each ring or bin, or a number cannot be.
    """

    ring_edges: tuple[float, ...] = (0.0, 0.9, 1.8, 2.4)
    a: tuple[float, ...] = (0.0075, 0.0125, 0.0190)
    c: tuple[float, ...] = (1.1e-4, 1.5e-4, 2.6e-4)
    pt_err_factor: tuple[float, ...] = (1.10, 1.20, 1.32)
    spread: float = 0.12
    resolution_scale: float = 1.0
    scale: float = 1.0
    background: float = 0.03
    slope: float = 0.03
    pair_pt: float = 14.0
    eta_edges: tuple[float, ...] = ()
    A: tuple[float, ...] = ()
    e: tuple[float, ...] = ()
    M: tuple[float, ...] = ()
    phi_edges: tuple[float, ...] = ()
    A_phi: tuple[tuple[float, ...], ...] = ()
    M_phi: tuple[tuple[float, ...], ...] = ()
    impact_parameter: ImpactTruth | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        edges = "eta_edges" if self.eta_edges else "ring_edges"
        if np.any(np.diff(getattr(self, edges)) <= 0):
            raise InputError(f"key {edges!r}: the edges are not ascending; sort them")
        n = max(len(getattr(self, edges)) - 1, 1)
        n_scale = n if self.eta_edges else 0
        for key, expected in (
            ("a", n),
            ("c", n),
            ("pt_err_factor", n),
            ("A", n_scale),
            ("e", n_scale),
            ("M", n_scale),
        ):
            if len(getattr(self, key)) != expected:
                raise InputError(
                    f"key {key!r}: found {len(getattr(self, key))} numbers, expected {expected},"
                    f" one for each bin of {edges!r}; give as many as there are bins"
                )
        self._check_phi(n_scale)

    def _check_phi(self, n_eta: int) -> None:
        edges = np.asarray(self.phi_edges)
        if len(edges) and (np.any(np.diff(edges) <= 0) or np.abs(edges[[0, -1]]).min() < WHOLE):
            raise InputError(
                f"key 'phi_edges': found {edges[0]:g} to {edges[-1]:g}, expected ascending edges"
                " from -pi to pi; correct them"
            )
        n_phi = max(len(edges) - 1, 0)
        for key in ("A_phi", "M_phi"):
            found = [len(row) for row in getattr(self, key)]
            if found != [n_phi] * (n_eta if n_phi else 0):
                raise InputError(
                    f"key {key!r}: found rows of {found} numbers, expected {n_eta} rows of {n_phi},"
                    " one number for each bin of 'eta_edges' and 'phi_edges'; correct it"
                )

    def _check_numbers(self) -> None:
        for field in fields(self):
            if field.name == "impact_parameter":
                continue  # it has checked its own
            given = getattr(self, field.name)
            if field.name in ("A_phi", "M_phi"):
                given = [value for row in given for value in row]
            values = np.atleast_1d(np.asarray(given, dtype=float))
            low, high = LIMITS.get(field.name, (-np.inf, np.inf))
            bad = values[~(np.isfinite(values) & (values >= low) & (values <= high))]
            if len(bad):
                raise InputError(
                    f"key {field.name!r}: found {bad[0]:g}, expected {low:g} to {high:g};"
                    " correct it"
                )

    @property
    def has_momentum_scale(self) -> bool:
        """Whether A, e, M are put in."""
        return bool(self.eta_edges)

    def scale_of(self, eta: Array, phi: Array) -> tuple[Array, Array, Array]:
        """Return A, e (GeV) and M (1/GeV) of each muon.

        Parameters
        ----------
        eta, phi : array, shape (n,)
            Pseudorapidity and azimuth.

        Returns
        -------
        (array, array, array), each of shape (n,)
            With what is added in the bin of phi.
        """
        at = self.bins(eta)
        A, e, M = (np.asarray(values)[at] for values in (self.A, self.e, self.M))
        if not self.phi_edges:
            return A, e, M
        n_phi = len(self.phi_edges) - 1
        turned = np.clip(np.digitize(phi, self.phi_edges) - 1, 0, n_phi - 1)
        return A + np.asarray(self.A_phi)[at, turned], e, M + np.asarray(self.M_phi)[at, turned]

    def bins(self, eta: Array) -> IntArray:
        """Return the |eta| ring or eta bin of each muon; those outside go to the last one.

        Parameters
        ----------
        eta : array, shape (n,)
            Pseudorapidity.

        Returns
        -------
        int array, shape (n,)
            Index into a, c, pt_err_factor.
        """
        edges, at = (self.eta_edges, eta) if self.eta_edges else (self.ring_edges, np.abs(eta))
        return np.asarray(np.clip(np.digitize(at, edges) - 1, 0, len(edges) - 2))


def momentum_truth(n_eta: int = 48, simulation: bool = False, *, resonance: str = "jpsi") -> Truth:
    """Return a momentum scale and a resolution of a real detector's size, smooth in eta.

    A of 1e-3, e of a few MeV and more at large |eta|, M of 2e-5/GeV with changes of sign;
    a of 0.7 to 2 %, c of 1e-4 to 2.5e-4. They are the same for every resonance, so that samples
    of several can be calibrated together.

    Parameters
    ----------
    n_eta : int
        Equal bins in [-2.4, 2.4]; each has the values at its centre.
    simulation : bool
        The scale of a simulation, which has other A, e, M, and a resolution 5 to 10 % better.
    resonance : str
        Decides the background.

    Returns
    -------
    Truth
        e in GeV, M and c in 1/GeV.
    """
    edges = np.linspace(-2.4, 2.4, n_eta + 1)
    eta = 0.5 * (edges[1:] + edges[:-1])
    far = np.abs(eta) / 2.4
    a, c = 0.007 + 0.013 * far**1.8, 1e-4 + 1.5e-4 * far**2
    if simulation:
        A = 1e-3 * (0.3 * np.sin(2.0 * eta) - 0.25)
        e = 1e-3 * (0.6 + 0.9 * far**2 - 0.4 * np.cos(2.5 * eta))
        M = 0.8e-5 * np.cos(2.6 * eta - 0.3)
        better = 0.925 + 0.025 * np.cos(1.5 * eta)
        a, c = better * a, better * c
    else:
        A = 1e-3 * (0.4 + 0.9 * np.cos(1.7 * eta + 0.3))
        e = 1e-3 * (2.0 + 4.5 * far**2 + 0.8 * np.sin(2.3 * eta))
        M = 1e-5 * (1.8 * np.sin(2.1 * eta + 0.4) + 0.6 * np.cos(5.0 * eta))
    return Truth(
        ring_edges=(),
        a=_tuple(a),
        c=_tuple(c),
        pt_err_factor=(1.10,) * n_eta,
        spread=0.0,
        background=SHARES[resonance],
        slope=SLOPES[resonance],
        eta_edges=tuple(round(float(x), 10) for x in edges),
        A=_tuple(A),
        e=_tuple(e),
        M=_tuple(M),
    )


def named_truth(name: str, resonance: str, simulation: bool) -> Truth | None:
    """Return the truth of a name, or None where there is no such name.

    Parameters
    ----------
    name : str
        ``default``: a momentum scale for J/psi and Upsilon, one resolution per |eta| ring for Z
        and H; ``momentum_scale`` (or with a hyphen): a momentum scale for all;
        ``impact_parameter``: the default, with d0 and z0.
    resonance : str
        One of ``calib.physics.constants.RESONANCES``.
    simulation : bool
        Whether it is that of a simulated sample.

    Returns
    -------
    Truth or None
        What `generate` takes.
    """
    scaled = momentum_truth(simulation=simulation, resonance=resonance)
    if name.replace("-", "_") == "momentum_scale":
        return scaled
    default = scaled if resonance in ("jpsi", "upsilon") else Truth()
    if name.replace("-", "_") == "impact_parameter":
        return replace(default, impact_parameter=impact_truth(simulation=simulation))
    return default if name == "default" else None


def _tuple(values: Array) -> tuple[float, ...]:
    return tuple(float(x) for x in values)
