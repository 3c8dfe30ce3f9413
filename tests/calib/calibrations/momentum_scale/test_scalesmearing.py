"""The file that analyses read: toys with known A, e, M and resolution come out on each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calib.calibrations.momentum_scale.payloads import export, payload
from calib.calibrations.momentum_scale.payloads import residual_shape as shapes
from calib.calibrations.momentum_scale.sums import residuals
from calib.events.pairs import Muons, Pairs
from tests import scale_smearing as field

from . import synthetic

LAYOUT = "muon_scalesmearing"
EVENTS = 300_000
MASS_WITHIN, WIDTH_WITHIN = 1e-4, 0.02
EDGES = synthetic.EDGES


def mass(pt, eta, phi):
    return np.sqrt(2 * pt[0] * pt[1] * (np.cosh(eta[0] - eta[1]) - np.cos(phi[0] - phi[1])))


@pytest.fixture(scope="module")
def generated():
    """Z decays, plus muon first, both above 28 GeV, each event twice."""
    rng = np.random.default_rng(61)
    m = 91.19 + 1.25 * np.tan(np.pi * (rng.random(EVENTS) - 0.5) * 0.9)
    pair_pt, y = rng.exponential(8, EVENTS), rng.normal(0, 1.1, EVENTS)
    cos, turn, way = rng.uniform(-1, 1, EVENTS), *rng.uniform(-np.pi, np.pi, (2, EVENTS))
    sin = np.sqrt(1 - cos**2)
    rest = 0.5 * m * np.array([sin * np.cos(turn), sin * np.sin(turn), cos, np.ones(EVENTS)])
    gamma = np.hypot(m, pair_pt) / m
    muons = []
    for sign in (1, -1):
        x, other, z = sign * rest[0], sign * rest[1], sign * rest[2]
        moved = gamma * x + pair_pt / m * rest[3]
        energy = gamma * rest[3] + pair_pt / m * x
        rapidity = np.arctanh(z / energy) + y
        pt = np.hypot(moved, other)
        eta = np.arcsinh(np.sqrt(energy**2 - z**2) * np.sinh(rapidity) / pt)
        phi = np.arctan2(other, moved) + way
        muons.append((pt, eta, (phi + np.pi) % (2 * np.pi) - np.pi))
    pt, eta, phi = (np.array([a[i] for a in muons]) for i in range(3))
    good = (pt > 28).all(0) & (np.abs(eta) < 2.4).all(0) & (mass(pt, eta, phi) > 60)
    return [np.tile(x[:, good], 2) for x in (pt, eta, phi)]


def measured(values, pt, eta, normal):
    """Return pt as it is measured with A, e, M, a2, c2 of each bin; corrected, k is smeared k."""
    at = np.searchsorted(EDGES, eta, side="right") - 1
    A, e, M, a2, c2 = values[:, at]
    q = np.array([[1.0], [-1.0]])
    wanted = (1 + np.sqrt(a2 + c2 * pt**2) * normal) / pt
    k = wanted
    for _ in range(30):
        k = (wanted - q * M) / (1 + A - e * k)
    return 1 / k


@pytest.fixture(scope="module")
def world(generated):
    """A reduction that knows the truth, and muons of data and simulation as they are measured."""
    pt, eta, phi = generated
    made = synthetic.reduction()
    state = dict(made.state)
    state["status"] = np.zeros(synthetic.N_ETA, dtype=int)
    state["covariance"] = synthetic.covariance(0.5 * (EDGES[1:] + EDGES[:-1]))
    state |= {f"simulation_{k}": s**2 * state[k] for k, s in (("a2", 0.85), ("c2", 0.8))}
    at = np.searchsorted(EDGES, eta.ravel(), side="right") - 1
    n = np.bincount(at)
    for prefix in ("", "simulation_"):
        state[f"{prefix}k_mean"] = np.bincount(at, 1 / pt.ravel()) / n
        state[f"{prefix}pt2_mean"] = np.bincount(at, pt.ravel() ** 2) / n
    rng = np.random.default_rng(62)
    # the same numbers for both, of both signs: what a cell fluctuates drops out of the comparison
    z = rng.normal(size=(2, pt.shape[1] // 2))
    z = np.concatenate([z, -z], axis=1)
    found = {}
    for kind, prefix in (("data", ""), ("mc", "simulation_")):
        values = np.array([state[prefix + k] for k in ("A", "e", "M", "a2", "c2")])
        found[kind] = measured(values, pt, eta, z)
    return replace(made, state=state), found


@pytest.fixture(scope="module")
def layers(generated):
    return np.random.default_rng(63).integers(6, 16, generated[0].shape).astype(float)


@pytest.fixture(scope="module")
def made(world, generated, layers):
    """The file, with widths and tails of the simulated muons."""
    pt, eta, phi = generated
    simulated = world[1]["mc"]
    n = pt.shape[1]
    one = np.ones(n)
    muons = [
        Muons(
            simulated[i],
            eta[i],
            phi[i],
            np.full(n, q),
            gen_pt=pt[i],
            extra={residuals.LAYERS: layers[i]},
        )
        for i, q in ((0, 1), (1, -1))
    ]
    sums = residuals.observed(Pairs(*muons, one, one, one, one), unit=True)
    return export.export(payload.document(world[0]), LAYOUT, sums={"mc": sums})


def ratios(pt, generated):
    return mass(pt, *generated[1:]) / mass(*generated)


def applied(found, world, generated, layers):
    """Return pt of data and simulation after the file."""
    _, eta, phi = generated
    charge = np.array([[1.0], [-1.0]]) * np.ones(eta.shape)
    event = np.arange(eta.shape[1])
    new = {}
    for kind, pt in world[1].items():
        flat = [x.ravel() for x in (pt, eta, phi, charge)]
        moved = field.scaled(found, kind, *flat)
        if kind == "mc":
            moved = field.smeared(
                found,
                moved,
                *flat[1:3],
                layers.ravel(),
                np.tile(event, 2),
                np.tile(event % 97, 2),
                flat[0],
            )
        new[kind] = moved.reshape(pt.shape)
    return new


def test_data_and_smeared_simulation_agree_in_cells_of_eta(world, generated, layers, made):
    found = field.loaded(made.document)
    new = applied(found, world, generated, layers)
    after = {kind: ratios(pt, generated) for kind, pt in new.items()}
    before = {kind: ratios(pt, generated) for kind, pt in world[1].items()}
    cells = np.linspace(-2.4, 2.4, 7)
    shift, wide, was, was_wide = [], [], [], []
    for muon in (0, 1):
        at = np.searchsorted(cells, generated[1][muon], side="right") - 1
        for i in range(6):
            (a, b), (c, d) = (
                [np.clip(x[kind][at == i], 0.9, 1.1) for kind in ("data", "mc")]
                for x in (after, before)
            )
            shift.append(a.mean() - b.mean())
            wide.append(a.std() / b.std() - 1)
            was.append(c.mean() - d.mean())
            was_wide.append(c.std() / d.std() - 1)
    assert np.abs(was).max() > 5 * MASS_WITHIN and np.abs(was_wide).min() > 5 * WIDTH_WITHIN
    assert np.abs(shift).max() < MASS_WITHIN
    assert np.abs(wide).max() < WIDTH_WITHIN
    # and both are where the generated mass is, not only together
    assert abs(np.clip(after["data"], 0.9, 1.1).mean() - 1) < 2 * MASS_WITHIN


def test_it_is_as_the_files_of_the_campaigns(made, shared_data):
    real = field.document_of(shared_data / "peer_2022_muon_scalesmearing.json.gz")
    own = {c["name"]: c for c in made.document["corrections"]}
    assert set(own) == set(field.CORRECTIONS)

    def walk(node, path=()):
        """Yield what a node is, down its first content: kind, input, flow, keys."""
        if isinstance(node, dict):
            keys = [c["key"] for c in node["content"]] if node["nodetype"] == "category" else None
            yield node["nodetype"], node["input"], node.get("flow"), keys
            first = node["content"][0]
            yield from walk(first.get("value") if keys else first)

    for theirs in real["corrections"]:
        mine = own[theirs["name"]]
        for key in ("inputs",):
            assert [(i["name"], i["type"]) for i in mine[key]] == [
                (i["name"], i["type"]) for i in theirs[key]
            ]
        assert mine["output"]["type"] == theirs["output"]["type"]
        for ours, others in zip(walk(mine["data"]), walk(theirs["data"]), strict=True):
            assert ours[:3] == others[:3]
            assert others[3] is None or set(others[3]) <= set(ours[3])
    inner = own["cb_params"]["data"]["content"][0]
    there = next(c for c in real["corrections"] if c["name"] == "cb_params")
    assert inner["edges"] == there["data"]["content"][0]["edges"]
    assert own["cb_params"]["data"]["edges"] == there["data"]["edges"]
    for name, inputs in field.CORRECTIONS.items():
        assert tuple(i["name"] for i in own[name]["inputs"]) == inputs
        for i in own[name]["inputs"]:
            assert i["type"] == field.TYPES.get(i["name"], "real"), (name, i)
    assert own["RandomSmearing"]["data"] == {
        "nodetype": "hashprng",
        "inputs": ["event", "luminosityBlock", "phi"],
        "distribution": "stdflat",
    }


def test_variations_are_numbers_everywhere(made):
    found = field.loaded(made.document)
    eta, phi = np.linspace(-2.5, 2.5, 101), np.linspace(-3.3, 3.3, 101)
    for kind in ("data", "mc"):
        for key in ("nom", "stat", "syst", "rho_stat"):
            assert np.isfinite(found[f"m_{kind}"].evaluate(eta, phi, key)).all()
        for key in ("nom", "stat", "syst"):
            assert np.isfinite(found[f"a_{kind}"].evaluate(eta, phi, key)).all()
            assert (found[f"k_{kind}"].evaluate(np.abs(eta), key) >= 0).all()
        assert (np.abs(found[f"m_{kind}"].evaluate(eta, phi, "rho_stat")) <= 1).all()


def test_errors_of_m_are_those_at_the_mean_k(world, made):
    state, found = world[0].state, field.loaded(made.document)
    n, i = synthetic.N_ETA, 7
    cov, k = np.asarray(state["covariance"]), np.asarray(state["k_mean"])[i]
    middle = 0.5 * (EDGES[i] + EDGES[i + 1])
    v = cov[i, i] - 2 * k * cov[i, n + i] + k**2 * cov[n + i, n + i]
    assert found["m_data"].evaluate(middle, 0.1, "stat") == pytest.approx(np.sqrt(v), rel=1e-9)
    a = np.sqrt(cov[2 * n + i, 2 * n + i])
    assert found["a_data"].evaluate(middle, 0.1, "stat") == pytest.approx(a, rel=1e-9)
    expected = 1 + state["A"][i] - k * state["e"][i]
    assert found["m_data"].evaluate(middle, 0.1, "nom") == pytest.approx(expected, rel=1e-12)


def test_smearing_is_ours_at_the_pt_of_the_muons(world, made):
    """k std is the width that the payload itself smears with, at the mean pt^2 of the bin."""
    state, found = world[0].state, field.loaded(made.document)
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    pt = np.sqrt(np.asarray(state["pt2_mean"]))
    own = np.sqrt(
        state["a2"] - state["simulation_a2"] + (state["c2"] - state["simulation_c2"]) * pt**2
    )
    made_ = field.residual_k(found, middle) * field.width(found, middle, 10.0 + 0 * pt, pt)
    # both sides in eta share a k; the layers have a width each
    assert np.abs(made_ / own - 1).max() < 0.04
    assert abs((made_ / own).mean() - 1) < 0.01


def test_tails_and_widths_come_back():
    """Residuals with tails drawn from a Crystal Ball, of a width that changes with layers."""
    rng = np.random.default_rng(64)
    n = 400_000
    gen, eta = rng.uniform(26, 100, n), rng.uniform(0, 0.2, n)
    layers = rng.choice([9.0, 12.0], n)
    std = np.where(layers < 10, 1.5, 1.0) * np.hypot(0.01, 1e-4 * gen)
    tails, sigma = (4.0, 1.4), shapes.unit_sigma(4.0, 1.4)
    r = field.inverse_cumulative(rng.random(n), 0.0, sigma, *tails)
    muons = Muons(
        gen * (1 + std * r), eta, eta, np.ones(n), gen_pt=gen, extra={"nTrackerLayers": layers}
    )
    none = replace(muons, gen_pt=np.full(n, np.nan))
    one = np.ones(n)
    sums = residuals.observed(Pairs(muons, none, one, one, one, one), unit=True)
    assert sums["residual/counts"].sum() > 0.99 * n
    found = shapes.shape_of([sums], [(1e-4, 1e-8)] * 12)
    for j, wide in ((1, 1.5), (4, 1.0)):
        for pt in (30.0, 45.0, 90.0):
            p = found.polynomial[0, j]
            assert p[0] + p[1] * pt + p[2] * pt**2 == pytest.approx(
                wide * np.hypot(0.01, 1e-4 * pt), rel=0.03
            )
        x = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
        of_fit = shapes.crystal_ball_within(
            x, shapes.unit_sigma(*found.tails[0, j]), *found.tails[0, j]
        )
        np.testing.assert_allclose(of_fit, shapes.crystal_ball_within(x, sigma, *tails), atol=0.004)
    # nowhere else are there muons: the widths of the payload, and no tails
    assert tuple(found.tails[5, 3]) == shapes.GAUSSIAN
    np.testing.assert_allclose(found.polynomial[5, 3], shapes.polynomial_of(1e-4, 1e-8))


def test_the_crystal_ball_is_that_of_the_helper():
    u = np.linspace(0.001, 0.999, 997)
    for n, alpha in ((3.0, 1.2), (10.0, 4.0), (25.0, 0.7)):
        x = field.inverse_cumulative(u, 0.0, 1.3, n, alpha)
        within = shapes.crystal_ball_within(np.abs(x), 1.3, n, alpha)
        np.testing.assert_allclose(within, np.abs(2 * u - 1), atol=1e-12)


def test_without_simulation_nothing_is_smeared_and_it_is_said():
    document = payload.document(synthetic.reduction(simulation=False))
    made = export.export(document, LAYOUT)
    found = field.loaded(made.document)
    eta = np.linspace(-2.3, 2.3, 47)
    assert (field.residual_k(found, eta) == 0).all()
    assert (found["m_mc"].evaluate(eta, 0.0, "nom") == 1).all()
    assert any("No simulation was calibrated" in text for text in made.lost)
    assert any("no simulated muons" in text for text in made.lost)


def test_a_bin_without_a_value_and_outside_stay_as_they_are():
    reduction = synthetic.reduction()
    found = field.loaded(export.export(payload.document(reduction), LAYOUT).document)
    middle = 0.5 * (EDGES[synthetic.BAD] + EDGES[synthetic.BAD + 1])
    assert found["m_data"].evaluate(middle, 0.0, "nom") == 1.0
    assert found["a_data"].evaluate(middle, 0.0, "nom") == 0.0
    narrow = synthetic.reduction(n_eta=12)
    narrow.state["eta_edges"] = np.linspace(-1.2, 1.2, 13)
    found = field.loaded(export.export(payload.document(narrow), LAYOUT).document)
    for eta in (-2.39, -1.21, 1.3, 2.3):
        assert found["m_data"].evaluate(eta, 0.0, "nom") == 1.0
        assert found["m_data"].evaluate(eta, 0.0, "stat") == 1.0
    assert found["m_data"].evaluate(1.1, 0.0, "nom") != 1.0
