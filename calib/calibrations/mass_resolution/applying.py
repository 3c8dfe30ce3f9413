"""A payload of the mass resolution on pairs: the calibrated resolution, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.errors import InputError
from calib.events.pairs import Pairs
from calib.physics.kinematics import predicted_mass_resolution
from calib.types import AnyArray, Array, IntArray

from . import payload as payloads


@dataclass(frozen=True)
class _MuonFactors:
    """Factors on ptErr of the leading and the other muon, shape (2, n), and their status."""

    factor: Array
    error: Array
    status: Array


def columns(document: Mapping[str, Any], pairs: Pairs) -> dict[str, AnyArray]:
    """Return the resolution of each pair and its parts.

    ``dimuon_mass_resolution`` and ``..._predicted`` in GeV, ``..._factor`` their ratio with
    ``..._factor_err``, ``..._status``. With factors of muons also ``mu1_ptErr_factor``,
    ``mu1_ptErr_factor_err`` and the like of ``mu2``; the error of the ratio then takes the errors
    of both muons as fully correlated, which is the most that it can be, and the status is the worse
    of both.

    Parameters
    ----------
    document : mapping
        The payload.
    pairs : Pairs, length n
        With ptErr, GeV.

    Returns
    -------
    dict of str to array, shape (n,)
        The columns, by name.

    Raises
    ------
    InputError
        If the pairs have no ptErr, or the payload no factors of muons although it names them.
    """
    first, second = pairs.leading, pairs.subleading
    if first.pt_err is None or second.pt_err is None:
        raise InputError(
            "the payload multiplies a predicted resolution, but the events have no ptErr;"
            " add the columns mu1_ptErr and mu2_ptErr (Muon_ptErr)"
        )
    relative = np.array([first.pt_err / first.pt, second.pt_err / second.pt])
    predicted = predicted_mass_resolution(pairs.mass, *relative)
    extra: dict[str, AnyArray] = {}
    if payloads.way(document) == "muon":
        muons = _muons(document, pairs)
        resolution = predicted_mass_resolution(pairs.mass, *(muons.factor * relative))
        own = (muons.factor * relative) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = resolution / predicted
            error = factor * np.sum(own / own.sum(0) * muons.error / muons.factor, axis=0)
        status = muons.status.max(0)  # NaN stays
        for i in (0, 1):
            extra[f"mu{i + 1}_ptErr_factor"] = muons.factor[i]
            extra[f"mu{i + 1}_ptErr_factor_err"] = muons.error[i]
    else:
        factor, error, status = payloads.evaluate(document, first.pt, first.eta, second.eta)
        resolution = factor * predicted
    return {
        "dimuon_mass_resolution": resolution,
        "dimuon_mass_resolution_predicted": predicted,
        "dimuon_mass_resolution_factor": factor,
        "dimuon_mass_resolution_factor_err": error,
        "dimuon_mass_resolution_status": _codes(status),
        **extra,
    }


def _codes(status: Array) -> IntArray:
    """Return statuses as numbers of `Status`; a payload of others may hold any number."""
    return np.asarray(np.clip(np.nan_to_num(status, nan=-1), -1, 99).astype(np.int32))


def _muons(document: Mapping[str, Any], pairs: Pairs) -> _MuonFactors:
    found = [
        payloads.evaluate_muon(document, m.pt, m.eta) for m in (pairs.leading, pairs.subleading)
    ]
    if found[0] is None or found[1] is None:
        raise InputError(
            f"the payload says that factors of muons are to be applied ({payloads.APPLY}), but has"
            f" no {payloads.MUON}; take a payload.json that `calib run` has written"
        )
    return _MuonFactors(*(np.stack(both) for both in zip(*found, strict=True)))


def with_errors(document: Mapping[str, Any], pairs: Pairs) -> Pairs:
    """Return pairs with calibrated ptErr; without ptErr they are given back as they are.

    Parameters
    ----------
    document : mapping
        The payload.
    pairs : Pairs
        GeV.

    Returns
    -------
    Pairs
        With another pt_err, in GeV.
    """
    first, second = pairs.leading, pairs.subleading
    if first.pt_err is None or second.pt_err is None:
        return pairs
    if payloads.way(document) == "muon":
        factors = _muons(document, pairs).factor
    else:
        factor, _, _ = payloads.evaluate(document, first.pt, first.eta, second.eta)
        factors = np.stack([factor, factor])
    return replace(
        pairs,
        leading=replace(first, pt_err=first.pt_err * factors[0]),
        subleading=replace(second, pt_err=second.pt_err * factors[1]),
    )
