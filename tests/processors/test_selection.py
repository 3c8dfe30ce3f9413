"""Every event is selected or rejected under exactly one reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.selection import REASONS, SELECTED, Candidates, ResolvedSelection, choose_pairs
from tests.processors import writing
from tests.processors.peak import Settings, collect, configured

BAD = [np.nan, np.inf, -np.inf]
ONE_EACH: list[tuple[str, list[dict[str, Any]]]] = [
    ("fewer_than_two_muons", []),
    ("fewer_than_two_muons", writing.pair()[:1]),
    *[("bad_pt", writing.pair({"pt": value})) for value in [*BAD, 0.0, -40.0]],
    *[("bad_pt", writing.pair(None, {"pt": value})) for value in [*BAD, 0.0, -40.0]],
    *[("bad_eta", writing.pair({"eta": value})) for value in [*BAD, 11.0, -50.0]],
    *[("bad_phi", writing.pair(None, {"phi": value})) for value in BAD],
    *[("bad_charge", writing.pair({"charge": value})) for value in (0, 2, -3, 99)],
    ("identification", writing.pair({"mediumId": False})),
    ("isolation", writing.pair(None, {"pfRelIso04_all": 0.3})),
    ("isolation", writing.pair(None, {"pfRelIso04_all": np.nan})),
    ("eta", writing.pair({"eta": -2.5})),
    ("pt", writing.pair(None, {"pt": 14.0})),
    *[("bad_pt_err", writing.pair(None, {"ptErr": value})) for value in [*BAD, 0.0, -1.0]],
    ("same_sign", writing.pair({"charge": -1})),
    ("leading_pt", writing.pair({"pt": 25.9}, {"pt": 25.0})),
    ("mass_window", writing.pair({"pt": 200.0}, {"pt": 150.0})),
    ("too_heavy", writing.pair({"pt": 54.0}, {"pt": 45.0})),
    ("selected", writing.pair()),
    ("selected", writing.pair({"pt": 26.0}, {"pt": 30.0, "phi": 3.1})),
    # a bad value in a muon that could not have been used
    ("selected", [*writing.pair(), {**writing.MUON, "pt": np.nan, "mediumId": False}]),
    ("selected", [*writing.pair(), {**writing.MUON, "pt": 6.0, "eta": np.nan}]),
    ("bad_pt", [*writing.pair(), {**writing.MUON, "pt": np.nan}]),
]
CUTS: dict[str, Any] = {
    "leading_pt": 26.0,
    "subleading_pt": 15.0,
    "abs_eta": 2.4,
    "mass_window": (60.0, 120.0),
}
SETTINGS = Settings(muon=("ptErr",), beyond=90.0)
IN_STAGE1 = {"fewer_than_two_muons", "identification", "isolation"}


def expected_counts(cases: list[str]) -> dict[str, int]:
    return {reason: cases.count(reason) for reason in set(cases) - {"selected"}}


def test_one_reason_each_nanoaod(tmp_path: Path) -> None:
    file = writing.nanoaod(tmp_path / "a.root", [muons for _, muons in ONE_EACH])
    found = collect(configured("nanoaod", [file], **CUTS), tmp_path, settings=SETTINGS)
    reasons = [reason for reason, _ in ONE_EACH]
    assert found.counts["rejected"] == expected_counts(reasons)
    selected = [100 + i for i, reason in enumerate(reasons) if reason == "selected"]
    assert found.events["event"].tolist() == selected
    assert found.adds_up and set(REASONS) | {"too_heavy"} >= set(found.counts["rejected"])


def test_one_reason_each_stage1(tmp_path: Path) -> None:
    cases = [(r, m) for r, m in ONE_EACH if len(m) == 2 and r not in IN_STAGE1]
    file = writing.stage1(tmp_path / "a.parquet", writing.stage1_columns([m for _, m in cases]))
    found = collect(configured("stage1", [file], **CUTS), tmp_path, settings=SETTINGS)
    assert found.counts["rejected"] == expected_counts([r for r, _ in cases])
    assert found.adds_up


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_weight(tmp_path: Path, value: float) -> None:
    columns = writing.stage1_columns([writing.pair()] * 3)
    columns["wgt_nominal"] = np.array([2.0, value, -1.0])
    file = writing.stage1(tmp_path / "a.parquet", columns)
    found = collect(configured("stage1", [file]), tmp_path)
    assert found.counts["rejected"] == {"bad_weight": 1}
    assert found.events["weight"].tolist() == [2.0, -1.0]
    assert found.sums["peak/sumw"].sum() == 1.0 and found.sums["peak/sumw2"].sum() == 5.0


def test_trigger_comes_before_the_muons(tmp_path: Path) -> None:
    events = [writing.pair(), writing.pair(), [], writing.pair()]
    fired = {
        "HLT_IsoMu24": np.array([True, False, False, False]),
        "HLT_Mu50": np.array([False, False, False, True]),
    }
    file = writing.nanoaod(tmp_path / "a.root", events, **fired)
    config = configured("nanoaod", [file], triggers=["HLT_IsoMu24", "HLT_Mu50"])
    found = collect(config, tmp_path)
    assert found.counts["rejected"] == {"trigger": 2}
    assert found.events["event"].tolist() == [100, 103]


def test_certified_comes_first_and_only_for_collisions(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"1": [[1, 1], [3, 9]], "2": [[0, 9]]}')
    gen = {
        "genWeight": np.full(5, 0.5, np.float32),
        "HLT_IsoMu24": np.zeros(5, dtype=np.bool_),
        "GenPart": _no_particles(5),
    }
    muons = [[{**m, "genPartIdx": -1} for m in writing.pair()]] * 5
    file = writing.nanoaod(tmp_path / "a.root", muons, **gen)
    data = collect(
        configured("nanoaod", [file], certified="good.json", triggers=["HLT_IsoMu24"]), tmp_path
    )
    assert data.counts["rejected"] == {"not_certified": 2, "trigger": 3}
    config = configured("nanoaod", [file], certified="good.json", simulation=True)
    simulated = collect(config, tmp_path)
    assert simulated.counts["selected"] == 5
    assert simulated.events["weight"].tolist() == [0.5] * 5
    assert np.all(simulated.events["gen_mass"] == -1.0)


def _no_particles(n: int) -> Any:
    import awkward as ak

    empty = {name: np.zeros(0, np.float32) for name in ("pt", "eta", "phi")}
    empty |= {name: np.zeros(0, np.int32) for name in ("pdgId", "status")}
    return ak.unflatten(ak.zip(empty), np.zeros(n, dtype=np.int64))


def test_pair_choice(tmp_path: Path) -> None:
    one = writing.MUON
    event = [
        {**one, "pt": 20.0, "charge": -1, "eta": 0.1},
        {**one, "pt": 50.0, "charge": 1, "eta": 0.2},
        {**one, "pt": 45.0, "charge": 1, "eta": 0.3},
        {**one, "pt": 30.0, "charge": -1, "eta": 0.4},
        {**one, "pt": 90.0, "charge": -1, "eta": 0.5, "mediumId": False},
    ]
    file = writing.nanoaod(tmp_path / "a.root", [event])
    opposite = collect(configured("nanoaod", [file]), tmp_path).events
    assert (opposite["pt"][0], opposite["pt2"][0]) == (50.0, 30.0)
    assert (opposite["charge"][0], opposite["charge2"][0]) == (1, -1)
    any_sign = collect(configured("nanoaod", [file], opposite_charge=False), tmp_path).events
    assert (any_sign["pt"][0], any_sign["pt2"][0]) == (50.0, 45.0)


def test_stage1_in_the_wrong_order_is_swapped(tmp_path: Path) -> None:
    pairs = [writing.pair({"pt": 30.0}, {"pt": 40.0})]
    file = writing.stage1(tmp_path / "a.parquet", writing.stage1_columns(pairs))
    events = collect(configured("stage1", [file]), tmp_path).events
    assert (events["pt"][0], events["pt2"][0]) == (40.0, 30.0)
    assert (events["charge"][0], events["charge2"][0]) == (-1, 1)


MUON = st.tuples(
    st.sampled_from([np.nan, -1.0, 4.0, 10.0, 20.0, 30.0, 40.0, np.inf]),
    st.sampled_from([np.nan, -1.0, 0.0, 1.0, 3.0, 20.0]),
    st.sampled_from([-1, 0, 1]),
    st.booleans(),
)


@given(st.lists(st.lists(MUON, max_size=5), max_size=6))
def test_agrees_with_a_plain_loop(events: list[list[tuple[float, float, int, bool]]]) -> None:
    flat = [m for event in events for m in event]
    count = np.array([len(e) for e in events], dtype=np.int64)
    first = (np.cumsum(count) - count).astype(np.int64)
    pt, eta, charge, identified = (list(c) for c in zip(*flat, strict=True)) if flat else [[]] * 4
    muons = Candidates(
        first,
        count,
        1,
        np.array(pt, float),
        np.array(eta, float),
        np.zeros(len(flat)),
        np.array(charge, np.int8),
        np.array(identified, np.bool_),
    )
    selection = ResolvedSelection(
        identification="medium", leading_pt=25.0, subleading_pt=15.0, abs_eta=2.4
    )
    nothing = np.full(len(events), SELECTED)
    choice = choose_pairs(muons, np.ones(len(events)), nothing, selection)
    for i, event in enumerate(events):
        reason, pair = plain_choice(event)
        assert (REASONS[choice.reason[i]] if choice.reason[i] >= 0 else "selected") == reason
        if pair is not None:
            got = choice.leading[i] - first[i], choice.subleading[i] - first[i]
            assert got == pair


def plain_choice(event: list[tuple[float, float, int, bool]]) -> tuple[str, tuple[int, int] | None]:
    """Return the reason and the pair, as one would write it without a thought of speed."""
    if len(event) < 2:
        return "fewer_than_two_muons", None
    good = [(i, m) for i, m in enumerate(event) if m[3]]
    if any(not 0 < m[0] < np.inf for _, m in good):
        return "bad_pt", None
    if any(m[0] >= 15 and not abs(m[1]) <= 10 for _, m in good):
        return "bad_eta", None
    if any(m[0] >= 15 and m[2] == 0 for _, m in good):
        return "bad_charge", None
    if len(good) < 2:
        return "identification", None
    good = [(i, m) for i, m in good if abs(m[1]) < 2.4]
    if len(good) < 2:
        return "eta", None
    good = sorted(((i, m) for i, m in good if m[0] >= 15), key=lambda x: -x[1][0])
    if len(good) < 2:
        return "pt", None
    partners = [i for i, m in good[1:] if m[2] != good[0][1][2]]
    if not partners:
        return "same_sign", None
    if good[0][1][0] < 25:
        return "leading_pt", None
    return "selected", (good[0][0], partners[0])
