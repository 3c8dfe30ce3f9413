"""Toys in files: what is read back is what was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from calib.errors import InputError
from calib.toys.generation import generate, momentum_truth
from jobs.cli import app
from jobs.events import toys
from jobs.events.toys import write_toys
from tests.processors.peak import Settings, collect, configured

SETTINGS = Settings(muon=("ptErr",))


@pytest.mark.parametrize("simulation", [False, True])
@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_what_is_read_is_what_was_made(tmp_path: Path, format: str, simulation: bool) -> None:
    made = generate("z", 5000, seed=2, simulation=simulation)
    files = write_toys(tmp_path / "toys", made, format, 3)
    assert [f.parent for f in files] == [tmp_path / "toys"] * 3
    config = configured(format, ["toys"], simulation=simulation)
    found = collect(config, tmp_path, settings=SETTINGS)
    assert found.counts == {"read": 5000, "selected": 5000, "rejected": {}}
    events, pairs = found.events, made.pairs
    a, b = pairs.leading, pairs.subleading
    assert a.pt_err is not None
    for key, column in (
        ("event", pairs.event),
        ("run", pairs.run),
        ("charge", a.charge),
        ("charge2", b.charge),
        ("lumi", pairs.luminosityBlock),
    ):
        assert np.array_equal(events[key], column), key
    for key, real in (
        ("pt", a.pt),
        ("pt2", b.pt),
        ("eta", a.eta),
        ("eta2", b.eta),
        ("pt_err", a.pt_err),
        ("mass", pairs.mass),
    ):
        assert np.allclose(events[key], real, rtol=3e-7, atol=3e-7), key
    if simulation:
        assert pairs.gen_mass is not None and a.gen_pt is not None
        assert np.allclose(events["gen_mass"], pairs.gen_mass, rtol=3e-7)
        assert np.allclose(events["gen_pt"], a.gen_pt, rtol=3e-7)
    else:
        assert "gen_mass" not in events
    truth = json.loads((tmp_path / "toys" / "truth.json").read_text())
    assert truth["events"] == 5000 and truth["simulation"] is simulation
    assert truth["pt_err_factor"] == list(made.truth["pt_err_factor"])


def test_parquet_as_the_reader_likes_it(tmp_path: Path) -> None:
    (file,) = write_toys(tmp_path / "toys", generate("z", 100), "stage1")
    with pq.ParquetFile(file) as parquet:
        column = parquet.metadata.row_group(0).column(0)
        assert column.compression == "LZ4" and not column.has_dictionary_page
        assert column.statistics.has_null_count


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(toys, "write_stage1", fails)
    with pytest.raises(OSError, match="full"):
        write_toys(tmp_path / "toys", generate("z", 100), "stage1", 2)
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path: Path) -> None:
    made = generate("z", 10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not empty"):
        write_toys(tmp_path / "full", made, "stage1")
    with pytest.raises(InputError, match="format 'csv'"):
        write_toys(tmp_path / "a", made, "csv")
    with pytest.raises(InputError, match="files 11"):
        write_toys(tmp_path / "a", made, "stage1", 11)
    assert len(write_toys(tmp_path / "empty", made, "stage1", 10)) == 10


def made(out: Path, *arguments: object) -> dict[str, Any]:
    words = ["toys", str(out), *map(str, arguments), "--format", "stage1"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    truth: dict[str, Any] = json.loads((out / "truth.json").read_text())
    return truth


@pytest.mark.parametrize("simulation", [False, True])
@pytest.mark.parametrize("resonance", ["jpsi", "upsilon"])
def test_a_momentum_scale_by_default(tmp_path: Path, resonance: str, simulation: bool) -> None:
    flags = ["--simulation"] if simulation else []
    truth = made(tmp_path / "t", "--resonance", resonance, "--events", 500, *flags)
    expected = momentum_truth(simulation=simulation)
    for name in ("eta_edges", "A", "e", "M", "a", "c", "pt_err_factor"):
        assert truth[name] == list(getattr(expected, name)), name
    assert truth["simulation"] is simulation and truth["events"] == 500
    assert truth["min_pt"] == [3.0, 3.0]
    columns = pq.read_schema(tmp_path / "t" / f"{resonance}_000.parquet").names
    assert ("mu2_gen_pt" in columns) is ("gen_dimuon_mass" in columns) is simulation


def test_the_z_has_one_only_where_it_is_asked_for(tmp_path: Path) -> None:
    plain = made(tmp_path / "a", "--resonance", "z", "--events", 500)
    assert plain["A"] == plain["eta_edges"] == [] and len(plain["a"]) == 3
    same = generate("z", 500).pairs.leading.pt.astype(np.float32)
    found = pq.read_table(tmp_path / "a" / "z_000.parquet")["mu1_pt"].to_numpy()
    assert np.array_equal(found, same)
    scaled = made(tmp_path / "b", "--resonance", "z", "--events", 500, "--truth", "momentum_scale")
    assert scaled["A"] == list(momentum_truth().A)


def test_a_truth_from_a_file(tmp_path: Path) -> None:
    """That of other toys, with a key changed by hand."""
    first = made(tmp_path / "a", "--resonance", "jpsi", "--events", 500)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({**first, "background": 0.0}))
    arguments = ("--resonance", "jpsi", "--events", 500, "--truth", file)
    second = made(tmp_path / "b", *arguments)
    assert second["background_events"] == 0 < first["background_events"]
    assert second["M"] == first["M"]
    file.write_text(json.dumps({"resolution_scale": 2.0}))
    third = made(tmp_path / "c", *arguments)
    assert third["resolution_scale"] == 2.0 and third["e"] == first["e"]


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"backgruond": 0.1}', ["unknown key 'backgruond'", "'background'"]),
        ('{"zzz": 1}', ["unknown key 'zzz'", "known keys", "eta_edges"]),
        ('{"a": 3}', ["key 'a'", "found 3"]),
        ('{"c": [0.1, "x", 0.1]}', ["key 'c.1'", "'x'"]),
        ('{"A": [0.001, 0.002]}', ["key 'A'", "found 2 numbers", "expected 48"]),
        ('{"pair_pt": NaN}', ["key 'pair_pt'", "nan"]),
        ('{"A_phi": [[0.1]]}', ["key 'A_phi'", "rows of [1]"]),
        ("[1, 2]", ["expected keys"]),
        ("{", ["expected a JSON file"]),
        (None, ["--truth", "mine.json"]),
    ],
)
def test_a_truth_that_cannot_be(tmp_path: Path, text: str | None, words: list[str]) -> None:
    file = tmp_path / "mine.json"
    if text is not None:
        file.write_text(text)
    arguments = ["toys", str(tmp_path / "t"), "--resonance", "jpsi", "--events", "9"]
    result = CliRunner().invoke(app, [*arguments, "--truth", str(file)])
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2 and "Traceback" not in said and not (tmp_path / "t").exists()
    assert said.count("calib: error:") == 1 and "mine.json" in said
    for word in words:
        assert word in said, said
