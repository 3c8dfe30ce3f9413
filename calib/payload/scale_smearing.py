"""Files that CMS analyses read, ``muon_scalesmearing.json.gz``, applied as analyses apply them.

    pt' = 1 / (m / pt + q a)                       data and simulation, each with its own m and a
    pt'' = pt' (1 + k std(pt') r)                  simulation, k = sqrt(k_data^2 - k_mc^2) or 0

r is the inverse cumulative of a Crystal Ball with both tails alike (``cb_params``: mean, sigma, n,
alpha) at the file's own uniform number of event, luminosityBlock and phi (``RandomSmearing``), and
std = max(0, p0 + p1 pt + p2 pt^2) (``poly_params``). Muons below 26 or above 200 GeV stay as they
are, as do those that would be moved out of 0.1 to 2 of their pt.

When to use: a later calibration is to be derived after such a file (key ``payloads``), events are
to be written with it (`calib apply`), or it is to be audited. `momentum_scale` writes such files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import correctionlib
import numpy as np
from scipy.special import ndtr, ndtri

from calib.calibrations.base import Calibration
from calib.calibrations.capabilities import CorrectsMuons
from calib.errors import InputError
from calib.events.pairs import Muons
from calib.events.random import keys
from calib.types import AnyArray, Array

LAYERS = "nTrackerLayers"
PT = (26.0, 200.0)
"""GeV; muons outside stay as they are."""

MOVED = (0.1, 2.0)
"""pt over that before, outside of which a muon stays as it is."""

SCALE = ("a_data", "m_data", "a_mc", "m_mc")
SMEARING = ("k_data", "k_mc", "cb_params", "poly_params")
RANDOM = "RandomSmearing"
SEED = 21
"""Of the uniform numbers where a file has none of its own."""


class ScaleSmearing(Calibration, CorrectsMuons):
    """See the module; nothing here makes such a file."""

    name: ClassVar[str] = "muon_scalesmearing"
    payload_names: ClassVar[tuple[str, ...]] = (*SCALE, *SMEARING)
    reads: ClassVar[tuple[str, ...]] = (LAYERS,)
    reads_of_event: ClassVar[tuple[str, ...]] = ("luminosityBlock", "event")

    @classmethod
    def apply_muons(
        cls,
        document: Mapping[str, Any],
        muons: Muons,
        run: AnyArray,
        luminosityBlock: AnyArray,
        event: AnyArray,
        simulated: bool,
    ) -> Muons:
        """Return muons with corrected pt, ptErr by the same factor; simulated ones are smeared.

        Parameters
        ----------
        document : mapping
            The file.
        muons : Muons, length n
            GeV.
        run, luminosityBlock, event : int array, shape (n,)
            Of each muon.
        simulated : bool
            Whether the scale is that of the simulation, and the muons are smeared.

        Returns
        -------
        Muons
            With another pt and pt_err, in GeV.

        Raises
        ------
        InputError
            If the file lacks a correction, or a simulated muon its number of tracker layers.
        """
        found = _loaded(json.dumps(document))
        pt = scaled(found, muons, "mc" if simulated else "data")
        if simulated:
            if RANDOM in list(found):
                block = luminosityBlock.astype(np.int64)
                uniform = found[RANDOM].evaluate(event.astype(np.int64), block, _safe(muons.phi))
            else:
                uniform = own_uniform(run, luminosityBlock, event, muons)
            pt = smeared(found, muons, pt, np.asarray(uniform))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = (
                None
                if muons.pt_err is None
                else muons.pt_err * np.where(muons.pt > 0, pt / muons.pt, 1.0)
            )
        return replace(muons, pt=pt, pt_err=error)


@lru_cache(maxsize=4)
def _loaded(text: str) -> correctionlib.highlevel.CorrectionSet:
    found = correctionlib.CorrectionSet.from_string(text)
    missing = [name for name in (*SCALE, *SMEARING) if name not in list(found)]
    if missing:
        raise InputError(
            f"payload: a file of muon_scalesmearing without {', '.join(missing)}; take a complete"
            " one"
        )
    return found


def _safe(values: Array) -> Array:
    """Return the values, 0 where they are none: what becomes of such a muon is not looked at."""
    return np.where(np.isfinite(values), values, 0.0)


def _corrected(muons: Muons, before: Array, after: Array) -> Array:
    """Return the new pt, the one before where the layout leaves a muon alone."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = after / before
        good = (muons.pt >= PT[0]) & (muons.pt <= PT[1]) & np.isfinite(muons.eta + muons.phi)
        good &= (ratio >= MOVED[0]) & (ratio <= MOVED[1]) & (np.abs(muons.charge) == 1)
    return np.where(good, after, before)


