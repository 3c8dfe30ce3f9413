"""Own cuts and event filters: as a plain loop has them, the same from files and given events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from calib.errors import InputError
from calib.events.cuts import event_filter, own_cut
from calib.schema import Selection
from processors.calibration import CalibrationProcessor
from processors.readers import chunk
from processors.selection import ResolvedSelection
from tests.processors import test_given as given
from tests.processors import test_levels as levels
from tests.processors import writing
from tests.processors.peak import Peak, Settings, collect, configured

N = 2000
CUTS = (
    event_filter("Flag_good"),
    own_cut("Muon_dxy < 1.2 and Muon_pt > MET_pt / 20"),
    own_cut("MET_pt < 100"),
    own_cut("not Muon_pfRelIso04_all > 0.6"),
)
SELECTION = ResolvedSelection(identification="medium", abs_eta=2.4, subleading_pt=5.0, cuts=CUTS)


@pytest.fixture(scope="module")
def part() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    found = levels.branches(N, rng, True)
    found["MET_pt"] = rng.exponential(50.0, N).astype(np.float32)
    found["Flag_good"] = rng.random(N) < 0.95
    return found


@pytest.fixture(scope="module")
def path(part: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    halves = [{name: v[s] for name, v in part.items()} for s in (slice(N // 2), slice(N // 2, N))]
    return levels.write(tmp_path_factory.mktemp("cuts") / "a.root", halves)


def by_hand(part: dict[str, Any]) -> tuple[dict[str, int], ak.Array]:
    """Return how many events each cut takes, and the muons that pass all of them."""
    reasons, left = dict.fromkeys((cut.reason for cut in CUTS), 0), []
    for met, good, muons in zip(
        part["MET_pt"].tolist(), part["Flag_good"], ak.to_list(part["Muon"]), strict=True
    ):
        one = [m for m in muons if m["dxy"] < 1.2 and m["pt"] > met / 20]
        both = [m for m in one if not m["pfRelIso04_all"] > 0.6]
        failed = (not good, len(one) < 2, not met < 100, len(both) < 2)
        if len(muons) >= 2 and any(failed):
            reasons[CUTS[failed.index(True)].reason] += 1
        left.append(both if len(muons) >= 2 and not any(failed) else [])
    return reasons, left


@pytest.mark.parametrize("simulation", [False, True])
def test_as_by_hand_and_in_any_way(
    simulation: bool, part: dict[str, Any], path: Path, tmp_path: Path
) -> None:
    sample = levels.sample(simulation)
    found = chunk.selected(given.entries(path, N), sample, levels.NEEDS, SELECTION)
    reasons, left = by_hand(part)
    assert min(reasons.values()) > 10
    assert {name: found.rejected[name] for name in reasons} == reasons
    assert found.costs["cuts"]["bytes"] > 0
    # the same pairs as of a file that has those muons alone
    fewer = {**part, "Muon": part["Muon"][ak.Array(_marks(part, left))]}
    plain = levels.write(tmp_path / "fewer.root", [fewer])
    without = replace(SELECTION, cuts=())
    expected = chunk.selected(given.entries(plain, N), sample, levels.NEEDS, without)
    file_alone = {"event", "run"}
    wanted = levels.columns(expected.pairs)
    for name, values in levels.columns(found.pairs).items():
        if values is not None and name not in file_alone:
            np.testing.assert_array_equal(values, wanted[name], err_msg=name)
    # given events, and all columns at once
    records = ak.zip(part, depth_limit=1)
    given.same(chunk.selected(records, sample, levels.NEEDS, SELECTION), found)
    nano = given.nanoevents(path, given.BaseSchema)
    given.same(chunk.selected(nano, sample, levels.NEEDS, SELECTION), found)
    at_once = levels.at_once(path, 0, N, simulation, SELECTION)
    assert at_once.rejected == found.rejected
    np.testing.assert_array_equal(at_once.pairs.mass, found.pairs.mass)


def _marks(part: dict[str, Any], left: Any) -> Any:
    dxy = ak.to_list(part["Muon"]["dxy"])
    kept = [{m["dxy"] for m in muons} for muons in left]
    return [[x in own for x in event] for event, own in zip(dxy, kept, strict=True)]


def test_of_stage1_and_an_rntuple_as_of_nanoaod(tmp_path: Path) -> None:
    pairs = [
        writing.pair({"nTrackerLayers": 4 + i % 3}, {"nTrackerLayers": 8, "dxy": 0.1 * (i % 5)})
        for i in range(60)
    ]
    pairs = [[{"dxy": 0.0, **muon} for muon in pair] for pair in pairs]
    writing.nanoaod(tmp_path / "a.root", pairs)
    writing.rntuple(tmp_path / "b.root", [pairs[:40], pairs[40:]])
    columns = writing.stage1_columns(pairs)
    for i in (0, 1):
        columns[f"mu{i + 1}_nTrackerLayers"] = np.array([p[i]["nTrackerLayers"] for p in pairs])
        columns[f"mu{i + 1}_d0"] = np.array([p[i]["dxy"] for p in pairs])
    writing.stage1(tmp_path / "a.parquet", columns)
    cuts = ["Muon_nTrackerLayers > 4", "abs(Muon_dxy) < 0.35 or Muon_nTrackerLayers < 6"]
    expected = {f"cut {cuts[0]}": 20, f"cut {cuts[1]}": 8}
    for format, name in (("nanoaod", "a.root"), ("nanoaod", "b.root"), ("stage1", "a.parquet")):
        found = collect(configured(format, [name], cuts=cuts), tmp_path)
        assert found.counts["rejected"] == expected and found.counts["selected"] == 32
    rows = configured("stage1", ["a.parquet"], cuts=["mu1_pt - mu2_pt > 6"])
    assert collect(rows, tmp_path).counts["rejected"] == {"cut mu1_pt - mu2_pt > 6": 60}


def test_branches_that_cannot_be_cut_on(part: dict[str, Any], path: Path) -> None:
    for cut, said in {
        "Muon_dzz < 1": r"no branch 'Muon_dzz'.*'selection.cuts' \(in 'Muon_dzz < 1' at character 1"
        r"\)",
        "0 < GenPart_pt": "'GenPart_pt', needed by key 'selection.cuts'.*character 5.*one number",
    }.items():
        config = configured("nanoaod", [path.name], cuts=[cut])
        with pytest.raises(InputError, match=said):
            collect(config, path.parent)
    config = configured("nanoaod", [path.name], filters=["Flag_god"])
    with pytest.raises(InputError, match="'Flag_god'.*key 'selection.filters'.*mean Flag_good"):
        collect(config, path.parent)
    sample, events = levels.sample(), ak.zip({"Muon": part["Muon"]}, depth_limit=1)
    peak, selection = Peak(Settings(), (sample,), 1), Selection(cuts=("MET_pt < 1",))
    processor = CalibrationProcessor.for_events(peak, sample, events, selection)
    with pytest.raises(InputError, match="'MET_pt'.*key 'selection.cuts'"):
        processor.process(events)
