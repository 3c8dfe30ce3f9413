"""Files of others: applied as a second evaluator of the description applies them, everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from calib import calibrations
from calib.calibrations.momentum_scale.payloads import export, payload
from calib.errors import InputError
from calib.events.pairs import Muons
from calib.payload.payload import load_payload
from calib.payload.scale_smearing import LAYERS, crystal_ball
from calib.toys.generation import generate
from jobs.cli import app
from jobs.config.complete import filled
from jobs.config.schema import configuration
from jobs.events.toys import write_stage1
from jobs.run import payloads
from processors.corrections import Correction
from tests import scale_smearing as field
from tests.calib.calibrations.momentum_scale import synthetic
from tests.processors import test_corrected as events
from tests.processors import test_levels as levels

REAL = "peer_2022_muon_scalesmearing.json.gz"
NAME = "calib.payload.scale_smearing:ScaleSmearing"


@pytest.fixture(scope="module")
def document() -> Any:
    made = payload.document(synthetic.reduction())
    return export.export(made, "muon_scalesmearing").document


@pytest.fixture(scope="module")
def path(document, tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("official") / "muon_scalesmearing.json.gz"
    payloads.write(where, document)
    return where


def some_muons(n: int = 2000) -> Muons:
    rng = np.random.default_rng(71)
    return Muons(
        rng.uniform(15, 230, n),
        rng.uniform(-2.6, 2.6, n),
        rng.uniform(-3.14, 3.14, n),
        rng.choice([-1, 1], n),
        rng.uniform(0.1, 2, n),
        extra={LAYERS: rng.integers(4, 18, n)},
    )


def moved(document: Any, muons: Muons, simulated: bool) -> Muons:
    kind = calibrations.of_payload(document)
    event = np.arange(len(muons.pt), dtype=np.uint64) + np.uint64(2**33)
    return kind.apply_muons(document, muons, event * 0 + 1, event % np.uint64(50), event, simulated)


@pytest.mark.parametrize("simulated", [False, True])
def test_as_the_second_evaluator(document, simulated):
    muons = some_muons()
    kind = "mc" if simulated else "data"
    found = field.loaded(document)
    expected = field.scaled(found, kind, muons.pt, muons.eta, muons.phi, muons.charge)
    if simulated:
        event = np.arange(2000) + 2**33
        expected = field.smeared(
            found,
            expected,
            muons.eta,
            muons.phi,
            muons.extra[LAYERS].astype(float),
            event,
            event % 50,
            muons.pt,
        )
    new = moved(document, muons, simulated)
    np.testing.assert_allclose(new.pt, expected, rtol=1e-12)
    np.testing.assert_allclose(new.pt_err / muons.pt_err, expected / muons.pt, rtol=1e-12)
    outside = (muons.pt < 26) | (muons.pt > 200)
    assert (new.pt[outside] == muons.pt[outside]).all() and outside.sum() > 100
    assert (new.pt[~outside] != muons.pt[~outside]).mean() > 0.9


def test_the_real_file(shared_data):
    document = field.document_of(shared_data / REAL)
    muons = some_muons()
    found = field.loaded(document)
    expected = field.scaled(found, "data", muons.pt, muons.eta, muons.phi, muons.charge)
    np.testing.assert_allclose(moved(document, muons, False).pt, expected, rtol=1e-12)
    # it has no numbers of its own: ours are uniform, and others for each muon of an event
    many = some_muons(40_000)
    before = field.scaled(found, "mc", many.pt, many.eta, many.phi, many.charge)
    new = moved(document, many, True)
    layers = many.extra[LAYERS].astype(float)
    width = field.residual_k(found, many.eta) * field.width(found, many.eta, layers, before)
    inside = (many.pt > 26) & (many.pt < 200) & (width > 0)
    ball = [found["cb_params"].evaluate(np.abs(many.eta), layers, i) for i in range(4)]
    r = ((new.pt / before - 1) / np.where(inside, width, 1) - ball[0])[inside] / ball[1][inside]
    # the core of a Crystal Ball is a Gaussian: a little less than 68 % within one sigma
    assert 0.55 < (np.abs(r) < 1).mean() < 0.70
    assert abs(np.median(r)) < 5 * 1.25 / np.sqrt(len(r))
    assert "muon_scalesmearing" == load_payload(shared_data / REAL).calibration


def test_the_inverse_of_a_crystal_ball():
    u = np.random.default_rng(72).random(5000)
    for mean, sigma, n, alpha in (
        (0.1, 0.7, 12.0, 1.3),
        (0.0, 1.0, 10.0, 4.0),
        (-0.2, 1, 1.5, 0.6),
    ):
        expected = field.inverse_cumulative(u, mean, sigma, n, alpha)
        found = crystal_ball(u, *(np.full(5000, x) for x in (mean, sigma, n, alpha)))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_refused(document):
    bare = Muons(*(getattr(some_muons(), k) for k in ("pt", "eta", "phi", "charge")))
    with pytest.raises(InputError, match="without nTrackerLayers"):
        moved(document, bare, True)
    assert np.isfinite(moved(document, bare, False).pt).all()
    less = {**document, "corrections": [c for c in document["corrections"] if c["name"] != "k_mc"]}
    with pytest.raises(InputError, match="without k_mc"):
        moved(less, some_muons(), True)


def test_it_calibrates_nothing():
    sample = {"name": "z", "resonance": "z", "format": "stage1", "files": ["a.parquet"]}
    with pytest.raises(InputError, match="applies files of others and makes none"):
        filled(
            configuration({"name": "x", "calibration": NAME, "samples": [sample]}, "here"),
            "here",
            Path.cwd(),
        )


# in events ----------------------------------------------------------------------------------
def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def with_layers(path: Path) -> Path:
    table, rng = pq.read_table(events.in_double(path)), np.random.default_rng(73)
    for i in (1, 2):
        column = pa.array(rng.integers(5, 17, table.num_rows).astype(np.uint8))
        table = table.append_column(f"mu{i}_nTrackerLayers", column)
    table = table.append_column("luminosityBlock", pa.array(rng.integers(1, 90, table.num_rows)))
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("simulation", [False, True])
def test_rows_in_the_event_loop_are_as_written_by_apply(tmp_path, document, path, simulation):
    made = generate("z", 3000, seed=74, simulation=simulation)
    source = tmp_path / "in.parquet"
    write_stage1(source, made.pairs, simulation=simulation)
    if "luminosityBlock" in pq.read_schema(source).names:
        pq.write_table(pq.read_table(source).drop_columns("luminosityBlock"), source)
    with_layers(source)
    out = tmp_path / "out.parquet"
    done = run("apply", path, source, out, "-q")
    assert done.exit_code == 0, done.output
    one = Correction("f", "0" * 64, NAME, document)
    expected, reasons = events.selected(out, 3000, simulation=simulation)
    found, own = events.selected(source, 3000, (one,), simulation, step=700)
    assert own == reasons
    wanted, mine = events.columns(expected), events.columns(found)
    for name in ("leading.pt", "subleading.pt", "leading.pt_err", "mass", "event"):
        np.testing.assert_array_equal(mine[name], wanted[name], err_msg=name)
    plain = events.columns(events.selected(source, 3000, simulation=simulation)[0])
    assert len(plain["mass"]) != len(wanted["mass"]) or (plain["mass"] != wanted["mass"]).any()


def nanoaod(path: Path, layers: bool = True) -> Path:
    rng = np.random.default_rng(75)
    part = levels.branches(2000, rng, True)
    part["Muon"]["pt"] = levels.ak.values_astype(part["Muon"]["pt"], np.float64)
    if layers:
        number = levels.ak.num(part["Muon"]["pt"])
        flat = rng.integers(5, 17, int(np.sum(number))).astype(np.uint8)
        part["Muon"]["nTrackerLayers"] = levels.ak.unflatten(flat, number)
    return levels.write(path, [part])


def test_nanoaod_in_the_event_loop_is_as_written_by_apply(tmp_path, document, path):
    source, out = nanoaod(tmp_path / "in.root"), tmp_path / "out.root"
    done = run("apply", path, source, out, "-q")
    assert done.exit_code == 0, done.output
    one = Correction("f", "0" * 64, NAME, document)
    cuts = events.replace(events.CUTS, mass_window=(20.0, 200.0), identification="medium")
    found, _ = events.selected(source, 2000, (one,), True, step=500, cuts=cuts)
    expected, _ = events.selected(out, 2000, cuts=cuts)
    wanted, mine = events.columns(expected), events.columns(found)
    both = np.isin(wanted["event"], mine["event"])
    assert both.sum() == len(mine["event"]) > 30
    for name in ("leading.pt", "subleading.pt", "mass"):
        np.testing.assert_array_equal(mine[name], wanted[name][both], err_msg=name)


def test_a_missing_branch_is_one_sentence_before_any_event(tmp_path, path):
    source = nanoaod(tmp_path / "in.root", layers=False)
    done = run("apply", path, source, tmp_path / "out.root")
    assert done.exit_code == 2 and "no column Muon_nTrackerLayers" in done.stderr
    assert not (tmp_path / "out.root").exists()
    config = {
        "name": "r",
        "calibration": "mass_resolution",
        "payloads": [str(path)],
        "samples": [
            {"name": "mc", "resonance": "z", "format": "nanoaod", "files": [str(source)]}
            | {"simulation": True}
        ],
        "cluster": {"kind": "inline"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = run("run", tmp_path / "c.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "Muon_nTrackerLayers" in done.stderr
    assert "muon_scalesmearing.json.gz" in done.stderr and "Traceback" not in done.output


def test_a_resolution_after_the_file_knows_it(tmp_path, path):
    """A configuration with the file in payloads runs, and says what was applied."""
    made = generate("z", 20_000, seed=76)
    source = tmp_path / "z.parquet"
    write_stage1(source, made.pairs, simulation=False)
    config = {
        "name": "r",
        "calibration": "mass_resolution",
        "payloads": [str(path)],
        "samples": [{"name": "z", "resonance": "z", "format": "stage1", "files": [str(source)]}],
        "cluster": {"kind": "inline"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = run("collect", tmp_path / "c.yaml", "--out", tmp_path / "run", "-q")
    assert done.exit_code == 0, done.output
    inputs = (tmp_path / "run").rglob("*.json")
    assert any("muon_scalesmearing" in p.read_text() for p in inputs)