def scaled(found: Any, muons: Muons, kind: str) -> Array:
    """Return pt after m and a.

    Parameters
    ----------
    found : CorrectionSet
    muons : Muons
    kind : str
        data or mc.

    Returns
    -------
    array, shape (n,)
        In GeV.
    """
    place = (_safe(muons.eta), _safe(muons.phi), "nom")
    a, m = (found[f"{name}_{kind}"].evaluate(*place) for name in "am")
    with np.errstate(invalid="ignore", divide="ignore"):
        return _corrected(muons, muons.pt, 1 / (m / muons.pt + muons.charge * a))


def smeared(found: Any, muons: Muons, pt: Array, uniform: Array) -> Array:
    """Return the pt of simulated muons smeared to the resolution of the data.

    Parameters
    ----------
    found : CorrectionSet
    muons : Muons
        As measured.
    pt : array, shape (n,)
        After the scale.
    uniform : array, shape (n,)
        Between 0 and 1.

    Returns
    -------
    array, shape (n,)
        In GeV.

    Raises
    ------
    InputError
        If the muons have no number of tracker layers.
    """
    if LAYERS not in muons.extra:
        raise InputError(
            f"simulated muons without {LAYERS}, by which muon_scalesmearing smears; add the column"
            f" (Muon_{LAYERS}, mu1_{LAYERS} and mu2_{LAYERS})"
        )
    abs_eta, layers = np.abs(_safe(muons.eta)), np.asarray(muons.extra[LAYERS], dtype=np.float64)
    p = [found["poly_params"].evaluate(abs_eta, _safe(layers), i) for i in range(3)]
    ball = [found["cb_params"].evaluate(abs_eta, _safe(layers), i) for i in range(4)]
    of_data, of_mc = (found[f"k_{kind}"].evaluate(abs_eta, "nom") for kind in ("data", "mc"))
    k = np.sqrt(np.maximum(of_data**2 - of_mc**2, 0.0))
    std = np.maximum(p[0] + p[1] * pt + p[2] * pt**2, 0.0)
    with np.errstate(invalid="ignore"):
        return _corrected(muons, pt, pt * (1 + k * std * crystal_ball(uniform, *ball)))


def crystal_ball(uniform: Array, mean: Array, sigma: Array, n: Array, alpha: Array) -> Array:
    """Return the inverse cumulative of a Crystal Ball with both tails alike.

    Parameters
    ----------
    uniform : array, shape (n,)
        Between 0 and 1.
    mean, sigma, n, alpha : array, shape (n,)
        n > 1.

    Returns
    -------
    array, shape (n,)
        In the unit of the mean.
    """
    a, b = np.abs(alpha), n / np.abs(alpha)
    tail = b / (n - 1) * np.exp(-0.5 * a**2)
    total = 2 * tail + np.sqrt(2 * np.pi) * (1 - 2 * ndtr(-a))
    below = np.minimum(uniform, 1 - uniform) * total
    with np.errstate(divide="ignore", invalid="ignore"):
        far = b - a - b * (tail / below) ** (1 / (n - 1))
        near = ndtri(np.clip((below - tail) / np.sqrt(2 * np.pi) + ndtr(-a), 0, 1))
    x = np.where(below < tail, far, near)
    return np.asarray(mean + sigma * np.where(uniform < 0.5, x, -x))


def own_uniform(run: AnyArray, block: AnyArray, event: AnyArray, muons: Muons) -> Array:
    """Return a uniform number of each muon, for files that have none: of its event and direction.

    Parameters
    ----------
    run, block, event : array, shape (n,)
    muons : Muons

    Returns
    -------
    array, shape (n,)
        In [0, 1).
    """
    from calib.calibrations.momentum_scale.payloads.apply import muon_keys

    key = muon_keys(keys(SEED, run, block, event), muons.eta, muons.phi)
    return np.asarray((key >> np.uint64(11)).astype(np.float64) * 2.0**-53)
