"""What is wrong with an input is said in one sentence before any event is read."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from calib.errors import InputError
from jobs.config.schema import BadFiles, Cluster, Config
from jobs.events.files import InputFile, Inspection, chunk_size, chunks, inspect, settled_size
from jobs.storage.files import RunDirectory
from tests.processors import writing
from tests.processors.peak import Peak, Settings, collect, configured

PAIRS = [writing.pair() for _ in range(6)]


def nanoaod(path: Path, **options: Any) -> Path:
    return writing.nanoaod(path, PAIRS, **options)


def stage1(path: Path, **changed: Any) -> Path:
    return writing.stage1(path, {**writing.stage1_columns(PAIRS), **changed})


def look(config: Config, base: Path, settings: Settings | None = None) -> Inspection:
    return inspect(config, Peak(settings or Settings(), config.samples, 1), base)


def sentence(config: Config, base: Path, settings: Settings | None = None) -> str:
    """Return the one sentence of the refusal."""
    with pytest.raises(InputError) as refusal:
        look(config, base, settings)
    text = str(refusal.value)
    assert "\n" not in text and not text.endswith(".")
    return text


# which files ---------------------------------------------------------------------------------
def test_globs_directories_and_addresses(tmp_path: Path) -> None:
    for i, name in enumerate(("b/2.parquet", "b/1.parquet", "b/c/3.parquet", "a.parquet")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        stage1(tmp_path / name, event=np.arange(6) + 100 * i)
    (tmp_path / "b" / "notes.txt").write_text("no events")
    (tmp_path / "b" / ".4.parquet.part").write_text("unfinished")
    (tmp_path / "b" / ".toys.part").mkdir()
    (tmp_path / "b" / ".toys.part" / "5.parquet").write_text("unfinished")

    def names(*files: str) -> list[str]:
        found = look(configured("stage1", files), tmp_path).files
        return [os.path.relpath(f.path, tmp_path) for f in found]

    assert names("b/*.parquet") == ["b/1.parquet", "b/2.parquet"]
    assert names("b") == ["b/1.parquet", "b/2.parquet", "b/c/3.parquet"]
    assert names("**/*.parquet") == ["a.parquet", "b/1.parquet", "b/2.parquet", "b/c/3.parquet"]
    assert names("b/c", "a.parquet") == ["b/c/3.parquet", "a.parquet"]
    assert names(f"file://{tmp_path}/a.parquet") == ["a.parquet"]
    assert names(str(tmp_path / "a.parquet")) == ["a.parquet"]


def test_name_with_brackets_and_colon(tmp_path: Path) -> None:
    file = nanoaod(tmp_path / "run[1]:a.root")
    found = look(configured("nanoaod", [file.name]), tmp_path)
    assert [f.n_events for f in found.files] == [6]


def test_glob_without_a_match(tmp_path: Path) -> None:
    text = sentence(configured("stage1", ["data/*.parquet"]), tmp_path)
    assert "sample 's', key 'files': 'data/*.parquet'" in text and "matches no file" in text


def test_missing_file(tmp_path: Path) -> None:
    text = sentence(configured("stage1", ["none.parquet"]), tmp_path)
    assert "'none.parquet'" in text and "no such file" in text


def test_directory_without_files_of_the_format(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root")
    text = sentence(configured("stage1", ["."]), tmp_path)
    assert "holds no *.parquet file" in text and "'format'" in text


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_address_over_fsspec(tmp_path: Path, format: str) -> None:
    import fsspec

    name = "a.root" if format == "nanoaod" else "a.parquet"
    local = nanoaod(tmp_path / name) if format == "nanoaod" else stage1(tmp_path / name)
    address = f"memory://{tmp_path.name}/{name}"
    with fsspec.open(address, "wb") as file:
        file.write(local.read_bytes())
    config = configured(format, [address])
    found = look(config, tmp_path)
    assert found.files[0].path == address and found.files[0].size == local.stat().st_size
    assert collect(config, tmp_path).counts["selected"] == 6
    by_glob = look(configured(format, [f"memory://{tmp_path.name}/*"]), tmp_path)
    assert [f.n_events for f in by_glob.files] == [6]


# damaged files ---------------------------------------------------------------------------------
WRITERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "nanoaod": ("a.root", nanoaod),
    "stage1": ("a.parquet", stage1),
}


@pytest.mark.parametrize("format", WRITERS)
def test_empty_file(tmp_path: Path, format: str) -> None:
    name, _ = WRITERS[format]
    (tmp_path / name).touch()
    text = sentence(configured(format, [name]), tmp_path)
    assert name in text and "0 bytes" in text


@pytest.mark.parametrize("format", WRITERS)
def test_no_events(tmp_path: Path, format: str) -> None:
    name, _ = WRITERS[format]
    if format == "nanoaod":
        writing.nanoaod(tmp_path / name, [])
    else:
        writing.stage1(tmp_path / name, writing.stage1_columns([]))
    text = sentence(configured(format, [name]), tmp_path)
    assert name in text and "0 events" in text


@pytest.mark.parametrize("format", WRITERS)
def test_neither_root_nor_parquet(tmp_path: Path, format: str) -> None:
    name, _ = WRITERS[format]
    (tmp_path / name).write_text("<html>404</html>")
    text = sentence(configured(format, [name]), tmp_path)
    assert name in text and "neither ROOT nor parquet" in text


def test_wrong_format(tmp_path: Path) -> None:
    stage1(tmp_path / "a.root")
    text = sentence(configured("nanoaod", ["a.root"]), tmp_path)
    assert "found a parquet file" in text and "set format: stage1" in text


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, format: str, share: float) -> None:
    name, write = WRITERS[format]
    whole = write(tmp_path / f"whole-{name}").read_bytes()
    (tmp_path / name).write_bytes(whole[: max(5, int(len(whole) * share))])
    text = sentence(configured(format, [name]), tmp_path)
    assert name in text and "truncated" in text


def test_truncated_real_files(shared_data: Path, tmp_path: Path) -> None:
    for name, format in (
        ("cms2018_dimuon.nanoaod.root", "nanoaod"),
        ("cms2012_doublemuparked.rntuple.root", "nanoaod"),
        ("cms2011_zmumu.stage1.parquet", "stage1"),
    ):
        (tmp_path / name).write_bytes((shared_data / name).read_bytes()[:-1])
        assert "truncated" in sentence(configured(format, [name]), tmp_path)


@pytest.mark.parametrize("format", WRITERS)
def test_damaged_inside(tmp_path: Path, format: str) -> None:
    name, write = WRITERS[format]
    whole = bytearray(write(tmp_path / name).read_bytes())
    whole[200:-4] = bytes(len(whole) - 204)
    (tmp_path / name).write_bytes(bytes(whole))
    text = sentence(configured(format, [name]), tmp_path)
    assert name in text and ("cannot be opened" in text or "found nothing" in text)


def test_root_without_events(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root", tree="Runs")
    text = sentence(configured("nanoaod", ["a.root"]), tmp_path)
    assert "no 'Events' in the file (found Runs)" in text


def test_events_that_are_no_tree(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = np.histogram([1.0, 2.0])
    text = sentence(configured("nanoaod", ["a.root"]), tmp_path)
    assert "expected a TTree or an RNTuple" in text


# columns -----------------------------------------------------------------------------------------
def test_missing_branches_are_named_together(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root", without=["Muon_ptErr", "Muon_charge"])
    text = sentence(configured("nanoaod", ["a.root"]), tmp_path, Settings(muon=("ptErr",)))
    assert "no branches 'Muon_charge', 'Muon_ptErr'" in text
    assert "or set settings.resolution" in text


def test_missing_columns_of_stage1(tmp_path: Path) -> None:
    columns = writing.stage1_columns(PAIRS)
    for name in ("mu1_ptErr", "mu2_ptErr", "event"):
        del columns[name]
    writing.stage1(tmp_path / "a.parquet", columns)
    text = sentence(configured("stage1", ["a.parquet"]), tmp_path, Settings(muon=("ptErr",)))
    assert "no columns 'event', 'mu1_ptErr', 'mu2_ptErr'" in text
    # without the need for it, only the event is missing
    text = sentence(configured("stage1", ["a.parquet"]), tmp_path)
    assert "no column 'event'" in text and "ptErr" not in text


def test_missing_trigger_names_its_neighbours(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root")
    config = configured("nanoaod", ["a.root"], triggers=["HLT_IsoMu27"])
    text = sentence(config, tmp_path)
    assert "no branch 'HLT_IsoMu27'" in text and "'selection.triggers'" in text
    assert "did you mean HLT_IsoMu24?" in text


@pytest.mark.parametrize(
    ("selection", "key", "column"),
    [
        ({"identification": "medium"}, "selection.identification", "mu1_mediumId"),
        ({"isolation": 0.2}, "selection.isolation", "mu1_pfRelIso04_all"),
        ({"triggers": ["HLT_Mu50"]}, "selection.triggers", "HLT_Mu50"),
    ],
)
def test_stage1_lacks_what_is_asked_for(
    tmp_path: Path, selection: dict[str, Any], key: str, column: str
) -> None:
    stage1(tmp_path / "a.parquet")
    text = sentence(configured("stage1", ["a.parquet"], **selection), tmp_path)
    assert key in text and column in text


def test_stage1_with_identification(tmp_path: Path) -> None:
    good = np.ones(6, dtype=np.bool_)
    stage1(tmp_path / "a.parquet", mu1_mediumId=good, mu2_mediumId=np.arange(6) > 1)
    config = configured("stage1", ["a.parquet"])
    assert look(config, tmp_path).selections["s"].identification == "medium"
    assert collect(config, tmp_path).counts["rejected"] == {"identification": 2}


def test_auto_is_medium_and_isolation_where_the_files_have_them(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root")
    found = look(configured("nanoaod", ["a.root"]), tmp_path)
    assert found.selections["s"].identification == "medium"
    assert found.selections["s"].isolation == 0.25
    assert found.selections["s"].subleading_pt == 5.0 and found.selections["s"].abs_eta == 2.4
    # so few events do not shrink, and are stored without the checksums of their compression
    assert [n for n in found.notes if "have no checksums" not in n] == []
    without = ["Muon_mediumId", "Muon_pfRelIso04_all"]
    nanoaod(tmp_path / "b.root", without=without)
    found = look(configured("nanoaod", ["b.root"], subleading_pt=7.0), tmp_path)
    assert found.selections["s"].identification is None
    assert found.selections["s"].subleading_pt == 7.0
    assert sum("degraded" in note for note in found.notes) == 2
    text = sentence(configured("nanoaod", ["?.root"]), tmp_path)
    assert "b.root" in text and "selection.identification" in text


def test_optional_column_in_some_files_only(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root")
    nanoaod(tmp_path / "b.root", without=["Muon_ptErr"])
    config = configured("nanoaod", ["?.root"])
    text = sentence(config, tmp_path, Settings(optional=("ptErr",)))
    assert "b.root" in text and "'Muon_ptErr'" in text and "two samples" in text
    assert len(look(config, tmp_path).files) == 2


@pytest.mark.parametrize("kind", ["text", "list", "empty"])
def test_column_of_the_wrong_type(tmp_path: Path, kind: str) -> None:
    wrong = {"text": pa.array(["1"] * 6), "list": pa.array([[1.0]] * 6), "empty": pa.nulls(6)}[kind]
    stage1(tmp_path / "a.parquet", mu1_eta=wrong)
    text = sentence(configured("stage1", ["a.parquet"]), tmp_path)
    assert "'mu1_eta'" in text and "expected numbers" in text


def test_branch_of_the_wrong_type(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root", HLT_IsoMu24=np.ones((6, 2), dtype=np.float32))
    text = sentence(configured("nanoaod", ["a.root"], triggers=["HLT_IsoMu24"]), tmp_path)
    assert "'HLT_IsoMu24'" in text and "expected numbers" in text


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("name", ["mu1_charge", "run"])
def test_whole_numbers_with_nulls(tmp_path: Path, name: str, statistics: bool) -> None:
    columns = writing.stage1_columns(PAIRS)
    columns[name] = pa.array([1, None, 1, None, 1, 1], pa.int32())
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", write_statistics=statistics)
    text = sentence(configured("stage1", ["a.parquet"]), tmp_path)
    assert f"'{name}'" in text and "2 empty cells (nulls)" in text


def test_nulls_in_a_column_that_is_not_read(tmp_path: Path) -> None:
    stage1(tmp_path / "a.parquet", njets=pa.array([1, None, 1, 1, 1, 1], pa.int32()))
    assert collect(configured("stage1", ["a.parquet"]), tmp_path).counts["selected"] == 6


def test_a_null_in_a_real_column_is_not_a_number(tmp_path: Path) -> None:
    stage1(tmp_path / "a.parquet", mu2_pt=pa.array([35.0, None, 35.0, 35.0, None, 35.0]))
    found = collect(configured("stage1", ["a.parquet"]), tmp_path)
    assert found.counts["rejected"] == {"bad_pt": 2}
    assert found.events["event"].tolist() == [100, 102, 103, 105]


def test_simulation_without_generated_muons(tmp_path: Path) -> None:
    stage1(tmp_path / "a.parquet")
    text = sentence(configured("stage1", ["a.parquet"], simulation=True), tmp_path)
    assert "'gen_dimuon_mass'" in text and "simulation: false" in text
    nanoaod(tmp_path / "a.root")
    text = sentence(configured("nanoaod", ["a.root"], simulation=True), tmp_path)
    assert "GenPart_pt" in text and "Muon_genPartIdx" in text


# the same events twice ---------------------------------------------------------------------------
@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("how", ["name", "copy", "symlink", "hardlink", "glob"])
def test_the_same_file_twice(tmp_path: Path, format: str, how: str) -> None:
    name, write = WRITERS[format]
    file = write(tmp_path / name)
    other = tmp_path / f"z-{name}"
    {
        "name": lambda: None,
        "glob": lambda: None,
        "copy": lambda: shutil.copy(file, other),
        "symlink": lambda: other.symlink_to(file),
        "hardlink": lambda: os.link(file, other),
    }[how]()
    second = {"name": f"./{name}", "glob": "a.*"}.get(how, other.name)
    text = sentence(configured(format, [name, second]), tmp_path)
    assert name in text and "twice" in text and "'s'" in text


def test_the_same_file_in_two_samples(tmp_path: Path) -> None:
    stage1(tmp_path / "a.parquet")
    one = configured("stage1", ["a.parquet"]).model_dump()
    one["samples"] = [*one["samples"], {**one["samples"][0], "name": "t"}]
    text = sentence(Config.model_validate(one), tmp_path)
    assert "samples 's' and 't'" in text


def test_two_files_alike_in_size_are_not_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "compression": "none",
        "use_dictionary": False,
        "write_statistics": False,
    }
    columns = writing.stage1_columns(PAIRS)
    for i, name in enumerate(("a.parquet", "b.parquet")):
        columns["event"] = np.arange(6, dtype=np.uint64) + np.uint64(100 * i)
        writing.stage1(tmp_path / name, columns, **options)
    assert len(look(configured("stage1", ["?.parquet"]), tmp_path).files) == 2


# certified sections -------------------------------------------------------------------------------
def test_certified_needs_luminosity_sections(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps({"1": [[1, 5]]}))
    stage1(tmp_path / "a.parquet")
    text = sentence(configured("stage1", ["a.parquet"], certified="good.json"), tmp_path)
    assert "'luminosityBlock'" in text and "'selection.certified'" in text
    stage1(tmp_path / "b.parquet", luminosityBlock=np.arange(6))
    config = configured("stage1", ["b.parquet"], certified="good.json")
    assert collect(config, tmp_path).counts["rejected"] == {"not_certified": 1}
    nanoaod(tmp_path / "a.root", without=["run"])
    text = sentence(configured("nanoaod", ["a.root"], certified="good.json"), tmp_path)
    assert "'run'" in text


def test_what_stands_in_for_the_identity_is_noted(tmp_path: Path) -> None:
    nanoaod(tmp_path / "a.root", without=["run", "luminosityBlock", "event"])
    found = collect(configured("nanoaod", ["a.root"]), tmp_path, chunk_size=2)
    assert sum("is used instead" in note for note in found.notes) == 3
    assert found.events["event"].tolist() == [0, 1, 2, 3, 4, 5]
    assert set(found.events["lumi"].tolist()) == {0}
    assert len(set(found.events["run"].tolist())) == 1


# chunks ---------------------------------------------------------------------------------------
def test_chunks_follow_row_groups(tmp_path: Path) -> None:
    columns = writing.stage1_columns([writing.pair()] * 100)
    writing.stage1(tmp_path / "a.parquet", columns, row_group_size=30)
    inspection = look(configured("stage1", ["a.parquet"]), tmp_path)
    assert inspection.files[0].boundaries == (0, 30, 60, 90, 100)

    def cuts(size: int) -> list[tuple[int, int]]:
        return [(c.start, c.stop) for c in chunks(inspection, size)]

    assert cuts(1000) == [(0, 100)]
    assert cuts(60) == [(0, 60), (60, 100)]
    assert cuts(20) == [(0, 30), (30, 60), (60, 90), (90, 100)]
    for size in (1, 7, 13, 29, 30, 31, 99, 100):
        edges = [e for start, stop in cuts(size) for e in range(start, stop)]
        assert edges == list(range(100))
        assert max(stop - start for start, stop in cuts(size)) <= 2 * size
    counts = [
        collect(configured("stage1", ["a.parquet"]), tmp_path, chunk_size=size).counts["selected"]
        for size in (7, 30, 1000)
    ]
    assert counts == [100, 100, 100]


def test_rntuple_in_clusters(tmp_path: Path) -> None:
    writing.rntuple(tmp_path / "a.root", [[*PAIRS, []], PAIRS])
    config = configured("nanoaod", ["a.root"], triggers=["HLT_IsoMu24"])
    settings = Settings(muon=("ptErr",))
    inspection = look(config, tmp_path, settings)
    assert inspection.files[0].boundaries == (0, 7, 13)
    for size in (3, 7, 100):
        found = collect(config, tmp_path, chunk_size=size, settings=settings)
        assert found.counts == {"read": 13, "selected": 12, "rejected": {"fewer_than_two_muons": 1}}
        assert found.events["pt_err"].tolist() == [0.5] * 12
    text = sentence(config, tmp_path, Settings(muon=("dxy",)))
    assert "no branch 'Muon_dxy'" in text


def test_chunks_without_boundaries() -> None:
    file = InputFile("s", "a", "nanoaod", 10, 1, "u", "Events", (), ())
    found = chunks(Inspection((file,), {}, ()), 4)
    assert [(c.start, c.stop) for c in found] == [(0, 3), (3, 6), (6, 10)]


def test_sentences_name_no_internal_thing(tmp_path: Path) -> None:
    text = sentence(configured("stage1", ["none.parquet"]), tmp_path)
    assert not re.search(r"Error|Traceback|<", text)


# chunks -----------------------------------------------------------------------------------------
def sized(events: int, size: int, **cluster: Any) -> int:
    file = InputFile("data", "a", "stage1", events, size, "u", None, (0, events), ())
    config = configured("stage1", ["a"]).model_copy(update={"cluster": Cluster(**cluster)})
    return chunk_size(config, Inspection((file,), {}, ()))


def test_chunks_are_as_large_as_files_and_cores_allow() -> None:
    local = {"kind": "local", "workers": 2}
    assert sized(1000, 60_000, **local) == 50_000  # no less: handing out takes longer
    assert sized(3_000_000, 180_000_000, **local) == 250_001  # six for each core
    assert sized(100_000_000, 4_000_000_000, **local) == 500_000  # a worker's memory
    assert sized(100_000_000_000, 4_000_000_000_000, **local) == 2_000_000  # the client's time
    assert sized(10_000_000, 60_000_000_000, kind="inline") == 357_913  # 6 kB an event
    assert sized(3_000_000, 180_000_000, kind="inline") == 500_000


def test_the_size_of_chunks_stays(tmp_path: Path) -> None:
    file = InputFile("data", "a", "stage1", 3_000_000, 1, "u", None, (0, 3_000_000), ())
    inspection, directory = Inspection((file,), {}, ()), RunDirectory(tmp_path / "run")
    one = configured("stage1", ["a"]).model_copy(update={"cluster": Cluster(kind="inline")})
    many = one.model_copy(update={"cluster": Cluster(kind="local", workers=8)})
    assert settled_size(directory, one, inspection) == 500_000
    assert settled_size(directory, many, inspection) == 500_000
    assert chunk_size(many, inspection) == 62_501
    given = one.model_copy(update={"chunk_size": 7})
    assert settled_size(directory, given, inspection) == 7


@pytest.mark.parametrize("fallback", [True, False])
def test_a_fallback_is_taken_before_a_file_is_left_out(tmp_path: Path, fallback: bool) -> None:
    """Where files lack a trigger, and such files may be left out."""
    for i in range(4):
        given = {"HLT_Mu8": np.ones(6, dtype=bool)} if i else {}
        writing.nanoaod(tmp_path / f"{i}.root", PAIRS, **given)
    config = configured(
        "nanoaod",
        ["*.root"],
        triggers=("HLT_Mu8",),
        fallbacks=({"name": "open", "triggers": ()},) if fallback else (),
    )
    found = look(config.model_copy(update={"bad_files": BadFiles(skip_up_to=0.5)}), tmp_path)
    assert len(found.files) == (4 if fallback else 3)
    assert [Path(b.path).name for b in found.bad] == ([] if fallback else ["0.root"])
    assert found.selections["s"].triggers == (() if fallback else ("HLT_Mu8",))
    assert any("fallback 'open'" in note for note in found.notes) == fallback
