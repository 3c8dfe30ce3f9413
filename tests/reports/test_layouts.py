"""Files as people have them: records in an RNTuple, triggers by period, tables of analyses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from calib.errors import InputError
from calib.physics.kinematics import predicted_mass_resolution
from calib.toys.generation import generate
from jobs.config.schema import Config
from jobs.events.toys import write_nanoaod
from tests.processors import writing
from tests.processors.peak import Settings, collect, configured

N = 600


def columns_of(path: Path) -> dict[str, Any]:
    """Return the branches of a TTree as arrays."""
    with uproot.open(path) as file:
        return {name: file["Events"][name].array() for name in file["Events"].keys()}


@pytest.mark.parametrize("simulation", [False, True])
def test_collections_of_records_are_branches(tmp_path: Path, simulation: bool) -> None:
    made = generate("z", N, seed=4, simulation=simulation)
    write_nanoaod(tmp_path / "tree.root", made.pairs, simulation=simulation)
    branches = columns_of(tmp_path / "tree.root")
    groups: dict[str, dict[str, Any]] = {}
    flat = {}
    for name, values in branches.items():
        collection, _, field = name.partition("_")
        if collection in ("Muon", "GenPart"):
            groups.setdefault(collection, {})[field] = values
        elif not name.startswith("n"):
            flat[name] = values.to_numpy()
    fields = {**flat, **{name: ak.zip(group) for name, group in groups.items()}}
    with uproot.recreate(tmp_path / "records.root") as file:
        ntuple = file.mkrntuple("Events", {k: v[:250] for k, v in fields.items()})
        ntuple.extend({k: v[250:] for k, v in fields.items()})
    settings = Settings(muon=("ptErr",))
    found = {}
    for name in ("tree", "records"):
        config = configured(
            "nanoaod",
            [f"{name}.root"],
            simulation=simulation,
            triggers=["HLT_IsoMu24"],
            identification="medium",
        )
        found[name] = collect(config, tmp_path, chunk_size=200, settings=settings)
    tree, records = found["tree"], found["records"]
    assert tree.counts == records.counts and tree.counts["selected"] > N / 2
    for name, values in tree.events.items():
        np.testing.assert_array_equal(records.events[name], values, err_msg=name)


# triggers ----------------------------------------------------------------------------------------
def with_triggers(path: Path, seed: int, **fired: Any) -> Path:
    """Write a file whose trigger paths are these alone."""
    events = [writing.pair() for _ in range(100)]
    return writing.nanoaod(path, events, without=("HLT_IsoMu24",), **fired)


def test_any_of_the_triggers_that_a_file_has(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    old, new, newer = (random.random(100) < share for share in (0.5, 0.3, 0.4))
    with_triggers(tmp_path / "a.root", 1, HLT_Old=old)
    with_triggers(tmp_path / "b.root", 2, HLT_Old=new, HLT_New=newer)
    config = configured("nanoaod", ["a.root", "b.root"], triggers=["HLT_Old", "HLT_New"])
    found = collect(config, tmp_path, chunk_size=30)
    expected = old.sum() + (new | newer).sum()
    assert found.counts["selected"] == expected
    assert found.counts["rejected"] == {"trigger": 200 - expected}
    (note,) = [n for n in found.notes if "HLT_New" in n]
    assert "1 of its 2 files" in note and "a.root" in note


def test_a_file_without_any_of_the_triggers(tmp_path: Path) -> None:
    fired = np.ones(100, dtype=np.bool_)
    with_triggers(tmp_path / "a.root", 1, HLT_Old=fired)
    with_triggers(tmp_path / "b.root", 2, HLT_Newer=fired)
    config = configured("nanoaod", ["*.root"], triggers=["HLT_Old", "HLT_New"])
    with pytest.raises(InputError, match="b.root.*'HLT_Old', 'HLT_New'.*two samples.*fallback"):
        collect(config, tmp_path)
    given = configured(
        "nanoaod",
        ["*.root"],
        triggers=["HLT_Old", "HLT_New"],
        fallbacks=[{"name": "later", "triggers": ["HLT_Old", "HLT_Newer"]}],
    )
    assert collect(given, tmp_path).counts["selected"] == 200


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_a_veto_leaves_out_the_events_of_another_sample(tmp_path: Path, format: str) -> None:
    random = np.random.default_rng(3)
    one, other = random.random(100) < 0.6, random.random(100) < 0.5
    if format == "nanoaod":
        path = with_triggers(tmp_path / "a.root", 1, HLT_One=one, HLT_Other=other)
    else:
        columns = writing.stage1_columns([writing.pair() for _ in range(100)])
        path = writing.stage1(
            tmp_path / "a.parquet", {**columns, "HLT_One": one, "HLT_Other": other}
        )
    plain = configured(format, [path], triggers=["HLT_One"])
    sample = plain.samples[0].model_copy(update={"veto": ("HLT_Other",)})
    found = collect(plain.model_copy(update={"samples": (sample,)}), tmp_path, chunk_size=40)
    assert found.counts["selected"] == (one & ~other).sum()
    assert found.counts["rejected"] == {"trigger": (~one).sum(), "veto": (one & other).sum()}
    wrong = sample.model_copy(update={"veto": ("HLT_Oter",)})
    with pytest.raises(InputError, match="HLT_Oter.*'veto'.*did you mean HLT_Other"):
        collect(plain.model_copy(update={"samples": (wrong,)}), tmp_path)


# beam spot ---------------------------------------------------------------------------------------
def test_pt_with_the_beam_spot_falls_back_where_the_constraint_failed(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    events = []
    for failed in random.random((200, 2)) < 0.2:
        own = [
            {"bsConstrainedPt": -1.0 if f else p, "bsConstrainedPtErr": -1.0 if f else 0.3}
            for f, p in zip(failed, (41.0, 36.0), strict=True)
        ]
        events.append(writing.pair(*own))
    writing.nanoaod(tmp_path / "a.root", events)
    config = configured("nanoaod", ["a.root"], muon_pt="bsConstrainedPt")
    settings = Settings(muon=("ptErr",))
    found = collect(config, tmp_path, chunk_size=70, settings=settings)
    lead = np.array([e[0]["bsConstrainedPt"] for e in events])
    good = lead > 0
    assert found.counts["selected"] == 200 and 100 < good.sum() < 200
    np.testing.assert_array_equal(found.events["pt"], np.where(good, 41.0, 40.0))
    error = np.where(good, np.float32(0.3), 0.5)
    np.testing.assert_allclose(found.events["pt_err"], error, rtol=1e-7)
    writing.nanoaod(tmp_path / "b.root", [writing.pair()] * 5)
    with pytest.raises(InputError, match="Muon_bsConstrainedPt.*'selection.muon_pt'"):
        collect(configured("nanoaod", ["b.root"], muon_pt="bsConstrainedPt"), tmp_path)


# tables ------------------------------------------------------------------------------------------
def table(path: Path, seed: int, *, later: bool) -> dict[str, Any]:
    """Write a flat table of an analysis, without run and ptErr until there were some."""
    pairs = generate("z", N, seed=seed).pairs
    both = (pairs.leading, pairs.subleading)
    columns: dict[str, Any] = {"event": np.arange(N, dtype=np.int64)}
    for i, muons in enumerate(both, 1):
        for name in ("pt", "eta", "phi"):
            columns[f"mu{i}_{name}"] = getattr(muons, name).astype(np.float32)
        columns[f"mu{i}_charge"] = muons.charge.astype(np.int32)
        columns[f"mu{i}_iso"] = np.where(np.arange(N) < 10, 0.3, 0.1).astype(np.float32)
        if later:
            assert muons.pt_err is not None
            columns[f"mu{i}_ptErr"] = muons.pt_err.astype(np.float32)
            columns[f"mu{i}_pt_raw"] = (0.99 * muons.pt).astype(np.float32)
    first, second = (m.pt_err / m.pt for m in both)  # type: ignore[operator]
    columns |= {
        "dimuon_mass": pairs.mass.astype(np.float32),
        "dimuon_ebe_mass_res": predicted_mass_resolution(pairs.mass, first, second),
        "wgt_nominal": np.ones(N),
        "year": np.full(N, 2018, dtype=np.int32),
    }
    if later:
        columns["run"] = pairs.run.astype(np.int64)
    pq.write_table(pa.table(columns), path)
    return columns


def of_table(path: Path, **selection: Any) -> Config:
    return configured("stage1", [path], **selection)


def test_a_table_without_run_and_errors_is_taken(tmp_path: Path) -> None:
    for i in (1, 2):
        table(tmp_path / f"{i}.parquet", i, later=False)
    columns = table(tmp_path / "1.parquet", 1, later=False)
    settings = Settings(muon=("ptErr",))
    found = collect(of_table(Path("*.parquet")), tmp_path, settings=settings)
    assert found.counts["rejected"]["isolation"] == 20
    runs = found.events["run"]
    assert len(np.unique(runs)) == 2  # events of the same number in two files are two
    own = runs == runs[0]
    # both muons have the same share of the predicted resolution of their mass
    mass = found.events["mass"][own]
    relative = (found.events["pt_err"] / found.events["pt"])[own]
    at = found.events["event"][own].astype(int)
    expected = columns["dimuon_ebe_mass_res"][at]
    np.testing.assert_allclose(
        predicted_mass_resolution(mass, relative, relative), expected, rtol=1e-6
    )
    notes = " ".join(found.notes)
    assert "mu1_ptErr and mu2_ptErr, made from dimuon_ebe_mass_res, in equal shares" in notes
    assert "no run, a number made from the uuid" in notes and "mu1_iso" in notes
    again = collect(of_table(Path("*.parquet")), tmp_path, chunk_size=77, settings=settings)
    np.testing.assert_array_equal(again.sums["peak/counts"], found.sums["peak/counts"])


def test_a_later_table_has_errors_and_raw_pt(tmp_path: Path) -> None:
    columns = table(tmp_path / "a.parquet", 1, later=True)
    settings = Settings(muon=("ptErr",))
    found = collect(of_table(Path("a.parquet"), isolation="none"), tmp_path, settings=settings)
    at = found.events["event"].astype(int)
    leads = columns["mu1_pt"][at] >= columns["mu2_pt"][at]
    error = np.where(leads, columns["mu1_ptErr"][at], columns["mu2_ptErr"][at])
    np.testing.assert_array_equal(found.events["pt_err"], error)
    assert any("mu1_pt_raw is there beside mu1_pt" in note for note in found.notes)
    raw = collect(of_table(Path("a.parquet"), isolation="none", muon_pt="pt_raw"), tmp_path)
    at = raw.events["event"].astype(int)
    expected = np.maximum(columns["mu1_pt_raw"][at], columns["mu2_pt_raw"][at])
    np.testing.assert_array_equal(raw.events["pt"], expected)
    table(tmp_path / "b.parquet", 2, later=False)
    other = pq.read_table(tmp_path / "b.parquet").append_column("run", pa.array(columns["run"]))
    pq.write_table(other, tmp_path / "b.parquet")
    with pytest.raises(InputError, match="b.parquet: no column 'mu1_ptErr'.*two samples"):
        collect(of_table(Path("*.parquet")), tmp_path, settings=settings)
