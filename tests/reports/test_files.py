"""Files that give nothing, files that cannot be opened, columns of other names."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from calib.toys.generation import generate
from jobs.cli import app
from jobs.events.facts import cannot_be_opened
from jobs.events.toys import write_toys
from jobs.run import accounting


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    (path,) = write_toys(
        tmp_path_factory.mktemp("toys") / "z", generate("z", 3000, seed=7), "stage1"
    )
    return pq.read_table(path)


def collected(folder: Path, files: str, format: str = "stage1", more: str = "") -> Any:
    (folder / "z.yaml").write_text(
        "name: z\ncalibration: mass_resolution\ncluster: {kind: inline}\nsamples:\n"
        f"  - {{name: data, resonance: z, format: {format}, files: ['{files}']}}\n{more}"
    )
    return CliRunner().invoke(
        app, ["collect", str(folder / "z.yaml"), "--out", str(folder / "run")]
    )


def accounts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "accounting.json").read_text())
    return found


# files without events -----------------------------------------------------------------------------
def test_part_files_without_rows(tmp_path: Path, table: pa.Table) -> None:
    parts = (table.slice(0, 1000), table.slice(0, 0), table.slice(0, 0), table.slice(1000))
    for i, part in enumerate(parts):  # two of them are the same to the byte
        pq.write_table(part, tmp_path / f"part{i}.parquet")
    assert collected(tmp_path, "*.parquet").exit_code == 0
    found = accounts(tmp_path)
    files = found["samples"]["data"]["files"]
    assert [f["events"] for f in files] == [1000, 0, 0, 2000]
    assert found["samples"]["data"]["totals"]["events"] == 3000
    assert any("2 of 4 files hold no events" in n and "part1" in n for n in found["notes"])


def test_nanoaod_without_events_or_branches(tmp_path: Path) -> None:
    write_toys(tmp_path / "data", generate("z", 1000, seed=3), "nanoaod")
    with uproot.recreate(tmp_path / "data" / "none.root") as made:
        made.mktree("Events", {"run": np.uint32})
    assert collected(tmp_path, "data/*.root", "nanoaod").exit_code == 0
    assert any("1 of 2 files hold no events" in n for n in accounts(tmp_path)["notes"])


def test_a_sample_without_any_event(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 0), tmp_path / "a.parquet")
    found = collected(tmp_path, "*.parquet")
    assert found.exit_code == 2 and "0 events in its 1 files" in found.stderr
    assert "a.parquet" in found.stderr


# files that give far less ------------------------------------------------------------------------
def test_a_merge_that_filled_a_trigger_with_zeros(tmp_path: Path) -> None:
    write_toys(tmp_path / "data", generate("z", 3000, seed=4), "nanoaod", 3)
    path = sorted((tmp_path / "data").glob("*.root"))[1]
    with uproot.open(path) as source:
        events = source["Events"]
        muon = ak.zip({k[5:]: events[k].array() for k in events.keys() if k.startswith("Muon_")})
        flat = {
            k: events[k].array(library="np")
            for k in events.keys()
            if not k.startswith(("Muon_", "nMuon"))
        }
    flat["HLT_IsoMu24"] = np.zeros(len(muon), np.bool_)
    kinds = {**{k: v.dtype for k, v in flat.items()}, "Muon": muon.type.content}
    with uproot.recreate(path) as made:
        made.mktree("Events", kinds).extend({**flat, "Muon": muon})
    found = collected(tmp_path, "data/*.root", "nanoaod", "selection: {triggers: [HLT_IsoMu24]}\n")
    assert found.exit_code == 0
    found = accounts(tmp_path)
    (note,) = [n for n in found["notes"] if "gave 0 pairs" in n]
    assert path.name in note and "'trigger'" in note
    (check,) = accounting.yield_checks(found)
    assert not check.passed and path.name in check.text and 0.3 < check.value < 0.37
    assert accounting.yield_checks(found, allowed=0.5)[0].passed


def file(name: str, read: int, selected: int, **rejected: int) -> dict[str, Any]:
    rest = read - selected - sum(rejected.values())
    return {
        "path": name,
        "events": read,
        "read": read,
        "selected": selected,
        "rejected": {"pt": rest, **rejected},
    }


def account(*files: dict[str, Any]) -> dict[str, Any]:
    totals = {"selected": sum(f["selected"] for f in files)}
    return {"samples": {"data": {"files": list(files), "totals": totals}}}


def test_which_files_are_poor() -> None:
    good = [file(f"g{i}", 1000, 500) for i in range(4)]
    names = lambda *more: [p.path for p in accounting.poor_files(account(*good, *more))]  # noqa: E731
    assert names(file("a", 1000, 0), file("b", 1000, 60), file("c", 1000, 300)) == ["a", "b"]
    # too few to say, none at all, or left out because that was asked for
    assert names(file("a", 40, 0), file("b", 0, 0)) == []
    assert names(file("a", 1000, 0, not_certified=1000)) == []
    assert names(file("a", 1000, 5, not_certified=990)) == []


# shares of bad files ------------------------------------------------------------------------------
def test_shares_are_of_events_and_not_of_files(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 2000), tmp_path / "big.parquet")
    whole = (tmp_path / "big.parquet").read_bytes()
    (tmp_path / "big.parquet").write_bytes(whole[:-500])
    for i in range(10):
        pq.write_table(table.slice(2000 + 100 * i, 100), tmp_path / f"small{i}.parquet")
    found = collected(tmp_path, "*.parquet", more="bad_files: {skip_up_to: 0.1}\n")
    assert found.exit_code == 2 and "big.parquet" in found.stderr
    share = float(found.stderr.split("about ")[1].split("%")[0])
    assert 40 < share < 80
    found = collected(tmp_path, "*.parquet", more="bad_files: {skip_up_to: 0.9}\n")
    assert found.exit_code == 0
    assert accounting.bad_share(accounts(tmp_path)) == pytest.approx(share / 100, abs=1e-3)


@given(
    about=st.lists(st.integers(1, 10**6), max_size=4),
    files=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), max_size=5),
)
@settings(max_examples=60, derandomize=True)
def test_shares_add_up(about: list[int], files: list[tuple[int, float]]) -> None:
    own = [{"events": n, "bad": int(n * part)} for n, part in files]
    bad = [{"events": None, "about": n} for n in about]
    found = accounting.bad_share({"samples": {"a": {"files": own}}, "bad_files": bad})
    lost = sum(about) + sum(f["bad"] for f in own)
    total = sum(about) + sum(f["events"] for f in own)
    assert 0 <= found <= 1
    assert found == pytest.approx(lost / total if total else 0.0)


# advice -------------------------------------------------------------------------------------------
def test_columns_of_other_names(tmp_path: Path, table: pa.Table) -> None:
    names = [c.replace("mu1_", "muon1_").replace("mu2_", "muon2_") for c in table.column_names]
    pq.write_table(table.rename_columns(names), tmp_path / "a.parquet")
    found = collected(tmp_path, "*.parquet")
    assert found.exit_code == 2 and "did you mean muon1_pt" in found.stderr
    assert "predicted_resolution" not in found.stderr
    kept = [c for c in table.column_names if not c.endswith("ptErr")]
    pq.write_table(table.select(kept), tmp_path / "a.parquet")
    found = collected(tmp_path, "*.parquet")
    assert found.exit_code == 2 and "set settings.predicted_resolution" in found.stderr


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_a_server_that_does_not_answer(tmp_path: Path, format: str) -> None:
    found = collected(tmp_path, "http://127.0.0.1:9/none", format)
    assert found.exit_code == 2 and "127.0.0.1:9" in found.stderr
    assert "the server does not answer" in found.stderr and "copy it again" not in found.stderr


def test_advice_by_cause() -> None:
    address = "root://host//a.root"
    for error, said in (
        (ImportError("install the 'fsspec-xrootd' package"), "install what it asks for"),
        (FileNotFoundError(address), "no such file at the server"),
        (PermissionError("[ERROR] permission denied"), "proxy, token"),
        (TimeoutError("after 30 s"), "does not answer"),
        (OSError("Connect call failed"), "does not answer"),
        (ValueError("Protocol not known: foo"), "correct the address"),
        (RuntimeError("bad basket"), "copy it again"),
    ):
        assert said in str(cannot_be_opened(address, "a ROOT file", error))
    assert "copy it again" in str(cannot_be_opened("/a.root", "a ROOT file", OSError("x")))
