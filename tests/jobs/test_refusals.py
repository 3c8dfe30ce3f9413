"""Bad configuration, input and usage: one sentence and exit code 2; failures: exit code 1."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.storage.files import RunDirectory


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(found: Any, *said: str) -> None:
    """Check exit code 2, one line on stderr that says all this, nothing else."""
    assert found.exit_code == 2, found.output
    lines = found.stderr.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in found.stderr, found.stderr
    for words in said:
        assert words in lines[0]


def test_misspelt_key(write: Any, tmp_path: Path) -> None:
    found = run("run", write(chunk_sise=3), "--out", tmp_path / "out")
    refused(found, "config.yaml", "chunk_sise", "chunk_size")
    assert not (tmp_path / "out").exists()


def test_misspelt_setting(write: Any, tmp_path: Path) -> None:
    refused(run("run", write(settings={"limt": 3}), "--out", tmp_path / "o"), "limt", "limit")


def test_calibration_that_is_not_there(write: Any, tmp_path: Path) -> None:
    for name in ("mean_mas", "mean_mass:Nothing", "no_such_module:X", "json:JSONDecoder"):
        refused(run("run", write(calibration=name), "--out", tmp_path / "o"), "'calibration'", name)


def test_no_configuration(tmp_path: Path) -> None:
    refused(run("run", tmp_path / "no.yaml", "--out", tmp_path / "o"), "no.yaml", "calib init")


def test_no_out(write: Any) -> None:
    refused(run("run", write()), "--out")


def test_glob_that_matches_nothing(write: Any, tmp_path: Path) -> None:
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["none/*.parquet"]}
    refused(run("run", write(samples=[sample]), "--out", tmp_path / "o"), "none/*.parquet")


def test_directory_of_another_configuration(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("collect", write(), "--out", out)
    before = (out / "config.yaml").read_bytes()
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["events"]}
    for changes, key in (
        ({"seed": 2}, "'seed'"),
        ({"samples": [sample | {"name": "more"}]}, "'samples.0.name'"),
        ({"samples": [sample | {"files": ["others"]}]}, "'samples.0.files'"),
    ):
        refused(run("run", write("other.yaml", **changes), "--out", out), key, "other.yaml")
    renamed = tmp_path / "renamed.yaml"
    renamed.write_text(write().read_text().replace("name: test", "name: other"))
    refused(run("run", renamed, "--out", out), "'name' is 'test' there", "renamed.yaml")
    assert (out / "config.yaml").read_bytes() == before
    # where the work is done may differ, and a default may be written out
    same = write("same.yaml", cluster={"kind": "inline", "workers": 7}, settings={"limit": 2.0})
    assert run("run", same, "--out", out).exit_code == 0


def test_another_selection_collects_again_and_says_why(write: Any, tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert run("run", write(settings={"passes": 3}), "--out", out).exit_code == 0
    chunks = {p.name for p in out.glob("histograms/main/chunks/*.npz")}
    assert yaml.safe_load((out / "config.yaml").read_text())["selection"]["leading_pt"] == 26.0
    other = write("other.yaml", selection={"leading_pt": 35.0}, settings={"passes": 3})
    found = run("collect", other, "--out", out)
    why = "key 'selection.leading_pt' was 26.0 and is 35.0 now: all events are collected again"
    assert found.exit_code == 0 and why in found.stderr
    assert not chunks & {p.name for p in out.glob("histograms/main/chunks/*.npz")}
    # nothing is made of the sums of the passes that came after the old ones
    assert run("status", out).exit_code == 1
    assert run("run", other, "--out", out).exit_code == 0
    assert run("run", other, "--out", fresh).exit_code == 0
    for name in ("fits.csv", "payload.json", "closure.csv", "verdict.json", "config.yaml"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes()
    accounting = [json.loads((d / "accounting.json").read_text()) for d in (out, fresh)]
    assert accounting[0].pop("notes") == [*accounting[1].pop("notes"), why]
    assert accounting[0] == accounting[1]
    assert "again" not in run("run", other, "--out", out).stderr


def test_killed_between_the_new_selection_and_its_sums(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("run", write(), "--out", out).exit_code == 0
    breaks = {"leading_pt": 35.0}
    broken = write("broken.yaml", selection=breaks, settings={"break_event": 7000})
    assert run("run", broken, "--out", out).exit_code == 1
    assert run("status", out).exit_code == 1
    refused(run("reduce", out), "not been collected")
    assert run("run", write("good.yaml", selection=breaks), "--out", out).exit_code == 0


def test_a_setting_of_the_reduction_alone_touches_no_events(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("run", write(), "--out", out).exit_code == 0
    before = {p: p.stat().st_mtime_ns for p in out.glob("histograms/**/*.np[yz]")}
    fits = (out / "fits.csv").read_bytes()
    other = write("other.yaml", settings={"low": 85.0, "high": 97.0})
    found = run("run", other, "--out", out)
    assert found.exit_code == 0 and "'settings.low' is another now" in found.stderr
    assert {p: p.stat().st_mtime_ns for p in out.glob("histograms/**/*.np[yz]")} == before
    assert (out / "fits.csv").read_bytes() != fits
    assert yaml.safe_load((out / "config.yaml").read_text())["settings"]["low"] == 85.0
    fresh = tmp_path / "fresh"
    assert run("run", other, "--out", fresh).exit_code == 0
    for name in ("fits.csv", "payload.json", "closure.csv", "verdict.json"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes()
    assert "another now" not in run("run", other, "--out", out).stderr


def test_directory_of_an_earlier_version_gets_new_defaults(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("collect", write(), "--out", out)
    stored = yaml.safe_load((out / "config.yaml").read_text())
    del stored["settings"]["passes"]
    (out / "config.yaml").write_text(yaml.safe_dump(stored))
    assert run("run", write(), "--out", out).exit_code == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["settings"]["passes"] == 1


def test_directory_that_is_none(write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "thesis.tex").write_text("")
    refused(run("run", write(), "--out", folder), "full", "config.yaml")
    refused(run("status", folder), "config.yaml")
    refused(run("reduce", tmp_path / "nothing"), "nothing")
    refused(run("run", write(), "--out", folder / "thesis.tex"), "a file")


def test_directory_in_use(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("collect", write(), "--out", out)
    with RunDirectory(out).lock("calib other"):
        refused(run("run", write(), "--out", out), "in use by `calib other`, process")
        assert "in use" in run("status", out).stdout
    assert run("run", write(), "--out", out).exit_code == 0
    assert "in use" not in run("status", out).stdout


def test_reduce_before_collect(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("run", write(settings={"break_event": 7000}), "--out", out)
    refused(run("reduce", out), "not been collected")


def test_sample_without_a_selected_pair(write: Any, tmp_path: Path) -> None:
    config = write(selection={"leading_pt": 5000.0})
    refused(run("run", config, "--out", tmp_path / "o"), "sample data", "12000", "leading_pt 12000")


def test_cluster_that_is_not_there(write: Any, tmp_path: Path) -> None:
    for kind in ("address", "gateway"):
        config = write(cluster={"kind": kind})
        refused(run("run", config, "--out", tmp_path / kind), "cluster.address", "is missing")
    config = write(cluster={"kind": "slrum"})
    refused(run("run", config, "--out", tmp_path / "s"), "cluster.kind", "slrum", "slurm")


def test_payload_that_is_none(tmp_path: Path, events: Path) -> None:
    (tmp_path / "p.json").write_text('{"schema_version": 2, "corrections": []}')
    source = events / "z_0.parquet"
    refused(run("apply", tmp_path / "p.json", source, tmp_path / "o.parquet"), "payload")
    refused(run("apply", tmp_path / "no.json", source, tmp_path / "o.parquet"), "no.json")
    (tmp_path / "t.json").write_text("{")
    refused(run("apply", tmp_path / "t.json", source, tmp_path / "o.parquet"), "t.json", "JSON")


def test_usage(tmp_path: Path) -> None:
    assert run("run").exit_code == 2
    assert run("no-such-command").exit_code == 2
    assert run("toys", tmp_path / "t", "--resonance", "z").exit_code == 2
    refused(run("toys", tmp_path / "t", "--resonance", "q", "--events", "9"), "'q'")


# failures ----------------------------------------------------------------------------------------
def test_chunk_that_fails_twice(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = run("run", write(settings={"break_event": 7000}), "--out", out)
    assert found.exit_code == 1
    sentence = found.stderr.strip().splitlines()[-1]
    assert re.search(r"z_1\.parquet: entries 0 to \d+ of sample data failed twice", sentence)
    assert "this event breaks it" in sentence and "Traceback" not in found.stderr
    accounting = json.loads((out / "accounting.json").read_text())
    assert accounting["bad_files"][0]["path"].endswith("z_1.parquet")
    # what was done is kept
    assert list((out / "histograms" / "main" / "chunks").glob("*.npz"))
    assert run("status", out).exit_code == 1


def test_traceback_only_if_asked_for(write: Any, tmp_path: Path) -> None:
    config = write(settings={"break_event": 7000})
    assert "Traceback" in run("run", config, "--out", tmp_path / "o", "-v").stderr


def test_file_that_changed_is_read_again(tmp_path: Path, events: Path) -> None:
    mine = tmp_path / "mine.parquet"
    table = pq.read_table(events / "z_0.parquet")
    pq.write_table(table, mine)
    config = tmp_path / "c.yaml"
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["mine.parquet"]}
    config.write_text(
        yaml.safe_dump(
            {
                "name": "t",
                "calibration": "mean_mass:MeanMass",
                "samples": [sample],
                "cluster": {"kind": "inline"},
            }
        )
    )
    out = tmp_path / "out"
    assert run("run", config, "--out", out).exit_code == 0
    pq.write_table(table.slice(0, 4000), mine)
    assert run("run", config, "--out", out).exit_code == 0
    accounting = json.loads((out / "accounting.json").read_text())
    assert accounting["samples"]["data"]["totals"]["read"] == 4000
    assert isinstance(table, pa.Table)


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("x"), OSError(28, "No space left")])
def test_unexpected_errors_are_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("jobs.config.template.commented", fail)
    found = run("init", tmp_path / "c.yaml")
    assert found.exit_code == 1 and len(found.stderr.strip().splitlines()) == 1
    assert type(error).__name__ in found.stderr and not (tmp_path / "c.yaml").exists()


def test_a_typo_costs_nothing(write: Any, tmp_path: Path) -> None:
    """A first run that was refused before anything was collected binds its directory to nothing."""
    out = tmp_path / "out"
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["none/*.parquet"]}
    refused(run("run", write(samples=[sample]), "--out", out), "none/*.parquet")
    assert not (out / "histograms").exists()
    mended = write(seed=7)
    found = run("collect", mended, "--out", out)
    assert found.exit_code == 0, found.output
    kept = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert kept["seed"] == 7
    # from here on it is the directory of this run
    refused(run("collect", write(seed=8), "--out", out), "'seed'", "choose another --out")
    inputs = json.loads((out / ".calib" / "inputs.json").read_text(encoding="utf-8"))["inputs"]
    assert inputs and not [i for i in inputs if "none" in i["path"]]
