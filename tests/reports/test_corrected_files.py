"""Corrected files: what they keep of the input, which mark they bear, and where it is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from typer.testing import CliRunner

from calib.calibrations.momentum_scale.payloads import payload
from calib.errors import InputError
from calib.payload import description
from calib.schema import Sample
from calib.toys.generation import generate
from jobs.cli import app
from jobs.config.schema import Config
from jobs.events.files import inspect
from jobs.events.toys import write_nanoaod, write_stage1
from jobs.run import payloads
from tests.calib.calibrations.momentum_scale import synthetic
from tests.processors.peak import Peak, Settings, collect, configured

N = 500


@pytest.fixture
def scale(tmp_path: Path) -> Path:
    """A payload that corrects data and simulation in different ways."""
    payloads.write(tmp_path / "scale.json", payload.document(synthetic.reduction()))
    return tmp_path / "scale.json"


def apply(*arguments: Any) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["apply", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*arguments: Any) -> str:
    done = CliRunner().invoke(app, ["apply", *map(str, arguments)])
    assert done.exit_code == 2, done.output
    return " ".join(done.stderr.split())


def events(path: Path, *, simulation: bool = False, seed: int = 3) -> Path:
    write = write_nanoaod if path.suffix == ".root" else write_stage1
    write(path, generate("z", N, seed=seed, simulation=simulation).pairs, simulation=simulation)
    return path


def inspected(config: Config, base: Path) -> tuple[str, ...]:
    return inspect(config, Peak(Settings(), config.samples, 1), base).notes


# what is kept ------------------------------------------------------------------------------------
def test_everything_in_nanoaod_is_written_again(scale: Path, tmp_path: Path) -> None:
    plain = events(tmp_path / "plain.root", simulation=True)
    random = np.random.default_rng(1)
    with uproot.open(plain) as file:
        own = {n: file["Events"][n].array() for n in file["Events"].keys() if n[0] != "n"}
    counts = random.integers(0, 4, N)
    jets = {"pt": random.random(counts.sum()), "id": random.integers(0, 9, counts.sum())}
    extra = {
        "PV_npvs": np.full(N, 20, np.int32),
        "HLT_Other": random.random(N) < 0.5,
        "LHEPdfWeight": ak.unflatten(random.random(2 * N).astype(np.float32), np.full(N, 2)),
        "vertex": random.random((N, 3)).astype(np.float32),
    }
    groups = {
        name: ak.zip({n.split("_", 1)[1]: v for n, v in own.items() if n.startswith(f"{name}_")})
        for name in ("Muon", "GenPart")
    }
    flat = {n: v.to_numpy() for n, v in own.items() if not n.startswith(("Muon_", "GenPart_"))}
    branches = {**flat, **extra, **groups, "Jet": ak.unflatten(ak.zip(jets), counts)}
    types = {
        n: v.type.content if isinstance(v, ak.Array) else np.dtype((v.dtype, v.shape[1:]))
        for n, v in branches.items()
    }
    with uproot.recreate(tmp_path / "in.root") as file:
        file.mktree("Events", types, title="as it was").extend(branches)
        file.mktree("Runs", {"run": np.uint32}).extend({"run": np.array([1], np.uint32)})
        file["tag"] = "of somebody"
        file["pileup"] = np.histogram(random.random(100))
    found = apply(scale, tmp_path / "in.root", tmp_path / "out.root")
    assert found["left_out"] == [] and found["assumed"] == "simulation"
    with uproot.open(tmp_path / "in.root") as a, uproot.open(tmp_path / "out.root") as b:
        assert set(a.keys()) < set(b.keys()) and str(b["tag"]) == "of somebody"
        np.testing.assert_array_equal(a["pileup"].values(), b["pileup"].values())
        assert b["Runs"]["run"].array().tolist() == [1]
        before, after = a["Events"], b["Events"]
        assert set(before.keys()) < set(after.keys())
        for name in before.keys():
            kept = f"{name}_measured" if name in ("Muon_pt", "Muon_ptErr") else name
            same = ak.array_equal(before[name].array(), after[kept].array(), dtype_exact=False)
            assert same, name
        moved = ak.flatten(after["Muon_pt"].array() / before["Muon_pt"].array())
        assert 1e-3 < np.std(moved) < 0.1  # smeared as well
    # and such simulation can be read again, with a note
    config = configured("nanoaod", ["out.root"], simulation=True)
    again = collect(config, tmp_path)
    assert np.all(again.events["gen_mass"] > 0) and again.counts["selected"] > N / 2
    assert any("momentum_scale payload scale.json" in note for note in again.notes)


def test_what_cannot_be_written_is_named(scale: Path, tmp_path: Path) -> None:
    plain = events(tmp_path / "plain.root")
    with uproot.open(plain) as file:
        arrays = {n: file["Events"][n].array() for n in file["Events"].keys() if n[0] != "n"}
    words = ak.Array([["a", "b"]] * N)
    with uproot.recreate(tmp_path / "in.root") as file:
        file.mkrntuple("Events", {**arrays, "words": words})
    found = apply(scale, tmp_path / "in.root", tmp_path / "out.root")
    assert found["left_out"] == ["words"] and found["corrected"] > 0
    with uproot.open(tmp_path / "out.root") as file:
        made = file["Events"]
        np.testing.assert_array_equal(
            ak.flatten(made["Muon_pt_measured"].array()), ak.flatten(arrays["Muon_pt"])
        )
        assert set(made.keys()) == {*arrays, "Muon_pt_measured", "Muon_ptErr_measured"}


# marks -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".root", ".parquet"])
def test_a_second_time_is_refused(scale: Path, tmp_path: Path, suffix: str) -> None:
    source, once = events(tmp_path / f"in{suffix}"), tmp_path / f"once{suffix}"
    first = apply(scale, source, once)
    assert first["assumed"] == "data"
    said = refused(scale, once, tmp_path / f"twice{suffix}")
    assert "momentum_scale payload scale.json" in said and "--again" in said
    assert not (tmp_path / f"twice{suffix}").exists()
    apply(scale, once, tmp_path / f"twice{suffix}", "--again")
    format = {".root": "nanoaod", ".parquet": "stage1"}[suffix]
    (note,) = [
        n for n in inspected(configured(format, [once]), tmp_path) if "corrected already" in n
    ]
    assert "1 of its 1 files" in note and "as data" in note


def test_a_mark_that_was_lost_is_told_by_the_columns(scale: Path, tmp_path: Path) -> None:
    once = tmp_path / "once.parquet"
    apply(scale, events(tmp_path / "in.parquet"), once)
    table = pq.read_table(once)
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "bare.parquet")
    said = refused(scale, tmp_path / "bare.parquet", tmp_path / "twice.parquet")
    assert "a payload that the file no longer names" in said
    # the measured events are there
    before = pq.read_table(tmp_path / "in.parquet")
    for name in ("mu1_pt", "mu2_ptErr", "dimuon_mass"):
        assert table.column(f"{name}_measured").equals(before.column(name))


def test_a_run_does_not_apply_a_payload_again(scale: Path, tmp_path: Path) -> None:
    once = tmp_path / "once.parquet"
    apply(scale, events(tmp_path / "in.parquet"), once)
    values = configured("stage1", [once]).model_dump() | {"payloads": [str(scale)]}
    with pytest.raises(InputError, match="once.parquet: .* a second time: leave .*scale.json out"):
        inspected(Config.model_validate(values), tmp_path)
    two = configured("stage1", [once, events(tmp_path / "other.parquet", seed=4)])
    with pytest.raises(InputError, match="other.parquet: measured as it is, while other files"):
        inspected(two, tmp_path)
    copied = tmp_path / "copy.json"
    copied.write_bytes(scale.read_bytes())
    values["samples"][0]["files"] = [str(tmp_path / "in.parquet")]
    values["payloads"] = [str(scale), str(copied)]
    with pytest.raises(InputError, match="copy.json: the same payload as .*scale.json"):
        inspected(Config.model_validate(values), tmp_path)


# data or simulation ------------------------------------------------------------------------------
def test_unclear_events_are_refused_until_somebody_says_it(scale: Path, tmp_path: Path) -> None:
    full = events(tmp_path / "full.parquet", simulation=True)
    table = pq.read_table(full)
    bare = tmp_path / "bare.parquet"
    pq.write_table(table.drop_columns([c for c in table.column_names if "gen" in c]), bare)
    assert "run 1 in all rows" in refused(scale, bare, tmp_path / "out.parquet")
    assert apply(scale, full, tmp_path / "known.parquet")["assumed"] == "simulation"
    apply(scale, bare, tmp_path / "told.parquet", "--simulation")
    known, told = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("known", "told"))
    assert known.column("mu1_pt").equals(told.column("mu1_pt"))
    found = apply(scale, full, tmp_path / "data.parquet", "--data")
    assert found["assumed"] == "data" and "option" in found["assumed_because"]
    corrected = pq.read_table(tmp_path / "data.parquet").column("mu1_pt")
    assert not corrected.equals(known.column("mu1_pt"))


def test_a_payload_says_which_pt_it_is_for(scale: Path, tmp_path: Path) -> None:
    document = payload.document(synthetic.reduction())
    own = description.with_muon_pt(document, "bsConstrainedPt")
    payloads.write(tmp_path / "own.json", own)
    assert (
        description.muon_pt_of(own) == "bsConstrainedPt"
        and description.muon_pt_of(document) == "pt"
    )
    source = events(tmp_path / "in.parquet")
    assert "mu1_bsConstrainedPt" in refused(tmp_path / "own.json", source, tmp_path / "o.parquet")
    values = configured("stage1", [source]).model_dump()
    values["payloads"] = [str(tmp_path / "own.json")]
    with pytest.raises(InputError, match="'selection.muon_pt' is 'pt'"):
        inspected(Config.model_validate(values), tmp_path)


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_columns_of_the_payload_are_those_of_the_files(
    scale: Path, tmp_path: Path, format: str
) -> None:
    """The same events under the names and units of others get the same corrected muons."""
    pairs = generate("z", 300, seed=5).pairs
    suffix = "root" if format == "nanoaod" else "parquet"
    ours, theirs = (tmp_path / f"{name}.{suffix}" for name in ("ours", "theirs"))
    if format == "nanoaod":
        write_nanoaod(ours, pairs, simulation=False)
        with uproot.open(ours) as file:
            old = {n: file["Events"][n].array() for n in file["Events"].keys()}
        flat = {n: np.asarray(v) for n, v in old.items() if "Muon" not in n}
        muon = {n.removeprefix("Muon_"): v for n, v in old.items() if n.startswith("Muon_")}
        muon["mevPt"] = ak.values_astype(muon.pop("pt"), "f8") * 1000
        with uproot.recreate(theirs) as file:
            branches = {**flat, "Muon": ak.zip(muon)}
            kinds = {
                k: v.type.content if isinstance(v, ak.Array) else v.dtype
                for k, v in branches.items()
            }
            file.mktree("Events", kinds).extend(branches)
        columns: dict[str, Any] = {"pt": {"branch": "Muon_mevPt", "unit": "MeV"}}
    else:
        write_stage1(ours, pairs, simulation=False)
        table = pq.read_table(ours)
        for i in (1, 2):
            place = table.column_names.index(f"mu{i}_pt")
            values = table.column(place).to_numpy().astype(np.float64) * 1000
            table = table.set_column(place, f"mu{i}_mev", pa.array(values))
        pq.write_table(table, theirs)
        columns = {f"mu{i}_pt": {"branch": f"mu{i}_mev", "unit": "MeV"} for i in (1, 2)}
    values = configured(format, [theirs]).samples[0].model_dump() | {"columns": columns}
    sample = Sample.model_validate(values)
    document = description.with_columns(payload.document(synthetic.reduction()), (sample,))
    document = description.with_muon_pt(document, "mevPt")
    assert description.columns_of(document, format, False) == sample.columns
    assert description.muon_pt_of(document) == "mevPt"
    payloads.write(tmp_path / "mapped.json", document)
    apply(scale, ours, tmp_path / f"ours_out.{suffix}")
    found = apply(tmp_path / "mapped.json", theirs, tmp_path / f"theirs_out.{suffix}")
    name = "Muon_pt" if format == "nanoaod" else "mu1_pt"
    assert name in found["added"] and found["corrected"] == 300
    one, other = (read_column(tmp_path / f"{n}_out.{suffix}", name) for n in ("ours", "theirs"))
    np.testing.assert_allclose(other, one, rtol=1e-6)
    measured = read_column(theirs, "Muon_mevPt" if format == "nanoaod" else "mu1_mev")
    assert np.max(np.abs(one / (measured / 1000) - 1)) > 1e-4
    missing = "Muon_mevPt" if format == "nanoaod" else "mu1_mev"
    assert missing in refused(tmp_path / "mapped.json", ours, tmp_path / f"no.{suffix}")


def read_column(path: Path, name: str) -> Any:
    if path.suffix == ".parquet":
        return pq.read_table(path).column(name).to_numpy()
    with uproot.open(path) as file:
        return ak.to_numpy(ak.flatten(file["Events"][name].array()))
