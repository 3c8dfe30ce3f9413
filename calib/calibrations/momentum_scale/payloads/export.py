"""The scale in the layout that others read: m = 1 + A and a = M per eta bin, without e.

    pt_corr = 1 / (m k + q a)

Names and inputs are those of the muon scale corrections of CMS: ``m_data, a_data`` (and ``m_mc,
a_mc`` of the simulation) of (eta, phi, "nom"), "stat" for the errors, and "rho_stat" for their
correlation. phi is an input that nothing depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.errors import InputError
from calib.events.histograms import Sums
from calib.fitting.scale.model import corrected
from calib.payload import nodes
from calib.results import Exported
from calib.types import Array, BoolArray

from . import reading, scalesmearing
from .payload import NAME, SIMULATION, binned

LAYOUT = "additive_multiplicative"
LAYOUTS = (LAYOUT, scalesmearing.LAYOUT)
COMPARED_AT = (6.0, 10.0, 45.0)
"""pt in GeV at which the layout is compared with the full correction."""


def export(
    document: Mapping[str, Any],
    layout: str,
    at: float | None = None,
    sums: Mapping[str, Sums] | None = None,
) -> Exported:
    """Return a payload in another layout.

    Parameters
    ----------
    document : mapping
        A payload of the momentum scale.
    layout : str
        ``additive_multiplicative``, or ``muon_scalesmearing`` (`scalesmearing.export`).
    at : float, optional
        pt in GeV at which e is absorbed, m = 1 + A - e/at, so that muons of this pt are exact.
    sums : mapping of the name of a sample to Sums, optional
        Those of the first pass of the run, of which ``muon_scalesmearing`` takes the residuals of
        simulated muons.

    Returns
    -------
    Exported
        The document, and what it does not say.

    Raises
    ------
    InputError
        If there is no such layout, the pt is not positive, or the payload cannot be read.
    """
    if layout not in LAYOUTS:
        raise InputError(f"option --layout: found {layout!r}; give one of {', '.join(LAYOUTS)}")
    if at is not None and not (np.isfinite(at) and at > 0):
        raise InputError(f"option --at: found {at:g}; give a pt in GeV above 0")
    if layout == scalesmearing.LAYOUT:
        return scalesmearing.export(document, at, list((sums or {}).values()))
    constants = reading.constants(document)
    corrections: list[dict[str, Any]] = []
    numbers: dict[str, Any] = {"layout": layout, "at": at}
    lost: list[str] = [_what(at)]
    for name, label, scale in (
        (NAME, "data", constants.data),
        (SIMULATION, "mc", constants.simulation),
    ):
        if scale is None:
            continue
        m = multiplicative(scale, at)
        corrections += _pair(label, scale, m, reading.covariances(document, name), at)
        good = reading.status(document, name) <= 2
        numbers[label] = shifts(scale, m, good)
        lost.append(_how_much(label, numbers[label]))
    if constants.smearing is not None:
        lost.append("Resolution and smearing are left out.")
    lost.append("Of the errors it holds those of each eta bin; correlations between bins are lost.")
    text = "Muon momentum scale: pt_corr = 1 / (m / pt + charge a), a in 1/GeV. " + " ".join(lost)
    return Exported(
        {"schema_version": 2, "description": text, "corrections": corrections}, tuple(lost), numbers
    )


def multiplicative(scale: reading.Scale, at: float | None) -> Array:
    """Return m of each eta bin.

    Parameters
    ----------
    scale : Scale
        Of n eta bins.
    at : float or None
        pt in GeV at which e is absorbed.

    Returns
    -------
    array, shape (n,)
        Without unit.
    """
    return 1 + scale.A - (0.0 if at is None else scale.e / at)


def shifts(scale: reading.Scale, m: Array, good: BoolArray) -> dict[str, dict[str, float]]:
    """Return what the layout moves pt by, relative to the full correction, at three pt.

    ``largest`` is that of the eta bin and charge with the largest one, ``mean`` the mean over
    them; both with their sign.

    Parameters
    ----------
    scale : Scale
        Of n eta bins.
    m : array, shape (n,)
        Of `multiplicative`.
    good : bool array, shape (n,)
        Bins that have a value.

    Returns
    -------
    dict of str to dict of str to float
        By pt in GeV: ``largest``, ``mean``.
    """
    found = {}
    for pt in COMPARED_AT:
        k = np.asarray(1 / pt)
        both = [
            corrected(k, q, scale.A, scale.e, scale.M) / (m * k + q * scale.M) - 1
            for q in (np.asarray(-1), np.asarray(1))
        ]
        move = np.concatenate([x[good] for x in both])
        largest = float(move[np.abs(move).argmax()]) if len(move) else 0.0
        mean = float(move.mean()) if len(move) else 0.0
        found[f"{pt:g}"] = {"largest": largest, "mean": mean}
    return found


def _what(at: float | None) -> str:
    if at is None:
        return "This layout has no e, the energy loss: it is dropped."
    return (
        f"This layout has no e, the energy loss: it is absorbed in m at a pt of {at:g} GeV"
        f" (m = 1 + A - e / {at:g} GeV), and is wrong away from it."
    )


def _how_much(label: str, moved: Mapping[str, Mapping[str, float]]) -> str:
    parts = "; ".join(
        f"at {pt} GeV {v['largest']:+.1e} at most, {v['mean']:+.1e} in the mean"
        for pt, v in moved.items()
    )
    return f"Shift of pt that this makes, {label}: {parts}."


def _pair(
    label: str, scale: reading.Scale, m: Array, covariance: Array, at: float | None
) -> list[dict[str, Any]]:
    """Return m and a with their errors; a bin without a value has m = 1, a = 0."""
    towards = np.array([1.0, 0.0 if at is None else -1 / at, 0.0])
    variance = np.einsum("i,nij,j->n", towards, covariance, towards)
    known = np.isfinite(variance)
    m_err = np.sqrt(np.where(known, np.maximum(variance, 0), 1.0))
    a_err = np.sqrt(np.where(known, np.maximum(covariance[:, 2, 2], 0), 1.0))
    both = np.einsum("i,ni->n", towards, covariance[:, :, 2])
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.nan_to_num(both / (m_err * a_err))
    words = {"data": "muons of the data", "mc": "simulated muons"}[label]
    inputs = [
        ("eta", "Pseudorapidity of the muon"),
        ("phi", "Not used"),
        ("var", "nom, stat; of m also rho_stat"),
    ]

    def correction(name: str, text: str, neutral: float, values: dict[str, Array]) -> Any:
        outside = {"nom": neutral, "stat": 1.0, "rho_stat": 0.0}
        content = {key: binned(scale.edges, list(v), outside[key]) for key, v in values.items()}
        description, data = f"{text} of {words}", nodes.by_key("var", content)
        return nodes.correction(f"{name}_{label}", description, inputs, name, data)

    return [
        correction("a", "Additive part, in 1/GeV,", 0.0, {"nom": scale.M, "stat": a_err}),
        correction("m", "Multiplicative part", 1.0, {"nom": m, "stat": m_err, "rho_stat": rho}),
    ]
