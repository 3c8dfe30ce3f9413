"""The muons and pairs of one chunk of events: flat arrays, one entry a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from calib.physics.kinematics import mass as pair_mass
from calib.types import AnyArray, Array, BoolArray, IntArray, UIntArray


@dataclass(frozen=True)
class Muons:
    """One muon of each pair; arrays of shape (n,), double precision, GeV.

    ``pt_err`` is None where the input has none; ``gen_*`` (after FSR) are None in collision
    data; a muon without a generated partner has gen_pt = NaN. ``extra`` holds whatever other
    columns a calibration asked for, by their names in the input (``dxy``, ``dz`` ...).
    """

    pt: Array
    eta: Array
    phi: Array
    charge: IntArray
    pt_err: Array | None = None
    gen_pt: Array | None = None
    gen_eta: Array | None = None
    gen_phi: Array | None = None
    extra: Mapping[str, AnyArray] = field(default_factory=dict)

    def take(self, keep: BoolArray | IntArray) -> Muons:
        """Return the muons selected by a mask or by indices.

        Parameters
        ----------
        keep : bool array, shape (n,), or int array
            Mask or indices.

        Returns
        -------
        Muons
            The selected ones.
        """
        return Muons(**{f.name: _take(getattr(self, f.name), keep) for f in fields(self)})


@dataclass(frozen=True)
class Pairs:
    """Opposite- or same-sign pairs; ``leading`` has the larger pt. Arrays of shape (n,).

    ``gen_mass`` is the mass after FSR of the generated muons, in GeV, or None.
    """

    leading: Muons
    subleading: Muons
    weight: Array
    run: UIntArray
    luminosityBlock: UIntArray
    event: UIntArray
    gen_mass: Array | None = None

    def __len__(self) -> int:
        return len(self.weight)

    @cached_property
    def mass(self) -> Array:
        """Mass computed from the muons, in GeV."""
        a, b = self.leading, self.subleading
        return pair_mass(a.pt, a.eta, a.phi, b.pt, b.eta, b.phi)

    def with_mass(self, mass: Array) -> Pairs:
        """Return the same pairs with the mass of their muons, where it is known already.

        Parameters
        ----------
        mass : array, shape (n,)
            In GeV.

        Returns
        -------
        Pairs
            Whose mass is not calculated again.
        """
        found = replace(self)
        found.__dict__["mass"] = mass
        return found

    @property
    def plus(self) -> Muons:
        """The positive muon of each pair (of an opposite-sign pair)."""
        return _choose(self.leading.charge > 0, self.leading, self.subleading)

    @property
    def minus(self) -> Muons:
        """The negative muon of each pair (of an opposite-sign pair)."""
        return _choose(self.leading.charge > 0, self.subleading, self.leading)

    def take(self, keep: BoolArray | IntArray) -> Pairs:
        """Return the pairs selected by a mask or by indices.

        Parameters
        ----------
        keep : bool array, shape (n,), or int array
            Mask or indices.

        Returns
        -------
        Pairs
            The selected ones.
        """
        parts: dict[str, Any] = {
            f.name: getattr(self, f.name).take(keep)
            if isinstance(getattr(self, f.name), Muons)
            else _take(getattr(self, f.name), keep)
            for f in fields(self)
        }
        taken = Pairs(**parts)
        return taken.with_mass(self.mass[keep]) if "mass" in self.__dict__ else taken


def generated_mass(first: Muons, second: Muons) -> Array:
    """Return the mass of the generated muons; not a number without two different ones.

    Parameters
    ----------
    first, second : Muons
        Of n pairs, with their generated muons.

    Returns
    -------
    array, shape (n,)
        In GeV, after FSR.
    """
    assert first.gen_pt is not None and first.gen_eta is not None and first.gen_phi is not None
    assert second.gen_pt is not None and second.gen_eta is not None and second.gen_phi is not None
    same = (first.gen_pt == second.gen_pt) & (first.gen_eta == second.gen_eta)
    mass = pair_mass(
        first.gen_pt, first.gen_eta, first.gen_phi, second.gen_pt, second.gen_eta, second.gen_phi
    )
    return np.where(same, np.nan, mass)


def _take(value: Any, keep: AnyArray) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {name: column[keep] for name, column in value.items()}
    return value[keep]


def _choose(first: BoolArray, a: Muons, b: Muons) -> Muons:
    def pick(x: Any, y: Any) -> Any:
        if x is None or y is None:
            return None
        if isinstance(x, Mapping):
            return {name: np.where(first, x[name], y[name]) for name in x}
        return np.where(first, x, y)

    return Muons(**{f.name: pick(getattr(a, f.name), getattr(b, f.name)) for f in fields(Muons)})
