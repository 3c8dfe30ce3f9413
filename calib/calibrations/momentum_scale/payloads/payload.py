"""The payload of the momentum scale: correctionlib schema 2, with its conventions written in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.calibrations.momentum_scale.constants.variations import ScaleVariations, variations
from calib.fitting.scale.model import KINDS
from calib.payload import nodes
from calib.results import Reduction, Status
from calib.types import Array, BoolArray, IntArray

NAME = "momentum_scale"
SIMULATION = f"{NAME}_simulation"
SMEARING = f"{NAME}_smearing"
PARTS = ("uncertainty", "parameters", "resolution", "status")
"""Corrections beside that of pt, for the data (``NAME_...``) and for the simulation."""

NAMES = (NAME, *(f"{NAME}_{part}" for part in PARTS))

CORRECTED = "x*x/abs((1+[0])*x-[1]+[2]*x*x)"
"""pt_corr = 1 / ((1 + A - e k) k + q M) of x = pt; parameters A, e and q M of each charge."""

UNCERTAINTY = "sqrt(max([0]+[1]/(x*x)+[2]*x*x+[3]/x+[4]*x+[5],0))"
"""Of k_corr/k: variances of A, e, M, then -2 (A, e), 2 q (A, M), -2 q (e, M)."""

WIDTH = "sqrt(max([0]+[1]*x*x,0))"
"""Relative width in k of x = pt; parameters a^2 and c^2."""

SHARE, MOST = 0.99, 30
"""Share of the variance that the variations carry, and their largest number."""

SYSTEMATIC = {
    "syst_fsr": "final-state radiation 1.1 and 0.9 times that of the reference, common to all bins"
}
"""What the systematic variations are."""

WHERE = ("a2_c2_correlation", "k_mean", "pt2_mean")
"""Beside the parameters of an eta bin: the correlation of the errors of a2 and c2, and the means of
1/pt (1/GeV) and pt^2 (GeV^2) of its muons, those of the heaviest resonance."""

UNKNOWN = 1.0
"""Error of a parameter that has no value."""

_PT = ("pt", "real", "Transverse momentum of the muon as it was measured (GeV)")
_ETA = ("eta", "real", "Pseudorapidity of the muon")
_CHARGE = ("charge", "int", "Charge of the muon, +1 or -1")


@dataclass(frozen=True)
class Published:
    """What is written of the data, or of the simulation; n eta bins.

    Parameters
    ----------
    values, errors : array, shape (5, n)
        A, e, M, a2, c2 as in `scale.model.KINDS`; 0 with an error of 1 where a bin has no usable
        value, so that its muons stay as they are.
        ``errors`` are statistical and systematic ones together.
    covariance : array, shape (3 n, 3 n)
        Of all A, all e, all M, statistical; zero where a bin has no usable value.
    usable : bool array, shape (n,)
    status : int array, shape (n,)
        Codes of `calib.results.Status`.
    syst : mapping of name to array, shape (3, n)
        Systematic shifts of A, e, M, each common to all bins; zero where there is no value.
    where : mapping of name to array, shape (n,)
        What else the layouts of others need of a bin (`WHERE`).
    """

    values: Array
    errors: Array
    covariance: Array
    usable: BoolArray
    status: IntArray
    syst: Mapping[str, Array]
    where: Mapping[str, Array]

    def of_bins(self) -> Array:
        """Return the covariance of A, e, M of each eta bin, of all errors, shape (n, 3, 3)."""
        n = len(self.usable)
        blocks = self.covariance.reshape(3, n, 3, n)
        found = np.einsum("ibjb->bij", blocks)
        for shift in self.syst.values():
            found = found + np.einsum("ib,jb->bij", shift, shift)
        return np.ascontiguousarray(found)


def published(reduction: Reduction, prefix: str = "") -> Published:
    """Return what is written of the data, or of the simulation.

    Parameters
    ----------
    reduction : Reduction
        The result.
    prefix : str
        ``simulation_`` for the simulation, else empty.

    Returns
    -------
    Published
        A without unit, e in GeV, M in 1/GeV, a2 without unit, c2 in 1/GeV^2.
    """
    state = reduction.state
    status = np.asarray(state[f"{prefix}status"], dtype=np.int64)
    values = np.array([np.asarray(state[f"{prefix}{k}"], dtype=float) for k in KINDS])
    covariance = np.asarray(state[f"{prefix}covariance"], dtype=float)
    n = len(status)
    shifts = {
        name: np.asarray(shift, dtype=float).reshape(len(KINDS), n)
        for name, shift in state.items()
        if name.startswith("syst_") and not prefix
    }
    with np.errstate(invalid="ignore"):
        variance = np.diagonal(covariance).reshape(len(KINDS), n)
        for shift in shifts.values():
            variance = variance + shift**2
        errors = np.sqrt(variance)
    usable = np.array([list(Status)[int(code)].usable for code in status])
    usable &= np.isfinite(values).all(0) & np.isfinite(errors).all(0)
    # a state that says ok without numbers is not ok
    status = np.where(~usable & (status <= Status.HELD.code), Status.NOT_DETERMINED.code, status)
    keep = np.tile(usable, 3)
    scale = np.where(keep[:, None] & keep, covariance[: 3 * n, : 3 * n], 0.0)
    return Published(
        np.where(usable, values, 0.0),
        np.where(usable, errors, UNKNOWN),
        scale,
        usable,
        status,
        {name: np.where(usable, shift[:3], 0.0) for name, shift in shifts.items()},
        _where(reduction, prefix, covariance, usable),
    )


def _where(
    reduction: Reduction, prefix: str, covariance: Array, usable: BoolArray
) -> dict[str, Array]:
    """Return `WHERE` of each bin, its means as far as the reduction knows them."""
    at = np.arange(3 * len(usable), 4 * len(usable))
    a2, c2 = np.diagonal(covariance)[at], np.diagonal(covariance)[at + len(usable)]
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = covariance[at, at + len(usable)] / np.sqrt(a2 * c2)
    found = {"a2_c2_correlation": np.where(usable & np.isfinite(rho), rho, 0.0)}
    for name in WHERE:
        if prefix + name in reduction.state:
            found[name] = np.asarray(reduction.state[prefix + name], dtype=float)
    return found


def eta_edges(reduction: Reduction) -> Array:
    """Return the edges as they are written, shape (n + 1,).

    With ten decimals: correctionlib's reader is wrong by a last bit in numbers of 17 digits, and
    a muon on such an edge would be in another bin than elsewhere.
    """
    return np.round(np.asarray(reduction.state["eta_edges"], dtype=float), 10)


def document(reduction: Reduction, share: float = SHARE, most: int = MOST) -> dict[str, Any]:
    """Return the payload.

    Parameters
    ----------
    reduction : Reduction
        The result.
    share, most : float, int
        Share of the variance of the correction that the variations carry at least, and their
        largest number; what is left out is said in the description.

    Returns
    -------
    dict
        A correctionlib document of schema 2.
    """
    edges = eta_edges(reduction)
    pt_range = np.asarray(reduction.state["pt_range"], dtype=float)
    data = published(reduction)

    def family(name: str, whose: str, of: Published) -> list[dict[str, Any]]:
        shifts = variations(of.covariance, of.usable, pt_range, share, most)
        return [
            _scale(name, whose, edges, of, shifts),
            _uncertainty(f"{name}_uncertainty", whose, edges, of),
            _parameters(f"{name}_parameters", whose, edges, of),
            _width(
                f"{name}_resolution",
                "sigma_k",
                f"Relative resolution sigma_k/k of {whose}:"
                " sqrt(a2 + c2 pt^2); 0 outside the eta range and where there is no value",
                edges,
                *of.values[3:],
            ),
            _status(f"{name}_status", whose, edges, of),
        ]

    corrections = family(NAME, "muons of the data", data)
    if "simulation_A" in reduction.state:
        simulation = published(reduction, "simulation_")
        both = data.usable & simulation.usable
        more = np.where(both, data.values[3:] - simulation.values[3:], 0.0)
        corrections += family(SIMULATION, "simulated muons", simulation)
        corrections.append(
            _width(
                SMEARING,
                "width",
                "Relative width in k of a Gaussian that brings a simulated"
                " muon, its pt corrected, to the resolution of the data; never negative: where"
                " the data are the better ones nothing is added",
                edges,
                *more,
            )
        )
    return nodes.document(corrections, _description(reduction, data, pt_range))


def _description(reduction: Reduction, data: Published, pt_range: Array) -> str:
    bad = int((~data.usable).sum())
    text = (
        "Muon momentum scale and resolution (dimucal, momentum_scale). With k = 1/pt:"
        " k_corr = (1 + A - e k) k + q M, pt_corr = 1/k_corr; A has no unit, e is in GeV, M in"
        " 1/GeV; (sigma_k/k)^2 = a2 + c2 pt^2. Outside the eta range pt is unchanged."
        f" Made with muons of pt {pt_range[0]:.3g} to {pt_range[1]:.3g} GeV (central 99 %);"
        " beyond, the correction is an extrapolation."
    )
    if "method" in reduction.state:
        text += f" Extraction: {reduction.state['method']}."
    if bad:
        text += (
            f" {bad} of {len(data.usable)} eta bins have no usable value (status above 2): pt is"
            " unchanged there."
        )
    return text


# corrections ---------------------------------------------------------------------------------
def _correction(
    name: str,
    description: str,
    inputs: Sequence[tuple[str, str, str]],
    output: str,
    data: Any,
    formulas: Sequence[tuple[str, tuple[str, ...]]] = (),
) -> dict[str, Any]:
    return nodes.correction(
        name,
        description,
        [(n, text) for n, _, text in inputs],
        output,
        data,
        whole=[n for n, kind, _ in inputs if kind == "int"],
        formulas=[nodes.formula(expression, variables) for expression, variables in formulas],
    )


def binned(edges: Array, content: Sequence[Any], flow: Any) -> dict[str, Any]:
    """Return a binning in eta.

    Parameters
    ----------
    edges : array, shape (n + 1,)
        Of eta.
    content : sequence of numbers or nodes, length n
        One a bin.
    flow : number, node or str
        What holds outside.

    Returns
    -------
    dict
        A node.
    """
    return nodes.binning("eta", edges, content, flow)


def _scale(
    name: str, whose: str, edges: Array, found: Published, shifts: ScaleVariations
) -> dict[str, Any]:
    unchanged = nodes.formula("x", ("pt",))
    sets = {"nom": found.values[:3]}
    for i, shift in enumerate(shifts.shifts):
        sets[f"stat{i}_up"] = found.values[:3] + shift
        sets[f"stat{i}_down"] = found.values[:3] - shift
    for name_of, shift in found.syst.items():
        sets[f"{name_of}_up"] = found.values[:3] + shift
        sets[f"{name_of}_down"] = found.values[:3] - shift
    content = {
        variation: nodes.by_key(
            "charge",
            {
                q: binned(
                    edges, [nodes.formula_of(0, p) for p in (values * [[1], [1], [q]]).T], unchanged
                )
                for q in (-1, 1)
            },
        )
        for variation, values in sets.items()
    }
    last = len(shifts) - 1
    text = (
        f"Corrected pt (GeV) of {whose}: 1 / ((1 + A - e k) k + q M), k = 1/pt; unchanged outside"
        " the eta range and where the status is above 2."
    )
    if len(shifts):
        text += (
            f" Variations stat0 to stat{last}, _up and _down: independent, one standard deviation"
            f" each; add their effects in quadrature. They carry {100 * shifts.covered:.2f} % of"
            f" the variance of the correction (the rest, {100 * (1 - shifts.covered):.2f} %, is in"
            f" {name}_uncertainty only), whose root is {shifts.rms:.1e} of pt in the mean."
        )
    words = ["nom"] + [f"stat0_up to stat{last}_down"] * bool(len(shifts))
    for name_of in found.syst:
        text += f" {name_of}_up and _down: {SYSTEMATIC.get(name_of, 'a systematic variation')}."
        words.append(f"{name_of}_up or _down")
    inputs = (_PT, _ETA, _CHARGE, ("variation", "string", ", or ".join(words)))
    return _correction(
        name, text, inputs, "pt_corr", nodes.by_key("variation", content), [(CORRECTED, ("pt",))]
    )


def _uncertainty(name: str, whose: str, edges: Array, data: Published) -> dict[str, Any]:
    def parameters(v: Array, q: int) -> Array:
        return np.array(
            [v[0, 0], v[1, 1], v[2, 2], -2 * v[0, 1], 2 * q * v[0, 2], -2 * q * v[1, 2]]
        )

    content = {
        q: binned(
            edges,
            [
                nodes.formula_of(0, parameters(v, q)) if good else UNKNOWN
                for v, good in zip(data.of_bins(), data.usable, strict=True)
            ],
            UNKNOWN,
        )
        for q in (-1, 1)
    }
    return _correction(
        name,
        f"Uncertainty of pt_corr of {whose}, relative to pt: all of the covariance of A, e, M of"
        f" the eta bin, statistical{' and systematic' if data.syst else ''}; 1 where there is no"
        " value",
        (_PT, _ETA, _CHARGE),
        "uncertainty",
        nodes.by_key("charge", content),
        [(UNCERTAINTY, ("pt",))],
    )


def _parameters(name: str, whose: str, edges: Array, data: Published) -> dict[str, Any]:
    values = dict(zip(KINDS, data.values, strict=True))
    values |= {f"{k}_err": v for k, v in zip(KINDS, data.errors, strict=True)}
    values |= data.where
    content = {
        key: binned(edges, [float(x) for x in v], UNKNOWN if key.endswith("_err") else 0.0)
        for key, v in values.items()
    }
    names = ", ".join(values)
    return _correction(
        name,
        f"Parameters of {whose} by eta bin, and their errors; 0 with an error of 1 where there is"
        " no value; k_mean and pt2_mean are means of 1/pt and pt^2 of its muons, of the heaviest"
        " resonance",
        (_ETA, ("parameter", "string", names)),
        "value",
        nodes.by_key("parameter", content),
    )


def _width(
    name: str, output: str, description: str, edges: Array, a2: Array, c2: Array
) -> dict[str, Any]:
    content = [nodes.formula_of(0, np.array([a, c])) for a, c in zip(a2, c2, strict=True)]
    return _correction(
        name, description, (_PT, _ETA), output, binned(edges, content, 0.0), [(WIDTH, ("pt",))]
    )


def _status(name: str, whose: str, edges: Array, data: Published) -> dict[str, Any]:
    words = ", ".join(f"{s.code} {s.value}" for s in Status)
    return _correction(
        name,
        f"Status of the eta bin, of {whose}: {words}",
        (_ETA,),
        "status",
        binned(edges, [float(c) for c in data.status], float(Status.OUT_OF_RANGE.code)),
    )
