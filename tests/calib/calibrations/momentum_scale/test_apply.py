"""The payload on muons: arrays and correctionlib agree, and smearing belongs to the muon."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import correctionlib
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
from typer.testing import CliRunner

import calib
from calib.calibrations.momentum_scale.payloads import apply as applying
from calib.calibrations.momentum_scale.payloads import payload
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.physics.kinematics import mass
from calib.toys.generation import generate, momentum_truth
from jobs.cli import app
from jobs.events.toys import write_nanoaod, write_stage1
from jobs.run import payloads

from . import synthetic


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return payload.document(synthetic.reduction())


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    random = np.random.default_rng(5)
    n = 40_000

    def muons(charge: np.ndarray) -> Muons:
        pt = np.exp(random.uniform(np.log(3), np.log(150), n))
        eta = random.uniform(-2.6, 2.6, n).astype(np.float32).astype(float)
        phi = random.uniform(-np.pi, np.pi, n).astype(np.float32).astype(float)
        return Muons(pt, eta, phi, charge, 0.01 * pt)

    charge = random.choice(np.array([-1, 1]), n)
    event = np.arange(n, dtype=np.uint64)
    run = np.full(n, 315_000, dtype=np.uint64)
    return Pairs(muons(charge), muons(-charge), np.ones(n), run, event // 100, event)


def simulated(pairs: Pairs) -> Pairs:
    return replace(pairs, gen_mass=np.full(len(pairs), 91.0))


def test_data_are_corrected_as_by_correctionlib(document, pairs):
    found = applying.apply(document, pairs)
    scale = correctionlib.CorrectionSet.from_string(json.dumps(document))[payload.NAME]
    for name, muons in (("mu1", pairs.leading), ("mu2", pairs.subleading)):
        expected = scale.evaluate(muons.pt, muons.eta, muons.charge, "nom")
        np.testing.assert_allclose(found[f"{name}_pt"], expected, rtol=1e-12)
        inside = np.abs(muons.eta) < 2.2
        moved = np.abs(expected[inside] / muons.pt[inside] - 1)
        assert 1e-4 < np.median(moved) < 5e-3  # not a comparison of nothing with nothing
        np.testing.assert_allclose(found[f"{name}_ptErr"] / found[f"{name}_pt"], 0.01, rtol=1e-12)


def test_simulation_gets_the_resolution_of_the_data(document, pairs):
    cset = correctionlib.CorrectionSet.from_string(json.dumps(document))
    found = applying.apply(document, simulated(pairs))
    numbers = []
    for name, muons in (("mu1", pairs.leading), ("mu2", pairs.subleading)):
        scaled = cset[payload.SIMULATION].evaluate(muons.pt, muons.eta, muons.charge, "nom")
        width = cset[payload.SMEARING].evaluate(scaled, muons.eta)
        apart = scaled / found[f"{name}_pt"] - 1
        assert np.max(np.abs(apart[width == 0])) < 1e-14
        numbers.append((apart[width > 0] / width[width > 0], muons))
    pulls = np.concatenate([n for n, _ in numbers])
    n = len(pulls)
    assert n > 60_000
    assert abs(pulls.mean()) < 4 / np.sqrt(n) and abs(pulls.std() - 1) < 4 / np.sqrt(2 * n)
    assert abs(np.mean(np.abs(pulls) < 1) - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / n)
    # the two muons of an event are smeared independently
    both = [np.abs(m.eta) < 2.2 for _, m in numbers]
    at = both[0] & both[1]
    first, second = (found[f"mu{i}_pt"][at] / m.pt[at] for i, (_, m) in enumerate(numbers, start=1))
    rank = [np.argsort(np.argsort(x)) for x in (first, second)]
    assert abs(np.corrcoef(*rank)[0, 1]) < 4 / np.sqrt(at.sum())


def test_a_muon_is_smeared_the_same_wherever_it_stands(document, pairs):
    made = simulated(pairs)
    whole = applying.apply(document, made)
    parts = [applying.apply(document, made.take(np.arange(i, len(made), 7))) for i in range(7)]
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part["mu2_pt"], whole["mu2_pt"][i::7])
    swapped = applying.apply(
        document, replace(made, leading=made.subleading, subleading=made.leading)
    )
    np.testing.assert_array_equal(swapped["mu1_pt"], whole["mu2_pt"])
    # another event, another number
    other = applying.apply(document, replace(made, event=made.event + np.uint64(1)))
    inside = np.abs(made.leading.eta) < 2.2
    assert np.mean(other["mu1_pt"][inside] == whole["mu1_pt"][inside]) < 0.01


def test_order_of_the_pair_is_kept_and_bad_muons_stay(document, pairs):
    few = pairs.take(np.arange(5))
    pt = np.array([np.nan, -1.0, 0.0, np.inf, 20.0])
    few = replace(few, leading=replace(few.leading, pt=pt, charge=np.array([1, 1, 1, 1, 0])))
    found = applying.apply(document, few)
    np.testing.assert_array_equal(found["mu1_pt"], pt)
    assert np.all(found["mu2_pt"] > 0)


def test_without_pt_err_there_is_none(document, pairs):
    bare = replace(pairs.leading, pt_err=None), replace(pairs.subleading, pt_err=None)
    found = applying.apply(document, replace(pairs, leading=bare[0], subleading=bare[1]))
    assert set(found) == {"mu1_pt", "mu2_pt"}


def test_simulation_is_refused_by_a_payload_of_data_alone(pairs):
    document = payload.document(synthetic.reduction(simulation=False))
    applying.apply(document, pairs)
    with pytest.raises(InputError, match="simulated, but the payload was made without"):
        applying.apply(document, simulated(pairs))


# files -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def path(document, tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("payload") / "payload.json"
    payloads.write(where, document)
    return where


def test_from_arrays(path, document, pairs):
    a, b = pairs.leading, pairs.subleading
    found = calib.load_payload(path)(
        pt=(a.pt, b.pt), eta=(a.eta, b.eta), phi=(a.phi, b.phi), charge=(a.charge, b.charge)
    )
    expected = applying.apply(document, pairs)
    assert {"mu1_pt", "mu2_pt"} == {n for n in found if n.endswith("_pt")}
    for name in ("mu1_pt", "mu2_pt"):
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("simulation", [False, True])
def test_stage1_and_nanoaod_get_the_same(path, document, tmp_path, simulation):
    made = generate("z", 3000, seed=3, simulation=simulation).pairs
    write_stage1(tmp_path / "in.parquet", made, simulation=simulation)
    write_nanoaod(tmp_path / "in.root", made, simulation=simulation)
    for suffix in ("parquet", "root"):
        done = CliRunner().invoke(
            app,
            [
                "apply",
                *(str(x) for x in (path, tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}")),
            ],
        )
        assert done.exit_code == 0, done.output
    table = pq.read_table(tmp_path / "out.parquet")
    before = pq.read_table(tmp_path / "in.parquet")
    with uproot.open(tmp_path / "out.root") as file:
        nano = {n: file["Events"][f"Muon_{n}"].array() for n in ("pt", "ptErr")}
        order = file["Events"]["event"].array(library="np")
    assert np.array_equal(order, table.column("event").to_numpy())
    for quantity in ("pt", "ptErr"):
        rows = np.sort([table.column(f"mu{i}_{quantity}").to_numpy() for i in (1, 2)], axis=0)
        np.testing.assert_allclose(np.sort(ak.to_numpy(nano[quantity]).T, axis=0), rows, rtol=2e-7)
    pt = table.column("mu1_pt").to_numpy()
    width = np.std(pt / before.column("mu1_pt").to_numpy() - 1)
    assert (width > 2e-3) == simulation  # smeared, or not
    muons = [
        table.column(f"mu{i}_{n}").to_numpy().astype(float)
        for i in (1, 2)
        for n in ("pt", "eta", "phi")
    ]
    np.testing.assert_allclose(table.column("dimuon_mass").to_numpy(), mass(*muons), rtol=1e-6)


def test_a_payload_that_contradicts_itself_touches_no_event(document, tmp_path):
    changed = copy.deepcopy(document)
    nominal = changed["corrections"][0]["data"]["content"][0]["value"]
    for content in nominal["content"][0]["value"]["content"]:
        content["parameters"][2] *= -1
    payloads.write(tmp_path / "payload.json", changed)
    write_stage1(tmp_path / "in.parquet", generate("z", 10, seed=3).pairs, simulation=False)
    done = CliRunner().invoke(
        app, ["apply", *(str(tmp_path / n) for n in ("payload.json", "in.parquet", "out.parquet"))]
    )
    assert done.exit_code == 2 and "the sign of M" in done.stderr
    assert not (tmp_path / "out.parquet").exists()


# truth -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("simulation", [False, True])
def test_true_parameters_bring_muons_to_the_generated_pt(simulation):
    """And simulated ones to the resolution of the data: signs and widths against the toys."""
    n = synthetic.N_ETA
    made = synthetic.reduction()
    state = {**made.state, "status": np.zeros(n, dtype=int), "covariance": np.eye(5 * n) * 1e-12}
    truths = {"": momentum_truth(n, False), "simulation_": momentum_truth(n, True)}
    for prefix, truth in truths.items():
        np.testing.assert_allclose(truth.eta_edges, state["eta_edges"], atol=1e-9)
        state |= {f"{prefix}{k}": np.asarray(getattr(truth, k)) for k in ("A", "e", "M")}
        state |= {f"{prefix}{k}2": np.asarray(getattr(truth, k)) ** 2 for k in ("a", "c")}
    document = payload.document(replace(made, state=state))
    events = generate(
        "jpsi", 100_000, seed=8, simulation=True, truth=truths["simulation_" * simulation]
    ).pairs
    events = events if simulation else replace(events, gen_mass=None)
    found = applying.apply(document, events)
    pair = events.leading, events.subleading  # both: the leading one fluctuates upwards
    pt, gen, eta, charge = (
        np.concatenate([getattr(m, name) for m in pair])
        for name in ("pt", "gen_pt", "eta", "charge")
    )
    corrected = np.concatenate([found["mu1_pt"], found["mu2_pt"]])
    bins = np.searchsorted(truths[""].eta_edges, eta, side="right") - 1
    a, c = (np.asarray(getattr(truths[""], k)) for k in ("a", "c"))
    # far from the cut on the measured pt, and inside the eta range
    good = (gen > 4) & (bins >= 0) & (bins < n)
    at, some = bins[good], int(good.sum())
    width = np.hypot(a[at], c[at] * gen[good])
    pull, before = ((gen[good] / x[good] - 1) / width for x in (corrected, pt))
    assert some > 100_000
    assert abs(pull.mean()) < 4 / np.sqrt(some)
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * some) + 2e-3
    # nothing is left in any eta bin of either charge, and there was something to correct
    cell = at + n * (charge[good] > 0)
    entries = np.bincount(cell)
    chi2 = [float((np.bincount(cell, x) ** 2 / entries).sum()) for x in (pull, before)]
    assert chi2[0] < 2 * n + 5 * np.sqrt(4 * n)
    assert chi2[1] > 4 * chi2[0]


def test_from_python_it_says_resolution_and_status(document, pairs, tmp_path):
    path = tmp_path / "payload.json"
    payloads.write(path, document)
    both = (pairs.leading, pairs.subleading)
    columns = {n: tuple(getattr(m, n) for m in both) for n in ("pt", "eta", "phi", "charge")}
    found = calib.load_payload(path)(**columns)
    cset = correctionlib.CorrectionSet.from_string(json.dumps(document))
    for number, muons in ((1, both[0]), (2, both[1])):
        status = cset[f"{payload.NAME}_status"].evaluate(muons.eta)
        np.testing.assert_array_equal(found[f"mu{number}_status"], status)
        width = cset[f"{payload.NAME}_resolution"].evaluate(found[f"mu{number}_pt"], muons.eta)
        usable = status <= 2
        assert 0.5 < usable.mean() < 1  # muons without a value are among them
        mine = found[f"mu{number}_resolution"]
        np.testing.assert_allclose(mine[usable], width[usable], rtol=1e-12)
        assert np.isnan(mine[~usable]).all()
    known = (found["mu1_status"] <= 2) & (found["mu2_status"] <= 2)
    expected = 0.5 * np.hypot(found["mu1_resolution"], found["mu2_resolution"])
    corrected = mass(
        found["mu1_pt"], both[0].eta, both[0].phi, found["mu2_pt"], both[1].eta, both[1].phi
    )
    np.testing.assert_allclose(
        found["dimuon_mass_resolution"][known], (corrected * expected)[known], rtol=1e-12
    )
    assert (found["dimuon_mass_resolution_status"][~known] > 2).all()


def test_from_python_simulation_is_smeared_by_its_event(document, pairs, tmp_path):
    path = tmp_path / "payload.json"
    payloads.write(path, document)
    both = (pairs.leading, pairs.subleading)
    columns = {n: tuple(getattr(m, n) for m in both) for n in ("pt", "eta", "phi", "charge")}
    read = calib.load_payload(path)
    event = (pairs.run, pairs.luminosityBlock, pairs.event)
    found = read(**columns, simulation=True, event=event)
    expected = applying.apply(document, simulated(pairs))
    np.testing.assert_array_equal(found["mu1_pt"], expected["mu1_pt"])
    with pytest.raises(InputError, match="give event="):
        read(**columns, simulation=True)
    with pytest.raises(InputError, match=r"phi has arrays of shapes \(3,\), \(40000,\)"):
        read(**{**columns, "phi": (np.zeros(3), columns["phi"][1])})
