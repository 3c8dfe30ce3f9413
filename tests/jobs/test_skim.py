"""`calib skim`: what is read from the skim is what would have been read from the input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot
import yaml
from typer.testing import CliRunner

import jobs.events.skim
from calib.toys.generation import generate
from jobs.cli import app
from jobs.config.schema import load
from jobs.events.toys import write_nanoaod, write_toys
from processors.readers.mapping import pt_of
from processors.skim import SkimProcessor
from tests.processors import test_levels as levels
from tests.processors.peak import Settings, collect

CUTS: dict[str, Any] = {
    "leading_pt": 26.0,
    "subleading_pt": 20.0,
    "abs_eta": 2.4,
    "mass_window": [60.0, 120.0],
}


def write(folder: Path, samples: list[dict[str, Any]], **changes: Any) -> Path:
    values: dict[str, Any] = {
        "name": "test",
        "calibration": "tests.processors.peak:Peak",
        "samples": [{"resonance": "z", **s} for s in samples],
        "selection": CUTS,
        "cluster": {"kind": "inline"},
        "chunk_size": 900,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path


def skim(config: Path, out: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["skim", str(config), "--out", str(out), *options])


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two NanoAOD files with all that real events have: bad values, few muons, other charges."""
    folder = tmp_path_factory.mktemp("dirty")
    for i in range(2):
        rng = np.random.default_rng(i)
        parts = [levels.branches(1200, rng, rng.random(1200) < 0.7) for _ in range(4)]
        levels.write(folder / f"{i}.root", parts)
    (folder / "good.json").write_text('{"1": [[2, 7]], "2": [[1, 9]], "3": [[4, 4]]}')
    return folder


def both(config: Path, out: Path, settings: Settings) -> tuple[Any, Any]:
    """Return what is read from the input, and from its skim."""
    found = skim(config, out, "-q")
    assert found.exit_code == 0, found.output
    before = collect(load(config), config.parent, settings=settings)
    after = collect(load(out / "skimmed.yaml"), out, settings=settings)
    return before, after


@pytest.mark.parametrize("simulation", [False, True])
@pytest.mark.parametrize("needs", [{}, {"muon": ("ptErr", "dxy"), "optional": ("absent",)}])
def test_reads_the_same_from_nanoaod(
    tmp_path: Path, dirty: Path, simulation: bool, needs: dict[str, Any]
) -> None:
    config = write(
        tmp_path,
        [
            {
                "name": "s",
                "format": "nanoaod",
                "files": [str(dirty / "*.root")],
                "simulation": simulation,
            }
        ],
        settings={**needs, "beyond": 110.0},
        selection={
            **CUTS,
            "triggers": ["HLT_IsoMu24"],
            "certified": str(dirty / "good.json"),
            "cuts": ["abs(Muon_dxy) < 1.5"],
            "filters": ["HLT_IsoMu24"],
        },
    )
    settings = Settings(**needs, beyond=110.0)
    before, after = both(config, tmp_path / "out", settings)
    assert (
        len(before.events["event"]) >= 30
        and {"too_heavy", "cut abs(Muon_dxy) < 1.5"} <= before.counts["rejected"].keys()
    )
    assert set(after.events) == set(before.events)
    for name, values in before.events.items():
        assert np.array_equal(after.events[name], values, equal_nan=values.dtype.kind == "f"), name
    assert np.array_equal(after.sums["peak/counts"], before.sums["peak/counts"])
    for name, values in before.sums.items():
        assert np.allclose(after.sums[name], values, rtol=1e-12, atol=0)
    # ptErr is kept for other calibrations, and rejects no event of one that does without
    columns = set(pq.read_schema(tmp_path / "out" / "s" / "s_0000.parquet").names)
    assert {"run", "luminosityBlock", "event", "mu1_ptErr", "mu2_ptErr"} <= columns
    assert ({"wgt_nominal", "gen_dimuon_mass", "mu2_gen_phi"} <= columns) == simulation
    assert after.counts["rejected"] == {"too_heavy": before.counts["rejected"]["too_heavy"]}


