"""The payload applied to muons: pt on the scale of the data, simulated ones smeared as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.events.random import keys, mix, normal_pair
from calib.physics.kinematics import mass as pair_mass
from calib.physics.kinematics import predicted_mass_resolution
from calib.results import Status
from calib.types import AnyArray, Array, UIntArray

from . import reading
from .payload import NAME

SEED = 20
"""Of the smearing; fixed, so that the same event is smeared the same way everywhere."""


def apply(document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
    """Return the corrected pt of both muons, and ptErr where there is one.

    ``mu1_pt, mu2_pt, mu1_ptErr, mu2_ptErr``. The muons stay in the order of the pairs, leading
    first as measured, whatever their corrected pt. Pairs with a generated mass are simulated.

    Parameters
    ----------
    document : mapping
        The payload.
    pairs : Pairs, length n
        GeV.

    Returns
    -------
    mapping of str to array, shape (n,)
        In GeV.

    Raises
    ------
    InputError
        If the payload contradicts itself, or has no scale of simulated muons but meets some.
    """
    simulated = pairs.gen_mass is not None
    found: dict[str, AnyArray] = {}
    for number, muons in ((1, pairs.leading), (2, pairs.subleading)):
        made = apply_muons(
            document, muons, pairs.run, pairs.luminosityBlock, pairs.event, simulated
        )
        found[f"mu{number}_pt"] = made.pt
        if made.pt_err is not None:
            found[f"mu{number}_ptErr"] = made.pt_err
    return found


def apply_muons(
    document: Mapping[str, Any],
    muons: Muons,
    run: AnyArray,
    luminosityBlock: AnyArray,
    event: AnyArray,
    simulated: bool,
) -> Muons:
    """Return muons with corrected pt; ptErr is rescaled by the same factor.

    Parameters
    ----------
    document : mapping
    muons : Muons
        Each for itself, shape (n,).
    run, luminosityBlock, event : array, shape (n,)
        Of each muon. With its direction they make the random number of its smearing: the same
        however events are cut into chunks, muons ordered or pairs chosen.
    simulated : bool
        Corrected by the scale of the simulation and smeared to the resolution of the data.

    Returns
    -------
    Muons
        pt and pt_err in GeV.
    """
    constants = reading.constants(document)
    if simulated and (constants.simulation is None or constants.smearing is None):
        raise InputError(
            "the events are simulated, but the payload was made without a simulated sample; make"
            " one with a sample of simulation: true beside the data, or leave the simulation as"
            " it is"
        )
    known = np.isfinite(muons.pt) & (muons.pt > 0) & (np.abs(muons.charge) == 1)
    pt = np.where(known, muons.pt, 1.0)
    if simulated:
        assert constants.simulation is not None and constants.smearing is not None
        moved = constants.simulation.corrected(pt, muons.eta, muons.charge)
        width = constants.smearing(moved, muons.eta)
        key = muon_keys(keys(SEED, run, luminosityBlock, event), muons.eta, muons.phi)
        # a curvature smeared through zero is a muon of the other charge
        moved = moved / np.abs(1 + width * normals(key))
    else:
        moved = constants.data.corrected(pt, muons.eta, muons.charge)
    new = np.where(known, moved, muons.pt)
    err = muons.pt_err if muons.pt_err is None else muons.pt_err * np.where(known, moved / pt, 1.0)
    return replace(muons, pt=new, pt_err=err)


def quality(document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
    """Return the resolution of the data and the status, of both muons and of their mass.

    ``mu1_resolution, mu2_resolution`` are sigma_k/k at the corrected pt, which simulated muons
    have as well once they are smeared; ``dimuon_mass_resolution`` is in GeV, angles neglected;
    a status is that of the eta bin (`calib.results.Status`), of the pair the worse one. Muons
    outside the eta range, or in a bin without a value, have no resolution (NaN).

    Parameters
    ----------
    document : mapping
        The payload.
    pairs : Pairs, length n
        As measured, GeV.

    Returns
    -------
    mapping of str to array, shape (n,)
        The columns, by name.
    """
    known = reading.by_name(document)
    width, edges = reading.width(known[f"{NAME}_resolution"]), reading.parameters(document)["edges"]
    codes = np.append(reading.status(document), Status.OUT_OF_RANGE.code)
    moved = apply(document, pairs)
    found: dict[str, AnyArray] = {}
    for number, muons in ((1, pairs.leading), (2, pairs.subleading)):
        status = codes[reading.bins_of(edges, muons.eta)]
        resolution = width(moved[f"mu{number}_pt"], muons.eta)
        found[f"mu{number}_resolution"] = np.where(status <= Status.HELD.code, resolution, np.nan)
        found[f"mu{number}_status"] = status.astype(np.int32)
    pt = [moved[f"mu{number}_pt"] for number in (1, 2)]
    first, second = pairs.leading, pairs.subleading
    mass = pair_mass(pt[0], first.eta, first.phi, pt[1], second.eta, second.phi)
    found["dimuon_mass_resolution"] = predicted_mass_resolution(
        mass, found["mu1_resolution"], found["mu2_resolution"]
    )
    found["dimuon_mass_resolution_status"] = np.maximum(found["mu1_status"], found["mu2_status"])
    return found


def muon_keys(events: UIntArray, eta: Array, phi: Array) -> UIntArray:
    """Return the key of each muon: that of its event, and its direction in single precision.

    Parameters
    ----------
    events : uint array, shape (n,)
        Keys of the events.
    eta, phi : array, shape (n,)
        Of the muons; phi in rad.

    Returns
    -------
    uint array, shape (n,)
        Hashes.
    """
    out = np.empty(len(events), dtype=np.uint64)
    bits = [np.ascontiguousarray(x, dtype=np.float32).view(np.uint32) for x in (eta, phi)]
    _muon_keys(events, bits[0], bits[1], out)
    return out


@numba.njit(cache=True)
def _muon_keys(events, eta, phi, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        direction = (np.uint64(eta[i]) << np.uint64(32)) | np.uint64(phi[i])
        out[i] = mix(events[i] ^ mix(direction))


def normals(key: UIntArray) -> Array:
    """Return one standard normal number of each key.

    Parameters
    ----------
    key : uint array, shape (n,)
        Of `muon_keys`.

    Returns
    -------
    array, shape (n,)
        Mean 0, width 1.
    """
    out = np.empty(len(key))
    _normals(key, out)
    return out


@numba.njit(cache=True)
def _normals(key, out):  # type: ignore[no-untyped-def]
    for i in range(len(key)):
        out[i] = normal_pair(key[i], 0)[0]
