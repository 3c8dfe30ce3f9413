"""A payload on events: all of them written, the corrected ones counted, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from mean_mass import MeanMass
from typer.testing import CliRunner

from calib import calibrations
from calib.calibrations import base
from calib.calibrations.capabilities import CorrectsMuons
from calib.calibrations.mass_resolution import payload as resolution
from calib.calibrations.mass_resolution.settings import Settings
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.physics.kinematics import mass
from calib.results import Reduction
from calib.toys.generation import generate
from jobs.cli import app
from jobs.events import apply as applying
from jobs.events.toys import write_nanoaod, write_stage1

MEANS = (91.188 / 1.01, 91.188 / 1.02, 91.188 / 1.03)


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A payload that scales both pt by 1.01, 1.02, 1.03 with |eta| of the leading muon."""

    def of_payload(document: Mapping[str, Any]) -> type[base.Calibration]:
        return MeanMass

    # the test's calibration is not among the installed ones
    monkeypatch.setattr(calibrations, "of_payload", of_payload)
    document = {
        "schema_version": 2,
        "corrections": [
            {
                "name": "mean_mass",
                "version": 1,
                "inputs": [{"name": "abs_eta", "type": "real"}],
                "output": {"name": "mean", "type": "real"},
                "data": {
                    "nodetype": "binning",
                    "input": "abs_eta",
                    "edges": [0.0, 0.9, 1.8, 2.4],
                    "content": list(MEANS),
                    "flow": "clamp",
                },
            }
        ],
    }
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def apply(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["apply", *map(str, arguments), "--json"])