@pytest.mark.parametrize("simulation", [False, True])
def test_reads_the_same_from_stage1(tmp_path: Path, simulation: bool) -> None:
    made = generate("z", 3000, seed=5, simulation=simulation)
    write_toys(tmp_path / "toys", made, "stage1", 2)
    path = tmp_path / "toys" / "z_001.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("mu2_ptErr")
    bad = np.where(np.arange(len(table)) % 50 == 0, 0, table.column(at)).astype(np.float32)
    first = table.set_column(at, "mu2_ptErr", [bad])
    # a leading muon in the second place
    swapped = [
        n.replace("mu1", "x").replace("mu2", "mu1").replace("x", "mu2") for n in first.column_names
    ]
    pq.write_table(first.rename_columns(swapped), path)
    config = write(
        tmp_path,
        [
            {
                "name": "s",
                "format": "stage1",
                "simulation": simulation,
                "files": [str(tmp_path / "toys" / "*.parquet")],
            }
        ],
    )
    before, after = both(config, tmp_path / "out", Settings())
    for name, values in before.events.items():
        assert np.array_equal(after.events[name], values, equal_nan=values.dtype.kind == "f"), name
    # what goes along stays with its muon
    skimmed = pq.read_table(tmp_path / "out" / "s" / "s_0000.parquet")
    n_bad = np.count_nonzero(skimmed.column("mu1_ptErr").to_numpy() == 0)
    n_bad += np.count_nonzero(skimmed.column("mu2_ptErr").to_numpy() == 0)
    events = set(pq.read_table(path).filter(bad == 0).column("event").to_pylist())
    assert n_bad == len(events & set(before.events["event"].tolist())) > 10


def test_reads_the_same_under_the_names_of_others(tmp_path: Path) -> None:
    made = generate("z", 900, seed=7)
    write_nanoaod(tmp_path / "ours.root", made.pairs, simulation=False)
    with uproot.open(tmp_path / "ours.root") as file:
        old = {n: file["Events"][n].array() for n in file["Events"].keys()}
    theirs = {n.replace("Muon_pt", "mu_p"): v for n, v in old.items() if n[0] != "n"}
    theirs["mu_pErr"] = theirs["mu_pErr"] * 1.25
    kinds = {n: v.type.content for n, v in theirs.items()}
    with uproot.recreate(tmp_path / "theirs.root") as file:
        file.mktree("Events", kinds).extend(theirs)
    sample = {
        "name": "s",
        "format": "nanoaod",
        "files": [str(tmp_path / "theirs.root")],
        "columns": {"pt": "mu_p", "ptErr": "mu_pErr"},
    }
    config = write(tmp_path, [sample])
    before, after = both(config, tmp_path / "out", Settings(muon=("ptErr",)))
    assert 400 < before.counts["selected"] == after.counts["selected"]
    for name, values in before.events.items():
        np.testing.assert_array_equal(after.events[name], values, err_msg=name)
    # what pt it is goes on to whatever is made of the skim
    (used,) = load(tmp_path / "out" / "skimmed.yaml").samples
    assert pt_of(used) == pt_of(load(config).samples[0]) == "mu_p"


