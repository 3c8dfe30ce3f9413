"""Events that somebody holds: changed, masked, in memory; the same selection as of a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coffea.nanoevents import BaseSchema, NanoAODSchema, NanoEventsFactory

from calib.calibrations.base import Needs
from calib.calibrations.momentum_scale.payloads import payload
from calib.errors import InputError
from calib.events.pairs import Pairs
from calib.physics.constants import MUON_MASS
from calib.physics.kinematics import mass
from calib.results import MAIN
from calib.schema import Sample, Selection
from processors.calibration import CalibrationProcessor
from processors.corrections import Correction
from processors.readers import chunk
from processors.readers.events import Selected
from processors.readers.given import GivenColumns
from processors.selection import ResolvedSelection
from processors.skim import Kept, SkimProcessor
from tests.calib.calibrations.momentum_scale import synthetic
from tests.processors import test_levels as levels
from tests.processors import writing
from tests.processors.peak import Peak, Settings

pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference index")

N = 3000
WIDE = ResolvedSelection(
    triggers=("HLT_IsoMu24",), identification="medium", abs_eta=2.4, subleading_pt=5.0
)


@pytest.fixture(scope="module")
def parts() -> list[dict[str, Any]]:
    rng = np.random.default_rng(21)
    found = [levels.branches(N // 2, rng, rng.random(N // 2) < 0.8) for _ in range(2)]
    for part in found:  # without it coffea gives no muon
        part["Muon"] = ak.with_field(part["Muon"], np.float32(0.1057), "mass")
    return found


@pytest.fixture(scope="module")
def path(parts: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return levels.write(tmp_path_factory.mktemp("given") / "a.root", parts)


@pytest.fixture(scope="module")
def records(parts: list[dict[str, Any]]) -> ak.Array:
    """Return the events of the file as they were before they were written."""
    both = {name: ak.concatenate([part[name] for part in parts]) for name in parts[0]}
    return ak.zip(both, depth_limit=1)


def columns_of(records: ak.Array) -> ak.Array:
    """Return records of muons as columns of their own, with a wrong number of muons beside."""
    flat: dict[str, Any] = {"nMuon": np.full(len(records), 77)}
    for field in records.fields:
        inner = records[field].fields
        flat |= {f"{field}_{name}": records[field, name] for name in inner}
        if not inner:
            flat[field] = records[field]
    return ak.zip(flat, depth_limit=1)


def nanoevents(path: Path, schema: Any = NanoAODSchema, **metadata: Any) -> ak.Array:
    where = {"dataset": "s", "filename": str(path), **metadata}
    source = {str(path): "Events"}
    return NanoEventsFactory.from_root(source, schemaclass=schema, metadata=where).events()


def entries(path: Path, n: int, **metadata: Any) -> chunk.FileEntries:
    where = {"dataset": "s", "filename": str(path), "entrystart": 0, "entrystop": n}
    return chunk.FileEntries({**where, **metadata})


def same(found: Selected, expected: Selected) -> None:
    assert (found.n_read, found.rejected) == (expected.n_read, expected.rejected)
    assert len(expected.pairs) > 20
    wanted = levels.columns(expected.pairs)
    for name, values in levels.columns(found.pairs).items():
        if values is None:
            assert wanted[name] is None
        else:
            assert values.dtype == wanted[name].dtype, name
            np.testing.assert_array_equal(values, wanted[name], err_msg=name)


def of_kind(kind: str, path: Path, records: ak.Array) -> ak.Array:
    kinds = {
        "NanoAODSchema": lambda: nanoevents(path),
        "BaseSchema": lambda: nanoevents(path, BaseSchema),
        "records": lambda: records,
        "columns": lambda: columns_of(records),
    }
    return kinds[kind]()


@pytest.mark.parametrize("simulation", [False, True])
@pytest.mark.parametrize("kind", ["NanoAODSchema", "BaseSchema", "records", "columns"])
def test_as_the_entries_of_a_file(
    kind: str, simulation: bool, path: Path, records: ak.Array
) -> None:
    """Cuts on everything, generated muons and weights, a payload, a prescale."""
    document = payload.document(synthetic.reduction())
    scale = Correction("scale/payload.json", "0" * 64, "momentum_scale", document)
    cuts = ResolvedSelection(
        triggers=("HLT_IsoMu24",),
        identification="medium",
        isolation=0.5,
        leading_pt=10.0,
        abs_eta=2.4,
        certified=((1, 2, 5), (3, 1, 8)),
        prescale=1.0 if simulation else 2.0,
    )
    sample = levels.sample(simulation)
    given = of_kind(kind, path, records)
    found = chunk.selected(given, sample, levels.NEEDS, cuts, (scale,))
    same(found, chunk.selected(entries(path, N), sample, levels.NEEDS, cuts, (scale,)))
    assert not found.costs
    all_events = chunk.read(given, sample, levels.NEEDS, cuts)
    assert len(all_events) == N and all_events.muons.count.sum() == len(all_events.muons.pt)


def peak(events: ak.Array, *, simulation: bool = False, cuts: ResolvedSelection = WIDE) -> Any:
    sample = levels.sample(simulation)
    calibration = Peak(Settings(), (sample,), 1)
    return CalibrationProcessor(calibration, {"s": sample}, {"s": cuts}, MAIN).process(events)["s"]


def test_changed_muons_move_the_mass_by_exactly_that(
    path: Path, records: ak.Array, tmp_path: Path
) -> None:
    """As a file of such muons, to the bit, and by the formula."""
    cuts = ResolvedSelection(triggers=("HLT_IsoMu24",), identification="medium")
    events = nanoevents(path)
    before = peak(events, cuts=cuts)
    events["Muon", "pt"] = events.Muon.pt * np.float64(1.001)
    after = peak(events, cuts=cuts)
    one, other = (found["sums"] for found in (before, after))
    assert len(one["list/mass"]) > 100 and after["counts"] == before["counts"]
    np.testing.assert_array_equal(other["list/pt"], one["list/pt"] * 1.001)
    np.testing.assert_array_equal(other["list/pt2"], one["list/pt2"] * 1.001)
    # all of it but what the muons' own mass adds: m^2 = 2 (p1.p2) + m_mu^2 (2 + p1/p2 + p2/p1)
    ratio = one["list/pt"] * np.cosh(one["list/eta"]) / one["list/pt2"] / np.cosh(one["list/eta2"])
    share = MUON_MASS**2 * (2 + ratio + 1 / ratio) / one["list/mass"] ** 2
    apart = np.abs(other["list/mass"] / one["list/mass"] - 1.001)
    heavy = one["list/mass"] > 5
    assert heavy.sum() > 100 and np.median(share[heavy]) < 1e-3
    assert np.all(apart[heavy] < 1.1e-3 * share[heavy] + 1e-12)
    muons = records["Muon"]
    moved = ak.values_astype(muons["pt"], np.float64) * 1.001
    columns = {n: records[n] for n in records.fields}
    columns["Muon"] = ak.with_field(muons, moved, "pt")
    columns |= {n: ak.to_numpy(v) for n, v in columns.items() if v.ndim == 1 and not v.fields}
    changed = levels.write(tmp_path / "changed.root", [columns])
    expected = peak(entries(changed, N), cuts=cuts)
    assert expected["counts"] == after["counts"]
    for name, values in expected["sums"].items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("masked", [False, True])
def test_masked_events_are_not_there(path: Path, masked: bool) -> None:
    """Of two halves, cut out or masked (None), each event is in one; together they are all."""
    events = nanoevents(path)
    odd = ak.to_numpy(events.event) % 2 == 1
    halves = [ak.mask(events, m) if masked else events[m] for m in (odd, ~odd)]
    found = [peak(half) for half in halves]
    whole = peak(events)
    assert [f["counts"]["read"] for f in found] == [odd.sum(), (~odd).sum()]
    assert sum(f["counts"]["selected"] for f in found) == whole["counts"]["selected"] > 100
    rejected = [sum(f["counts"]["rejected"].get(r, 0) for f in found) for r in levels.REASONS]
    assert rejected == [whole["counts"]["rejected"].get(r, 0) for r in levels.REASONS]
    counts = [f["sums"]["peak/counts"] for f in found]
    np.testing.assert_array_equal(counts[0] + counts[1], whole["sums"]["peak/counts"])
    listed = np.concatenate([f["sums"]["list/event"] for f in found])
    assert set(listed) == set(whole["sums"]["list/event"])
    assert np.all(found[0]["sums"]["list/event"] % 2 == 1)


def test_masked_muons_are_not_there(path: Path) -> None:
    """Cut out, or masked as records: the same events, whose other muons are looked at."""
    events = nanoevents(path)
    muons = events.Muon
    keep = muons.pt > 20
    found = []
    for those in (muons[keep], ak.mask(muons, keep)):
        found.append(peak(ak.with_field(events, those, "Muon"), simulation=True))
    assert found[0]["counts"] == found[1]["counts"] != peak(events, simulation=True)["counts"]
    for name in found[0]["sums"]:
        np.testing.assert_array_equal(found[0]["sums"][name], found[1]["sums"][name])
    both = found[0]["sums"]
    assert len(both["list/pt2"]) > 100 and both["list/pt2"].min() > 20


def test_an_array_without_any_file(caplog: pytest.LogCaptureFixture) -> None:
    """Defaults of the calibration, numbers by hand; events without numbers count from 0."""
    events = ak.Array(
        {
            "Muon_pt": [[40.0, 30.0], [50.0], [45.0, 35.0, 20.0], [45.0, 3.0]],
            "Muon_eta": [[0.5, -0.3], [0.1], [1.0, 0.2, 0.3], [0.1, 0.2]],
            "Muon_phi": [[0.0, 3.0], [0.1], [1.0, -2.0, 0.3], [0.1, 0.2]],
            "Muon_charge": [[1, -1], [1], [1, 1, -1], [1, -1]],
        }
    )
    sample = Sample(name="data", resonance="z", format="nanoaod", files=("-",))
    calibration = Peak(Settings(), (sample,), 1)
    with caplog.at_level(logging.WARNING):
        work = CalibrationProcessor.for_events(
            calibration, sample, events, Selection(mass_window=(60.0, 120.0))
        )
    assert "no Muon_mediumId, identification is not required" in caplog.text
    found = work.process(events)["data"]
    assert found["counts"] == {
        "read": 4,
        "selected": 1,
        "rejected": {"fewer_than_two_muons": 1, "pt": 1, "mass_window": 1},
    }
    expected = mass(*(np.array([x]) for x in (40.0, 0.5, 0.0, 30.0, -0.3, 3.0)))
    np.testing.assert_array_equal(found["sums"]["list/mass"], expected)
    assert found["sums"]["list/event"].tolist() == [0]


def test_rows_of_stage1_and_of_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = [
        writing.pair({"pt": float(rng.exponential(40)), "phi": float(rng.uniform(-3, 3))})
        for _ in range(400)
    ]
    columns = {
        **writing.stage1_columns(rows),
        "wgt_nominal": rng.normal(1, 0.2, 400),
        "gen_dimuon_mass": rng.normal(91, 2, 400),
    }
    path = writing.stage1(tmp_path / "a.parquet", columns)
    cuts = ResolvedSelection(subleading_pt=20.0, mass_window=(60.0, 120.0))
    sample = Sample(name="s", resonance="z", format="stage1", files=("-",), simulation=True)
    needs = Needs(muon=("ptErr",))
    expected = chunk.selected(entries(path, 400), sample, needs, cuts)
    assert {"pt", "mass_window"} <= set(expected.rejected)
    arrow = ak.from_parquet(path)
    by_coffea = NanoEventsFactory.from_parquet(str(path), schemaclass=BaseSchema).events()
    for given in (ak.Array(columns), arrow, by_coffea):
        same(chunk.selected(given, sample, needs, cuts), expected)
    table = Sample.model_validate({"name": "s", "format": "table", "files": ["-"]})
    needs = Needs(columns=("wgt_nominal",))
    odd = ak.Array(columns)[::2]
    found = chunk.selected(odd, table, needs, ResolvedSelection())
    assert found.n_read == 200
    np.testing.assert_array_equal(found.pairs["wgt_nominal"], columns["wgt_nominal"][::2])


def test_skim_writes_the_events_that_it_is_given(path: Path) -> None:
    kept = Kept(levels.sample(), Needs(), WIDE, along=("ptErr",))
    events = nanoevents(path)
    tables = []
    for factor in (1.0, 0.5):
        events["Muon", "pt"] = events.Muon.pt * np.float32(factor)
        found = SkimProcessor({"s": kept}).process(events)["s"]["parquet"]
        tables.append(pq.read_table(pa.BufferReader(found)))
    file = SkimProcessor({"s": kept}).process(entries(path, N))["s"]["parquet"]
    assert tables[0].equals(pq.read_table(pa.BufferReader(file)))
    assert tables[0].num_rows > tables[1].num_rows > 100


# what cannot be used -------------------------------------------------------------------------
def test_events_without_numbers_of_their_own(path: Path) -> None:
    """Entries number them; where some are gone nobody knows which."""
    where = {"entrystart": 100, "entrystop": 100 + N}
    events = nanoevents(path, BaseSchema, **where)
    events = events[[name for name in events.fields if name != "event"]]
    events = ak.with_parameter(events, "metadata", {"dataset": "s", "filename": "a", **where})
    found = peak(events)["sums"]["list/event"]
    half = ak.mask(events, np.arange(N) % 2 == 0)
    np.testing.assert_array_equal(peak(half)["sums"]["list/event"], found[found % 2 == 0])
    with pytest.raises(InputError, match="1500 events of 3000 entries, without a column 'event'"):
        peak(events[::2])


def without(events: ak.Array, column: str) -> ak.Array:
    return events[[name for name in events.fields if name != column]]


def test_bad_events_are_refused_in_one_sentence(records: ak.Array) -> None:
    flat = columns_of(records)
    n = len(flat)
    gap = ak.mask(flat["Muon_charge"], flat["Muon_charge"] > 0)
    odd = ak.mask(flat["run"], np.arange(n) % 2 == 0)
    bad = {
        "no column 'Muon_eta' .*needed by every calibration": without(flat, "Muon_eta"),
        "no column 'HLT_IsoMu24'": without(flat, "HLT_IsoMu24"),
        r"Muon_phi has other numbers of muons .*filter the muons": ak.with_field(
            flat, flat["Muon_phi"][:, :1], "Muon_phi"
        ),
        r"column 'run' has 1500 missing values \(None\)": ak.with_field(flat, odd, "run"),
        "column 'Muon_pt' is of type string": ak.with_field(flat, ["x"] * n, "Muon_pt"),
        "column 'Muon_pt' has one number an event": ak.with_field(flat, np.ones(n), "Muon_pt"),
        "column 'run' has lists": ak.with_field(flat, flat["Muon_pt"], "run"),
        "no columns in them": flat["run"],
        "'Muon_.*' is there twice, as a column and in a record": ak.with_field(
            flat, records["Muon"], "Muon"
        ),
        "of dataset 'x', expected one of s": ak.with_parameter(flat, "metadata", {"dataset": "x"}),
        "events of type builtins.dict": {"Muon_pt": [[1.0]]},
    }
    for sentence, events in bad.items():
        with pytest.raises(InputError, match=sentence):
            peak(events)
    with pytest.raises(InputError, match="column 'Muon_charge' has .* missing values"):
        peak(ak.with_field(flat, gap, "Muon_charge"))


def test_a_missing_number_of_a_muon_is_bad(records: ak.Array) -> None:
    """The muon stays, with a number that is none."""
    flat = columns_of(records)
    masked = ak.mask(flat["Muon_pt"], flat["Muon_pt"] < 60)
    nans = ak.fill_none(masked, np.float64(np.nan), axis=-1)
    found, expected = (peak(ak.with_field(flat, x, "Muon_pt"))["counts"] for x in (masked, nans))
    assert found == expected
    assert found["rejected"]["bad_pt"] > peak(flat)["counts"]["rejected"]["bad_pt"]


def test_dataset_of_several(path: Path) -> None:
    sample = levels.sample()
    other = sample.model_copy(update={"name": "other"})
    calibration = Peak(Settings(), (sample, other), 1)
    both = {"s": sample, "other": other}
    work = CalibrationProcessor(calibration, both, dict.fromkeys(both, WIDE), MAIN)
    events = nanoevents(path)
    assert list(work.process(events)) == ["s"]
    with pytest.raises(
        InputError, match=r"without metadata\['dataset'\], expected one of s, other"
    ):
        work.process(ak.with_parameter(events, "metadata", None))


def test_nulls_that_coffea_reads_as_numbers(tmp_path: Path) -> None:
    columns = writing.stage1_columns([writing.pair() for _ in range(20)])
    table = pa.table({**columns, "mu1_charge": pa.array([1, None] * 10, pa.int32())})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=7)
    events = NanoEventsFactory.from_parquet(
        str(path), schemaclass=BaseSchema, metadata={"dataset": "s", "filename": str(path)}
    ).events()
    sample = Sample(name="s", resonance="z", format="stage1", files=("-",))
    with pytest.raises(InputError, match="column 'mu1_charge' has 10 empty cells"):
        chunk.selected(events, sample, Needs(), ResolvedSelection())


def test_columns_are_read_when_they_are_asked_for(path: Path) -> None:
    log: list[Any] = []
    events = NanoEventsFactory.from_root(
        {str(path): "Events"}, schemaclass=NanoAODSchema, access_log=log
    ).events()
    found: Pairs = chunk.selected(events, levels.sample(), Needs(), WIDE).pairs
    assert len(found) > 100
    read = {getattr(entry, "branch", str(entry)) for entry in log}
    assert any("Muon_pt" in name for name in read)
    assert not any("GenPart_pt" in name or "Muon_dxy" in name for name in read)
    assert "GenPart_pt" in GivenColumns(events).names