def test_stage1(payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "STEP", 300)
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write_stage1(source, generate("z", 1000, seed=3).pairs, simulation=False)
    table = pq.read_table(source)
    # a row that cannot be corrected, and one whose muons stand the other way round
    pt1, pt2 = (table.column(n).to_numpy().copy() for n in ("mu1_pt", "mu2_pt"))
    pt1[0], (pt1[1], pt2[1]) = np.nan, (pt2[1], pt1[1])
    for name, values in (("mu1_pt", pt1), ("mu2_pt", pt2)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    table = table.append_column("of_the_user", pa.array(np.arange(1000)))
    pq.write_table(table, source)

    found = json.loads(apply(payload, source, out).stdout)
    assert (found["events"], found["corrected"]) == (1000, 999)
    assert found["left_alone"] == {"bad_pt": 1}
    measured = [
        f"{name}_measured" for name in ("mu1_pt", "mu2_pt", "mu1_ptErr", "mu2_ptErr", "dimuon_mass")
    ]
    assert found["added"] == ["mean_scale", *measured]
    assert set(found["replaced"]) == {"mu1_pt", "mu2_pt", "mu1_ptErr", "mu2_ptErr", "dimuon_mass"}
    made = pq.read_table(out)
    assert made.column_names == [*table.column_names, "mean_scale", *measured]
    for name in measured:
        before = table.column(name.removesuffix("_measured")).to_numpy()
        np.testing.assert_array_equal(made.column(name).to_numpy(), before)
    scale = made.column("mean_scale").to_numpy()
    eta1, eta2 = (np.abs(table.column(n).to_numpy()) for n in ("mu1_eta", "mu2_eta"))
    leading = np.where(pt2 > pt1, eta2, eta1)
    expected = np.select([leading < 0.9, leading < 1.8], [1.01, 1.02], 1.03)
    np.testing.assert_allclose(scale[1:], expected[1:], rtol=1e-12)
    assert np.isnan(scale[0])
    expected[0] = 1.0
    for name, before in (("mu1_pt", pt1), ("mu2_pt", pt2)):
        np.testing.assert_allclose(made.column(name).to_numpy(), before * expected, rtol=1e-6)
    # ptErr goes with pt, and the mass is that of the corrected muons
    for name in ("mu1_ptErr", "mu2_ptErr"):
        before = table.column(name).to_numpy()
        np.testing.assert_allclose(made.column(name).to_numpy(), before * expected, rtol=1e-6)
    rows = {n: made.column(n).to_numpy().astype(float) for n in made.column_names}
    muons = [rows[f"mu{i}_{n}"][1:] for i in (1, 2) for n in ("pt", "eta", "phi")]
    np.testing.assert_allclose(rows["dimuon_mass"][1:], mass(*muons), rtol=1e-6)
    assert made.column("dimuon_mass")[0].equals(table.column("dimuon_mass")[0])
    for name in ("mu1_eta", "mu2_charge", "event", "of_the_user"):
        assert made.column(name).equals(table.column(name))
    # once more, if it is asked for: the new column is replaced, not doubled
    refused = apply(payload, out, tmp_path / "again.parquet")
    assert refused.exit_code == 2 and "mean_mass payload payload.json" in refused.stderr
    again = json.loads(apply(payload, out, tmp_path / "again.parquet", "--again").stdout)
    kept = pq.read_table(tmp_path / "again.parquet").column("mu1_pt_measured").to_numpy()
    np.testing.assert_array_equal(kept, pt1)
    assert again["added"] == [] and "mean_scale" in again["replaced"]


def test_nanoaod(payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "STEP", 300)
    source, out = tmp_path / "in.root", tmp_path / "out.root"
    write_nanoaod(source, generate("z", 1000, seed=3).pairs, simulation=False)
    found = json.loads(apply(payload, source, out).stdout)
    assert found["events"] == found["corrected"] == 1000
    assert found["replaced"] == ["Muon_pt", "Muon_ptErr"]
    with uproot.open(source) as before, uproot.open(out) as after:
        old, new = before["Events"], after["Events"]
        scale = new["mean_scale"].array(library="np")
        pt = np.stack(old["Muon_pt"].array(library="np").tolist())
        np.testing.assert_allclose(
            np.stack(new["Muon_pt"].array(library="np").tolist()), pt * scale[:, None], rtol=1e-6
        )
        err = np.stack(old["Muon_ptErr"].array(library="np").tolist())
        np.testing.assert_allclose(
            np.stack(new["Muon_ptErr"].array(library="np").tolist()),
            err * scale[:, None],
            rtol=1e-6,
        )
        assert set(np.round(scale, 6)) == {1.01, 1.02, 1.03}
        for name in ("event", "run"):
            np.testing.assert_array_equal(
                new[name].array(library="np"), old[name].array(library="np")
            )


def test_real_nanoaod(shared_data: Path, payload: Path, tmp_path: Path) -> None:
    source = shared_data / "cms2018_dimuon.nanoaod.root"
    found = json.loads(apply(payload, source, tmp_path / "out.root").stdout)
    assert found["events"] == 40
    assert found["corrected"] + sum(found["left_alone"].values()) == 40


def test_peers_payload_is_read(shared_data: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write_stage1(source, generate("z", 500, seed=3).pairs, simulation=False)
    found = apply(shared_data / "peer_2018_mass_resolution.json", source, out)
    assert found.exit_code == 0, found.output
    assert "dimuon_mass_resolution" in pq.read_table(out).column_names


def factors_of_muons(way: str) -> dict[str, Any]:
    """A payload of the mass resolution with a factor for each muon: 1.1, 1.2 ... with |eta|."""
    settings = Settings(apply=way)  # type: ignore[arg-type]
    n, rings = len(settings.muons.abs_eta) - 1, len(settings.abs_eta) - 1
    state = {
        "status": np.zeros(36),
        "factor": np.full(36, 1.05),
        "factor_err": np.full(36, 0.02),
        "muons": np.append(np.log(1 + 0.1 * np.arange(1, n + 1)), np.zeros(rings)),
        "muons_covariance": np.eye(n + rings) * 1e-4,
        "ring_of": np.repeat(np.arange(rings), [3, 3, 2]),
    }
    return resolution.document(Reduction(pd.DataFrame(), {}, {}, (), (), state), settings)


@pytest.mark.parametrize("way", ["category", "muon"])
def test_mass_resolution_says_which_factors_it_has(tmp_path: Path, way: str) -> None:
    source, out, path = (tmp_path / n for n in ("in.parquet", "out.parquet", "payload.json"))
    path.write_text(json.dumps(factors_of_muons(way)), encoding="utf-8")
    write_stage1(source, generate("z", 500, seed=3).pairs, simulation=False)
    table = pq.read_table(source)
    for name in ("pt", "ptErr", "eta", "phi", "charge"):  # the other muon leads in every row
        first, second = (table.column_names.index(f"mu{i}_{name}") for i in (1, 2))
        one, other = table.column(first), table.column(second)
        table = table.set_column(first, f"mu1_{name}", other)
        table = table.set_column(second, f"mu2_{name}", one)
    pq.write_table(table, source)
    found = apply(path, source, out)
    assert found.exit_code == 0, found.output
    made = pq.read_table(out)
    rows = {n: made.column(n).to_numpy().astype(float) for n in made.column_names}
    predicted = rows["dimuon_mass_resolution_predicted"]
    factors = [1.1 + 0.1 * np.floor(np.abs(rows[f"mu{i}_eta"]) / 0.3) for i in (1, 2)]
    known = np.isfinite(predicted)
    assert known.sum() > 400
    if way == "category":
        assert "mu1_ptErr_factor" not in rows
        expected = 1.05 * predicted
    else:
        for i in (1, 2):
            got = rows[f"mu{i}_ptErr_factor"]
            np.testing.assert_allclose(got[known], factors[i - 1][known], rtol=1e-9)
        relative = [
            f * rows[f"mu{i}_ptErr"] / rows[f"mu{i}_pt"]
            for i, f in zip((1, 2), factors, strict=True)
        ]
        plain = [rows[f"mu{i}_ptErr"] / rows[f"mu{i}_pt"] for i in (1, 2)]
        expected = predicted * np.hypot(*relative) / np.hypot(*plain)
    np.testing.assert_allclose(rows["dimuon_mass_resolution"][known], expected[known], rtol=1e-5)
    assert np.all(rows["dimuon_mass_resolution_status"][known] == 0)


def test_refused(payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write_stage1(source, generate("z", 100, seed=3).pairs, simulation=False)
    table = pq.read_table(source)
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "text.root").write_text("no ROOT file" * 100)
    pq.write_table(table.drop_columns(["mu1_eta"]), tmp_path / "less.parquet")
    for arguments, said in (
        ((payload, tmp_path / "none.parquet", out), "none.parquet"),
        ((payload, source, tmp_path / "out.root"), "out.root"),
        ((payload, source, source), "exists"),
        ((payload, tmp_path / "text.parquet", out), "text.parquet"),
        ((payload, tmp_path / "text.root", tmp_path / "out.root"), "text.root"),
        ((payload, tmp_path / "less.parquet", out), "mu1_eta"),
        ((payload, payload, out), "payload.json"),
    ):
        found = apply(*arguments)
        assert found.exit_code == 2 and said in found.stderr, (said, found.output)
    assert not out.exists()

    def fail(*arguments: Any) -> None:
        raise InputError("the events have no ptErr")

    monkeypatch.setattr(MeanMass, "apply", fail)
    assert apply(payload, source, out).exit_code == 2
    assert not [p for p in tmp_path.iterdir() if "out.parquet" in p.name]


# muons, each for itself ----------------------------------------------------------------------
class EachMuon(MeanMass, CorrectsMuons):
    """Raises pt of data by 1 %, of simulation by 2 %, below |eta| of 2."""

    @classmethod
    def apply_muons(
        cls,
        document: Any,
        muons: Muons,
        run: Any,
        luminosityBlock: Any,
        event: Any,
        simulated: bool,
    ) -> Muons:
        assert len(run) == len(luminosityBlock) == len(event) == len(muons.pt)
        factor = np.where(np.abs(muons.eta) < 2, 1.02 if simulated else 1.01, 1.0)
        factor = np.where(event % 2 == 0, factor, 1.0)
        err = None if muons.pt_err is None else factor * muons.pt_err
        return replace(muons, pt=factor * muons.pt, pt_err=err)


@pytest.mark.parametrize("simulation", [False, True])
def test_every_muon_of_nanoaod(
    payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulation: bool
) -> None:
    monkeypatch.setattr(applying, "STEP", 7)
    monkeypatch.setattr(calibrations, "of_payload", lambda document: EachMuon)
    source, out = tmp_path / "in.root", tmp_path / "out.root"
    counts = np.array([0, 1, 2, 3, 0, 4, 2, 1, 3, 2])
    random = np.random.default_rng(4)
    n = int(counts.sum())
    values = {
        "pt": random.uniform(3, 60, n),
        "eta": random.uniform(-2.5, 2.5, n),
        "phi": random.uniform(-3, 3, n),
        "ptErr": random.uniform(0.1, 1, n),
        "charge": random.choice([-1, 1], n).astype(np.int32),
    }
    muons = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in values.items()}
    event = np.arange(10, dtype=np.uint64) + 100
    branches: dict[str, Any] = {"event": event, "Muon": ak.unflatten(ak.zip(muons), counts)}
    if simulation:
        branches["genWeight"] = np.ones(10, dtype=np.float32)
    with uproot.recreate(source) as file:
        types = {
            k: b.type.content if isinstance(b, ak.Array) else b.dtype for k, b in branches.items()
        }
        file.mktree("Events", types).extend(branches)
    done = apply(payload, source, out)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    per_muon = np.repeat(event, counts)
    factor = np.where(np.abs(muons["eta"]) < 2, 1.02 if simulation else 1.01, 1.0)
    factor = np.where(per_muon % 2 == 0, factor, 1.0)
    with uproot.open(out) as file:
        for name in ("pt", "ptErr"):
            got = file["Events"][f"Muon_{name}"].array()
            assert ak.num(got).tolist() == counts.tolist()
            np.testing.assert_allclose(
                ak.to_numpy(ak.flatten(got)), muons[name] * factor, rtol=1e-6
            )
    moved = len(set(per_muon[factor != 1]))
    assert found["corrected"] == moved
    assert found["left_alone"] == {"no_muon": 2, "no_muon_corrected": 10 - 2 - moved}
    assert found["replaced"] == ["Muon_pt", "Muon_ptErr"]
    assert found["added"] == ["Muon_pt_measured", "Muon_ptErr_measured"]


@pytest.mark.parametrize("columns, known", [("all", True), ("mass", True), ("empty", False)])
def test_stage1_tells_whether_it_is_simulation(
    payload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str, known: bool
) -> None:
    """Columns of generated muons may be there and empty: then the file is data."""
    seen = []

    def look(document: Any, pairs: Pairs) -> dict[str, Any]:
        seen.append(pairs.gen_mass is not None)
        return {"mu1_pt": pairs.leading.pt, "mu2_pt": pairs.subleading.pt}

    monkeypatch.setattr(MeanMass, "apply", look)
    source = tmp_path / "in.parquet"
    write_stage1(source, generate("z", 200, seed=3, simulation=True).pairs, simulation=True)
    table = pq.read_table(source)
    gen = [name for name in table.column_names if "gen_" in name]
    assert len(gen) == 7
    if columns == "mass":
        table = table.drop_columns([name for name in gen if name != "gen_dimuon_mass"])
    if columns == "empty":
        for name in gen:
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(np.zeros(len(table))))
    pq.write_table(table, source)
    assert apply(payload, source, tmp_path / "out.parquet").exit_code == 0
    assert seen == [known]