def test_accounting_provenance_and_layout(tmp_path: Path, dirty: Path) -> None:
    config = write(
        tmp_path,
        [{"name": "s", "format": "nanoaod", "files": [str(dirty)]}],
        settings={"beyond": 110.0},
    )
    out = tmp_path / "out"
    found = skim(config, out, "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    accounting = json.loads((out / "accounting.json").read_text())
    totals = accounting["samples"]["s"]["totals"]
    assert totals["events"] == totals["read"] == 9600
    assert totals["read"] == totals["selected"] + sum(totals["rejected"].values())
    assert "too_heavy" not in totals["rejected"]  # for the calibration to say
    assert said["samples"]["s"]["selected"] == totals["selected"]
    file = pq.ParquetFile(out / said["samples"]["s"]["files"][0]["path"])
    assert file.metadata.num_rows == totals["selected"]
    types = {f.name: str(f.type) for f in file.schema_arrow}
    assert (types["run"], types["event"], types["mu1_pt"]) == ("uint32", "uint64", "float")
    column = file.metadata.row_group(0).column(4)
    assert column.compression == "LZ4" and "RLE_DICTIONARY" not in column.encodings
    made = json.loads((out / "provenance.json").read_text())
    assert len(made["inputs"]) == 2 and made["levels"]["s"]["kinematics"]["bytes"] > 0
    use = yaml.safe_load(said["configuration"])
    assert (
        use["samples"][0]["format"] == "stage1"
        and Path(use["samples"][0]["files"][0]).is_absolute()
    )
    assert not list(out.rglob("*.part")) and not list((out / ".calib" / "parts").glob("*.parquet"))


def test_goes_on_where_it_stopped(
    tmp_path: Path, dirty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, [{"name": "s", "format": "nanoaod", "files": [str(dirty)]}])
    whole = SkimProcessor.process
    done: list[tuple[str, int]] = []
    broken = True

    def process(self: SkimProcessor, events: Any) -> Any:
        where = (Path(events.metadata["filename"]).name, events.metadata["entrystart"])
        if broken and where == ("1.root", 1200):
            raise OSError("no answer")
        done.append(where)
        return whole(self, events)

    monkeypatch.setattr(SkimProcessor, "process", process)
    first = skim(config, tmp_path / "out")
    assert first.exit_code == 1 and "1.root" in first.stderr and "no answer" in first.stderr
    assert not (tmp_path / "out" / "s").exists() and not (tmp_path / "out" / "skim.json").exists()
    n, broken = len(done), False
    assert n >= 4
    assert skim(config, tmp_path / "out").exit_code == 0
    assert len(done) == len(set(done)) == 8  # no chunk twice
    assert skim(config, tmp_path / "out").exit_code == 0 and len(done) == 8
    assert skim(config, tmp_path / "other").exit_code == 0
    a, b = (tmp_path / d / "s" / "s_0000.parquet" for d in ("out", "other"))
    assert a.read_bytes() == b.read_bytes()
    a.unlink()
    assert skim(config, tmp_path / "out").exit_code == 0
    assert a.read_bytes() == b.read_bytes()


def test_only_what_was_added_is_made_of_events(
    tmp_path: Path, dirty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.events.skim, "ROW_GROUP", 30)
    monkeypatch.setattr(jobs.events.skim, "GROUPS_PER_FILE", 2)
    process, done = SkimProcessor.process, []

    def counting(self: SkimProcessor, events: Any) -> Any:
        done.append(Path(events.metadata["filename"]).name)
        return process(self, events)

    monkeypatch.setattr(SkimProcessor, "process", counting)
    growing, out = tmp_path / "growing", tmp_path / "out"
    growing.mkdir()
    files = sorted(dirty.glob("*.root"))
    config = write(tmp_path, [{"name": "s", "format": "nanoaod", "files": [str(growing)]}])
    # the new file comes before the old one: its rows move
    (growing / "b.root").write_bytes(files[0].read_bytes())
    assert skim(config, out).exit_code == 0 and set(done) == {"b.root"}
    done.clear()
    (growing / "a.root").write_bytes(files[1].read_bytes())
    assert skim(config, out).exit_code == 0 and set(done) == {"a.root"}
    assert skim(config, tmp_path / "fresh").exit_code == 0
    names = sorted(p.name for p in (out / "s").iterdir())
    assert len(names) > 2 and names == sorted(p.name for p in (tmp_path / "fresh/s").iterdir())
    for name in names:
        assert (out / "s" / name).read_bytes() == (tmp_path / "fresh/s" / name).read_bytes()
    fresh = json.loads((tmp_path / "fresh/accounting.json").read_text())
    assert json.loads((out / "accounting.json").read_text()) == fresh
    # a file of the skim that is damaged is made of events again, not taken for what it was
    raw = bytearray((out / "s" / names[0]).read_bytes())
    raw[1000] ^= 1
    (out / "s" / names[0]).write_bytes(raw)
    (growing / "a.root").unlink()
    done.clear()
    assert skim(config, out).exit_code == 0 and set(done) == {"b.root"}


def test_workers_and_chunks_do_not_matter(
    tmp_path: Path, dirty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.events.skim, "ROW_GROUP", 60)
    monkeypatch.setattr(jobs.events.skim, "GROUPS_PER_FILE", 2)
    samples = [{"name": "s", "format": "nanoaod", "files": [str(dirty)]}]
    calibration = {"calibration": "mass_resolution", "settings": {"compare": []}}
    for name, changes in (
        ("a", {}),
        ("b", {"cluster": {"kind": "local", "workers": 2}, "chunk_size": 3000}),
    ):
        config = write(tmp_path, samples, **calibration, **changes)
        assert skim(config, tmp_path / name).exit_code == 0
    files = sorted(p.name for p in (tmp_path / "a" / "s").iterdir())
    assert len(files) >= 2
    for name in files:
        parts = [tmp_path / d / "s" / name for d in ("a", "b")]
        assert parts[0].read_bytes() == parts[1].read_bytes()
        groups = pq.ParquetFile(parts[0]).metadata
        rows = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        assert rows == [60, 60] or name == files[-1]


def test_refuses_another_directory(tmp_path: Path, dirty: Path) -> None:
    samples = [{"name": "s", "format": "nanoaod", "files": [str(dirty)]}]
    config = write(tmp_path, samples)
    assert skim(config, tmp_path / "out", "-q").exit_code == 0
    other = skim(write(tmp_path, samples, selection={**CUTS, "abs_eta": 2.0}), tmp_path / "out")
    assert other.exit_code == 2 and "key 'selection'" in other.stderr
    for name, file in (("run", "config.yaml"), ("strange", "notes.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("x")
        found = skim(config, tmp_path / name)
        assert found.exit_code == 2 and found.stderr.count("\n") == 1
    nothing = skim(write(tmp_path, samples, selection={"leading_pt": 9999}), tmp_path / "none")
    assert nothing.exit_code == 2 and "none of its 9600 events" in nothing.stderr
