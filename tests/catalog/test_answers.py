"""A query as the files of a configuration: exactly its runs, and what it gave is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from calib.errors import InputError
from calib.events import histograms
from calib.schema import Query
from jobs.config.complete import complete
from jobs.config.schema import configuration
from tests.catalog.conftest import Calib

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, files: Any, **changes: Any) -> Path:
        path = tmp_path / name
        sample = {"name": "data", "resonance": "z", "format": "stage1", "files": files}
        values = {
            "name": "test",
            "calibration": "tests.jobs.mean_mass:MeanMass",
            "chunk_size": 150,
            "samples": [{**sample, **changes}],
            "cluster": {"kind": "inline"},
        }
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return make


def sums_of(directory: Path) -> dict[str, Any]:
    return dict(histograms.read(directory / "histograms" / "main.data.npz"))


def note(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / ".calib" / "inputs.json").read_text()))


@pytest.mark.parametrize("format", ["stage1", "nanoaod"])
def test_exactly_the_runs_that_the_query_names(
    files: Path, tmp_path: Path, calib: Calib, write: Write, format: str
) -> None:
    place = tmp_path / "files.sqlite"
    calib(
        "catalog",
        "add",
        place,
        files / format,
        "--format",
        format,
        "--sample",
        "data",
        "--resonance",
        "z",
    )
    table = pq.read_table(sorted((files / "stage1").glob("*.parquet")))
    runs = sorted(set(table["run"].to_pylist()))
    assert len(runs) >= 4
    asked = {
        "catalog": "files.sqlite",
        "query": f"{runs[1]} <= run < {runs[-1]} and run != {runs[2]}",
    }
    calib("collect", write("query.yaml", asked, format=format), "--out", tmp_path / "query")

    # the same from a file with nothing but these runs
    kept = [run for run in runs[1:-1] if run != runs[2]]
    pq.write_table(
        table.filter(pc.is_in(table["run"], kept_array(kept))), tmp_path / "only.parquet"
    )
    calib("collect", write("only.yaml", ["only.parquet"]), "--out", tmp_path / "only")
    mine, other = sums_of(tmp_path / "query"), sums_of(tmp_path / "only")
    assert mine.keys() == other.keys()
    for name in mine:
        np.testing.assert_allclose(mine[name], other[name], rtol=1e-12, err_msg=name)

    totals = json.loads((tmp_path / "query" / "accounting.json").read_text())["samples"]["data"]
    rejected = totals["totals"]["rejected"]
    outside = sum(run not in kept for run in table["run"].to_pylist())
    in_files = {i["path"]: i for i in note(tmp_path / "query")["inputs"]}
    whole_files_without = table.num_rows - totals["totals"]["events"]
    assert rejected["other_run"] == outside - whole_files_without
    assert totals["totals"]["read"] == totals["totals"]["selected"] + sum(rejected.values())
    assert all(set(i["runs"]) <= set(kept) for i in in_files.values() if "runs" in i)
    assert all(len(i["sha256"]) == 64 for i in in_files.values())


def kept_array(values: list[int]) -> Any:
    import pyarrow as pa

    return pa.array(values, type=pa.uint32())


def test_the_query_and_what_it_gave_are_kept(
    files: Path, catalog: Path, tmp_path: Path, calib: Calib, write: Write
) -> None:
    config = write("query.yaml", {"catalog": str(catalog), "query": 'quality == "good"'})
    calib("run", config, "--out", tmp_path / "out", code=0)
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())
    (query,) = found["queries"]
    assert query["query"] == 'quality == "good"' and query["catalog"] == str(catalog)
    assert (query["files"], query["events"]) == (3, 1500)
    assert len(found["inputs"]) == 3 and not any("runs" in i for i in found["inputs"])
    kept = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert kept["samples"][0]["files"]["query"] == 'quality == "good"'


def test_a_query_that_gives_more_reads_only_what_is_new(
    files: Path,
    catalog: Path,
    tmp_path: Path,
    calib: Calib,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = sorted((files / "stage1").glob("*.parquet"))[0]
    calib("catalog", "mark", catalog, f'path != "{first}"', "--quality", "later")
    config = write("query.yaml", {"catalog": str(catalog), "query": 'quality == "good"'})
    out = tmp_path / "out"
    assert (
        calib("collect", config, "--out", out)["accounting"]["samples"]["data"]["totals"]["events"]
        == 500
    )
    before = {
        p.name: p.stat().st_mtime_ns for p in (out / "histograms" / "main" / "chunks").iterdir()
    }
    calib("catalog", "mark", catalog, "run > 0", "--quality", "good")
    caplog.clear()
    now = calib("collect", config, "--out", out)
    assert now["accounting"]["samples"]["data"]["totals"]["events"] == 1500
    after = {
        p.name: p.stat().st_mtime_ns for p in (out / "histograms" / "main" / "chunks").iterdir()
    }
    assert before.items() <= after.items() and len(after) > len(before)
    assert "its query gives other files than before: 2 new, 0 no longer" in caplog.text
    # and one that gives less leaves them out again
    calib("catalog", "mark", catalog, f'path == "{first}"', "--quality", "bad")
    now = calib("collect", config, "--out", out)
    assert now["accounting"]["samples"]["data"]["totals"]["events"] == 1000
    assert "0 new, 1 no longer" in caplog.text


def test_a_skim_of_a_query(
    files: Path, catalog: Path, tmp_path: Path, calib: Calib, write: Write
) -> None:
    runs = sorted(
        set(pq.read_table(sorted((files / "stage1").glob("*.parquet")))["run"].to_pylist())
    )
    config = write("query.yaml", {"catalog": str(catalog), "query": f"run == {runs[2]}"})
    calib("skim", config, "--out", tmp_path / "skim")
    written = pq.read_table(tmp_path / "skim" / "data")
    assert set(written["run"].to_pylist()) == {runs[2]}


@pytest.mark.parametrize(
    ("files_key", "changes", "words"),
    [
        ({"catalog": "{c}", "query": "run > 999999"}, {}, "matches nothing"),
        ({"catalog": "{c}", "query": "rum > 3"}, {}, "did you mean 'run'"),
        ({"catalog": "{c}", "query": "run > 3"}, {"format": "nanoaod"}, "files with format stage1"),
        ({"catalog": "{c}", "query": "run > 3"}, {"simulation": True}, "add `and simulation == T"),
        ({"catalog": "none.sqlite", "query": "run > 3"}, {}, "there is no such catalogue"),
        ({"catalog": "{c}"}, {}, "key 'samples.0.files.query' is missing"),
        ({"catalogue": "{c}", "query": "run > 3"}, {}, "did you mean 'catalog'"),
        ({"catalog": "postgresql://a:b@host/x", "query": "run > 3"}, {}, "password"),
        ([], {}, "samples.0.files"),
        ("a.parquet", {}, "samples.0.files"),
    ],
)
def test_what_is_refused(
    catalog: Path,
    tmp_path: Path,
    calib: Calib,
    write: Write,
    files_key: Any,
    changes: dict[str, Any],
    words: str,
) -> None:
    if isinstance(files_key, dict):
        files_key = {k: v.format(c=catalog) for k, v in files_key.items()}
    config = write("query.yaml", files_key, **changes)
    error = calib("collect", config, "--out", tmp_path / "out", code=2)["error"]
    assert words in error, error


def test_a_file_that_changed_since_it_was_added(
    files: Path, tmp_path: Path, calib: Calib, write: Write
) -> None:
    place, path = tmp_path / "c.sqlite", tmp_path / "a.parquet"
    table = pq.read_table(sorted((files / "stage1").glob("*.parquet")))
    pq.write_table(table.slice(0, 200), path)
    calib("catalog", "add", place, path, "--sample", "data", "--resonance", "z")
    pq.write_table(table.slice(0, 300), path)
    config = write("query.yaml", {"catalog": str(place), "query": "run > 0"})
    error = calib("collect", config, "--out", tmp_path / "out", code=2)["error"]
    assert "changed since it was added" in error and "--update" in error


def test_a_path_in_a_query_is_relative_to_the_configuration(tmp_path: Path, write: Write) -> None:
    config = write("query.yaml", {"catalog": "files.sqlite", "query": "run > 0"})
    found = complete(config)[0].samples[0].files
    assert isinstance(found, Query) and found.catalog == str(tmp_path / "files.sqlite")
    with pytest.raises(InputError, match=r"unknown key 'samples.0.files.cat'"):
        configuration(
            {
                "name": "x",
                "calibration": "y",
                "samples": [
                    {"name": "d", "resonance": "z", "format": "stage1", "files": {"cat": "x"}}
                ],
            },
            "here",
            tmp_path,
        )
