"""The file that CMS analyses read, ``muon_scalesmearing.json.gz``, from A, e, M and the resolution.

    pt' = 1 / (m / pt + q a)                       data and simulation, each with its own m and a
    pt'' = pt' (1 + k std(pt') r)                  simulation, k = sqrt(k_data^2 - k_mc^2) or 0

with r distributed as a Crystal Ball of both tails alike, std a polynomial of pt. Names, inputs,
their order, types, edges and flow are those of the files of the campaigns; see
`calib.payload.scalesmearing` for how it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.events.histograms import Sums
from calib.payload import nodes
from calib.results import Exported
from calib.types import Array, BoolArray

from . import reading
from .payload import NAME, SIMULATION
from .residual_shape import ABS_ETA, LEAST_PT, N_LAYERS, USUAL_PT, Shape, shape_of, unit_sigma

LAYOUT = "muon_scalesmearing"
PHI = (-3.2, 3.2)


# the payload as the layout needs it --------------------------------------------------------------
@dataclass(frozen=True)
class Side:
    """Data or simulation in a payload, by eta bin; arrays of shape (n,).

    ``statistical`` and ``systematic`` are covariances of A, e, M, shape (n, 3, 3); ``variance_err``
    is the error of (sigma_k/k)^2 at ``pt2``.
    """

    scale: reading.Scale
    good: BoolArray
    statistical: Array
    systematic: Array
    a2: Array
    c2: Array
    variance_err: Array
    k_mean: Array
    pt2: Array


def side(document: Mapping[str, Any], name: str, at: float | None) -> Side:
    """Return the data (``momentum_scale``) or the simulation of a payload.

    Parameters
    ----------
    document : mapping
        The payload.
    name : str
        ``momentum_scale``, or that of the simulation.
    at : float, optional
        pt in GeV where e is absorbed; by default that of the mean k of each bin's muons, if the
        layout corrects such muons, else 45 GeV.

    Returns
    -------
    Side
        Of n eta bins.
    """
    table = reading.parameters(document, name)
    n = len(table["A"])
    good = (reading.status(document, name) <= 2) & (table["A_err"] < 1)
    k = table.get("k_mean", np.full(n, 1 / USUAL_PT))
    pt2 = table.get("pt2_mean", np.full(n, USUAL_PT**2))
    usual = k > 1 / LEAST_PT if at is None else np.ones(n, dtype=bool)
    k = np.where(usual, 1 / (at or USUAL_PT), k)
    pt2 = np.where(pt2 < LEAST_PT**2, USUAL_PT**2, pt2)
    rho = table.get("a2_c2_correlation", np.zeros(n))
    a, c = table["a2_err"], table["c2_err"] * pt2
    total = np.nan_to_num(reading.covariances(document, name))
    systematic = np.zeros_like(total)
    for shift in _systematic(document, name):
        systematic += np.einsum("in,jn->nij", shift, shift)
    return Side(
        reading.scale(reading.by_name(document)[name]),
        good,
        total - systematic,
        systematic,
        table["a2"],
        table["c2"],
        np.sqrt(np.maximum(a**2 + c**2 + 2 * rho * a * c, 0)),
        k,
        pt2,
    )


def _systematic(document: Mapping[str, Any], name: str) -> list[Array]:
    """Return the shifts of A, e, M of each systematic variation, each of shape (3, n)."""
    correction = reading.by_name(document)[name]
    keys = [str(item["key"]) for item in correction["data"]["content"]]
    nominal = reading.scale(correction)

    def values(scale: reading.Scale) -> Array:
        return np.array([scale.A, scale.e, scale.M])

    return [
        values(reading.scale(correction, key)) - values(nominal)
        for key in keys
        if key.startswith("syst_") and key.endswith("_up")
    ]


def export(document: Mapping[str, Any], at: float | None, sums: Sequence[Sums]) -> Exported:
    """Return a payload in this layout, and what it cannot hold.

    Parameters
    ----------
    document : mapping
        A payload of the momentum scale.
    at : float, optional
        pt in GeV at which e is absorbed.
    sums : sequence of Sums
        Those of the first pass over simulated samples; none: widths are those of the payload, the
        tails Gaussian.

    Returns
    -------
    Exported
        The document, and what it does not say.
    """
    names = reading.by_name(document)
    reading.constants(document)  # refuses a payload that contradicts itself
    data = side(document, NAME, at)
    mc = side(document, SIMULATION, at) if SIMULATION in names else None
    shape = shape_of(sums, [_resolution(mc or data, i) for i in range(len(ABS_ETA) - 1)])
    found = _widths(data, mc, shape)
    corrections = [
        *_by_layers(shape, found),
        *_scale("data", data),
        *_scale("mc", mc or neutral(data)),
        *_k(found),
        nodes.plain(_random()),
    ]
    lost, numbers = _lost(data, mc, shape, found, at)
    text = (
        "Muon scale and resolution (dimucal), layout muon_scalesmearing: pt' = 1/(m/pt + q a), of"
        " simulation pt'' = pt' (1 + sqrt(k_data^2 - k_mc^2) std(pt') r). " + " ".join(lost)
    )
    return Exported(nodes.document(corrections, text), lost, {"layout": LAYOUT, "at": at} | numbers)


def _resolution(own: Side, i: int) -> tuple[float, float]:
    """Return a2, c2 of the payload in a bin of |eta|; those of all bins where it has none."""
    middle = 0.5 * (own.scale.edges[1:] + own.scale.edges[:-1])
    near = own.good & (np.abs(middle) >= ABS_ETA[i] - 1e-9) & (np.abs(middle) < ABS_ETA[i + 1])
    if not near.any():
        inside = reading.bins_of(
            own.scale.edges, np.array([-1, 1]) * 0.5 * (ABS_ETA[i] + ABS_ETA[i + 1])
        )
        near = np.isin(np.arange(len(middle)), inside) & own.good
    near = near if near.any() else own.good
    if not near.any():
        return 1.2e-2**2, 1.5e-4**2
    a2, c2 = float(own.a2[near].mean()), float(own.c2[near].mean())
    return (a2, c2) if a2 + c2 * USUAL_PT**2 > 1e-6 else (1e-6, max(c2, 0.0))


def neutral(like: Side) -> Side:
    """Return muons that are right as they are, in the bins of others."""
    zero = np.zeros(len(like.good))
    none = np.zeros_like(like.statistical)
    scale = reading.Scale(like.scale.edges, zero, zero, zero)
    return replace(like, scale=scale, good=zero == 0, statistical=none, systematic=none)


# m and a ---------------------------------------------------------------------------------------
def multiplicative(own: Side) -> Array:
    """Return m of each eta bin, exact at the mean k, shape (n,)."""
    return np.asarray(1 + own.scale.A - own.scale.e * own.k_mean)


def _scale(label: str, own: Side) -> list[dict[str, Any]]:
    towards = np.stack([np.ones(len(own.good)), -own.k_mean, np.zeros(len(own.good))], axis=1)

    def error(vector: Array, covariance: Array) -> Array:
        return np.asarray(
            np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", vector, covariance, vector), 0))
        )

    last = np.tile([0.0, 0.0, 1.0], (len(own.good), 1))
    m_stat, a_stat = error(towards, own.statistical), error(last, own.statistical)
    both = np.einsum("ni,nij,nj->n", towards, own.statistical, last)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.clip(np.nan_to_num(both / (m_stat * a_stat)), -1, 1)
    m = {
        "nom": (multiplicative(own), 1.0),
        "syst": (error(towards, own.systematic), 0.0),
        "stat": (m_stat, 1.0),
        "rho_stat": (rho, 0.0),
    }
    a = {
        "nom": (own.scale.M, 0.0),
        "syst": (error(last, own.systematic), 0.0),
        "stat": (a_stat, 0.0),
    }
    words = {"data": "data", "mc": "MC"}[label]
    inputs = [
        ("eta", "Pseudorapidity of the muon"),
        ("phi", "Azimuth of the muon; nothing depends on it here"),
        ("variation", "nom, stat, syst; of m also rho_stat"),
    ]
    edges, at = _to_edge(own.scale.edges)
    return [
        nodes.correction(
            f"{name}_{label}",
            f"{text} part of {words} scale correction{unit}",
            inputs,
            "correction",
            nodes.binning("eta", edges, [_of_phi(values, i, own.good) for i in at], "clamp"),
        )
        for name, text, unit, values in (
            ("a", "Additive", ", in 1/GeV", a),
            ("m", "Multiplicative", "", m),
        )
    ]


def _of_phi(values: Mapping[str, tuple[Array, float]], i: int, good: BoolArray) -> dict[str, Any]:
    """Return the variations of an eta bin in all of phi; -1 and a bad bin: nothing is known."""
    known = i >= 0 and bool(good[i])
    content = {key: float(v[i]) if known else unknown for key, (v, unknown) in values.items()}
    return nodes.binning("phi", np.array(PHI), [nodes.by_key("variation", content)], "clamp")


def _to_edge(edges: Array, most: float = float(ABS_ETA[-1])) -> tuple[Array, list[int]]:
    """Return edges that reach |eta| of 2.4 and the bin in each; -1: none, muons stay."""
    at, found = list(range(len(edges) - 1)), list(edges)
    if found[0] > -most:
        found, at = [-most, *found], [-1, *at]
    if found[-1] < most:
        found, at = [*found, most], [*at, -1]
    return np.array(found), at


# k -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SmearingWidths:
    """k by |eta| bin; arrays of shape (n,), ``edges`` (n + 1,).

    ``smearing`` is the relative width that is added at ``pt``, ``apart`` how far both sides in eta
    are from it.
    """

    edges: Array
    k: Mapping[str, Mapping[str, Array]]
    smearing: Array
    pt: Array
    apart: Array


def _widths(data: Side, mc: Side | None, shape: Shape) -> SmearingWidths:
    all_edges = np.abs([*data.scale.edges, *ABS_ETA])
    edges: Array = np.unique(np.round(all_edges, 10)).astype(np.float64)
    middle = 0.5 * (edges[1:] + edges[:-1])
    n = len(middle)
    sides = [reading.bins_of(data.scale.edges, sign * middle) for sign in (-1, 1)]
    usable = np.append(data.good & (mc.good if mc else True), False)
    weight = np.array([usable[i].astype(float) for i in sides])
    known = weight.sum(0) > 0

    def mean(values: Array, default: float = 1.0) -> tuple[Array, Array]:
        both = np.array([np.append(values, 0.0)[i] for i in sides])
        found = (weight * both).sum(0) / np.maximum(weight.sum(0), 1)
        apart = np.where(weight.all(0), 0.5 * np.abs(both[1] - both[0]), 0.0)
        return np.where(known, found, default), apart

    pt = np.sqrt(mean(data.pt2, USUAL_PT**2)[0])
    std2 = np.maximum(shape.std(middle, pt), 1e-4) ** 2
    other = mc or data
    simulated = np.maximum(mean(other.a2 + other.c2 * data.pt2)[0], 0.01 * std2)
    simulated = np.where(known, simulated, std2)
    more, apart = mean(data.a2 - other.a2 + (data.c2 - other.c2) * data.pt2, 0.0)
    measured = np.maximum(simulated + more, 0.01 * std2)
    k: dict[str, dict[str, Array]] = {}
    for name, variance, from_ in (("data", measured, data), ("mc", simulated, other)):
        value = np.sqrt(variance / std2)
        error = mean(from_.variance_err, 0.0)[0] / np.sqrt(np.maximum(weight.sum(0), 1))
        off = [
            mean(from_.a2 + from_.c2 * x**2)[0] / shape.std(middle, x + 0 * pt) ** 2
            for x in (30.0, 60.0)
        ]
        bent = 0.5 * np.abs(np.sqrt(np.maximum(off[1], 0)) - np.sqrt(np.maximum(off[0], 0)))
        k[name] = {
            "nom": np.where(known, value, 1.0),
            "syst": np.where(known, bent, 0.0),
            "stat": np.where(known, error / (2 * value * std2), 1.0),
        }
    added = np.sqrt(np.maximum(measured - simulated, 0.0))
    return SmearingWidths(
        edges, k, np.where(known, added, 0.0), pt, np.where(known, apart, np.zeros(n))
    )


def _k(found: SmearingWidths) -> list[dict[str, Any]]:
    inputs = [("abseta", "|eta| of the muon"), ("variation", "nom, stat, syst")]
    return [
        nodes.correction(
            f"k_{name}",
            f"Width of {words} over that of the simulated residuals, poly_params",
            inputs,
            "k",
            nodes.binning(
                "abseta",
                found.edges,
                [
                    nodes.by_key("variation", {key: float(v[i]) for key, v in values.items()})
                    for i in range(len(found.edges) - 1)
                ],
                "clamp",
            ),
        )
        for (name, values), words in zip(found.k.items(), ("data", "MC"), strict=True)
    ]


def _by_layers(shape: Shape, widths: SmearingWidths) -> list[dict[str, Any]]:
    centre = 0.5 * (ABS_ETA[1:] + ABS_ETA[:-1])
    at = np.searchsorted(widths.edges, centre, side="right") - 1
    # smearing is symmetric in k where it is measured, but in pt here: pt is higher by its square
    mean = widths.smearing[at]

    def ball(i: int, j: int) -> list[float]:
        n, alpha = shape.tails[i, j]
        return [float(mean[i]), unit_sigma(n, alpha), float(n), float(alpha)]

    inputs = [
        ("abseta", "|eta|"),
        ("nTrackerLayers", "Tracker layers"),
        ("parameter", "Its number"),
    ]
    return [
        nodes.correction(
            name,
            text,
            inputs,
            "correction",
            nodes.binning(
                "abseta",
                ABS_ETA,
                [
                    nodes.binning(
                        "nTrackerLayers",
                        N_LAYERS,
                        [
                            nodes.by_key("parameter", dict(enumerate(values(i, j))))
                            for j in range(len(N_LAYERS) - 1)
                        ],
                        "clamp",
                    )
                    for i in range(len(centre))
                ],
                "clamp",
            ),
            whole=["parameter"],
        )
        for name, text, values in (
            (
                "cb_params",
                "Crystal Ball of the smearing, both tails alike: mean, sigma, n, alpha",
                ball,
            ),
            (
                "poly_params",
                "Relative width of simulated muons: std(pt) = p0 + p1 pt + p2 pt^2, pt in GeV",
                lambda i, j: [float(x) for x in shape.polynomial[i, j]],
            ),
        )
    ]


def _random() -> Any:
    from correctionlib import schemav2

    names = ("event", "luminosityBlock", "phi")
    types = ("int", "int", "real")
    return schemav2.Correction(
        name="RandomSmearing",
        description="Uniform number of a muon, for the smearing; the same wherever it is made",
        version=1,
        inputs=[schemav2.Variable(name=n, type=t) for n, t in zip(names, types, strict=True)],
        output=schemav2.Variable(name="random", type="real"),
        data=schemav2.HashPRNG(nodetype="hashprng", inputs=list(names), distribution="stdflat"),
    )


# what is lost ------------------------------------------------------------------------------------
def _lost(
    data: Side, mc: Side | None, shape: Shape, widths: SmearingWidths, at: float | None
) -> tuple[tuple[str, ...], dict[str, Any]]:
    numbers: dict[str, Any] = {}
    lost = [_where_absorbed(data, at)]
    for label, own in (("data", data), ("mc", mc)):
        if own is None:
            continue
        e, k = own.scale.e[own.good], own.k_mean[own.good]
        moved = {
            f"{pt:g}": float(np.max(np.abs(e * (k - 1 / pt)), initial=0.0))
            for pt in (LEAST_PT, USUAL_PT, 100.0)
        }
        left = float(np.max(np.abs(_full_shift(own, 10.0)), initial=0.0))
        bad = int((~own.good).sum())
        numbers[label] = {"e": moved, "below_26_at_10_GeV": left, "eta_bins_without_value": bad}
        text = ", ".join(f"{v:.1e} at {pt} GeV" for pt, v in moved.items())
        lost.append(
            f"Away from there pt is off by at most ({label}) {text}. Muons below 26 GeV stay as"
            f" they are: at 10 GeV that is up to {left:.1e} of pt."
        )
        lost.append(
            f"The layout has no status: {bad} of {len(own.good)} eta bins of {label} have no value"
            " and leave pt as it is, with an error of 1 of m."
        )
    if mc is None:
        lost.append("No simulation was calibrated: m_mc = 1, a_mc = 0, k_data = k_mc, no smearing.")
    else:
        bent = _bent(data, mc, shape, widths)
        side_off = float(
            np.max(widths.apart / np.maximum(_total2(widths, shape), 1e-12), initial=0)
        )
        numbers["width"] = {"pt": bent, "sides": 0.5 * side_off}
        lost.append(
            "k depends on |eta| alone: the width of a smeared muon is off by at most"
            f" {bent['30']:.1%} at 30 GeV and {bent['100']:.1%} at 100 GeV, and by"
            f" {0.5 * side_off:.1%} where both sides in eta differ; what the data have better than"
            " the simulation is not made worse."
        )
    lost.append(shape.note)
    lost.append("Correlations between bins are lost; a and m do not depend on phi.")
    return tuple(lost), numbers


def _where_absorbed(data: Side, at: float | None) -> str:
    if at is not None:
        return f"The energy loss e is absorbed in m at a pt of {at:g} GeV."
    pt = 1 / data.k_mean
    return (
        "The energy loss e is absorbed in m at the mean k of each eta bin's muons that the layout"
        f" corrects, pt of {pt.min():.3g} to {pt.max():.3g} GeV (45 where none were seen)."
    )


def _full_shift(own: Side, pt: float) -> Array:
    """Return how far the full correction moves pt, both charges, of good bins."""
    s = own.scale
    return np.concatenate([(s.A - s.e / pt + q * s.M * pt)[own.good] for q in (-1, 1)])


def _total2(widths: SmearingWidths, shape: Shape) -> Array:
    middle = 0.5 * (widths.edges[1:] + widths.edges[:-1])
    return np.asarray((widths.k["data"]["nom"] * shape.std(middle, widths.pt)) ** 2)


def _bent(data: Side, mc: Side, shape: Shape, widths: SmearingWidths) -> dict[str, float]:
    """Return the largest relative error of the width of a smeared muon, by pt."""
    middle = 0.5 * (data.scale.edges[1:] + data.scale.edges[:-1])
    good = data.good & mc.good
    at = np.clip(np.searchsorted(widths.edges, np.abs(middle), side="right") - 1, 0, None)
    at = np.minimum(at, len(widths.edges) - 2)
    k2 = np.maximum(widths.k["data"]["nom"] ** 2 - widths.k["mc"]["nom"] ** 2, 0)[at]
    found = {}
    for pt in (30.0, 100.0):
        own = np.maximum(mc.a2 + mc.c2 * pt**2, 0)
        wanted = own + np.maximum(data.a2 - mc.a2 + (data.c2 - mc.c2) * pt**2, 0)
        made = own + k2 * shape.std(np.abs(middle), np.full(len(middle), pt)) ** 2
        off = np.abs(np.sqrt(made / np.maximum(wanted, 1e-12)) - 1)
        found[f"{pt:g}"] = float(np.max(off[good], initial=0.0))
    return found
