"""NanoAOD selected in levels: the same events and reasons as from all columns, with fewer bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.events.pairs import Pairs
from calib.schema import Sample
from processors import pairing
from processors.levels import LEVELS, level_of, select_nanoaod
from processors.readers.baskets import open_baskets
from processors.readers.events import Selected
from processors.readers.given import GivenColumns
from processors.readers.nanoaod import read_nanoaod
from processors.selection import REASONS, ResolvedSelection
from tests.processors import writing

NEEDS = Needs(muon=("ptErr", "dxy"), optional=("dz", "absent"))
CUTS: dict[str, Any] = {
    "leading_pt": 26.0,
    "subleading_pt": 20.0,
    "abs_eta": 2.4,
    "mass_window": (60.0, 120.0),
}


def branches(n: int, rng: np.random.Generator, fired: Any) -> dict[str, Any]:
    """Return events of nought to four muons, some with a bad value, in uproot's terms."""
    count = rng.integers(0, 5, n)
    m = int(count.sum())
    pt = rng.exponential(30.0, m) + 5
    eta = rng.uniform(-2.8, 2.8, m)
    for values, share in ((pt, 0.01), (eta, 0.01)):
        values[rng.random(m) < share] = np.nan
    muon = {
        "pt": pt.astype(np.float32),
        "eta": eta.astype(np.float32),
        "phi": rng.uniform(-3.1, 3.1, m).astype(np.float32),
        "charge": rng.choice([-1, 1, 1, 0], m, p=[0.5, 0.25, 0.24, 0.01]).astype(np.int32),
        "ptErr": np.where(rng.random(m) < 0.02, 0, 0.5).astype(np.float32),
        "mediumId": rng.random(m) < 0.7,
        "pfRelIso04_all": rng.exponential(0.2, m).astype(np.float32),
        "dxy": rng.normal(0, 1, m).astype(np.float32),
        "genPartIdx": rng.integers(-1, 6, m).astype(np.int32),
    }
    n_gen = rng.integers(0, 6, n)
    g = int(n_gen.sum())
    particles = {
        "pt": rng.exponential(20.0, g).astype(np.float32),
        **{name: rng.uniform(-3.1, 3.1, g).astype(np.float32) for name in ("eta", "phi")},
        "pdgId": rng.choice([13, -13, 11], g).astype(np.int32),
        "status": rng.choice([1, 1, 2], g).astype(np.int32),
    }
    return {
        "run": rng.integers(1, 4, n).astype(np.uint32),
        "luminosityBlock": rng.integers(1, 9, n).astype(np.uint32),
        "event": rng.permutation(n).astype(np.uint64),
        "genWeight": np.where(rng.random(n) < 0.02, np.inf, rng.normal(0, 1, n)).astype(np.float32),
        "HLT_IsoMu24": np.broadcast_to(fired, n).copy(),
        "Muon": ak.unflatten(ak.zip(muon), count),
        "GenPart": ak.unflatten(ak.zip(particles), n_gen),
    }


def write(path: Path, parts: Sequence[dict[str, Any]]) -> Path:
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("Events", {k: writing._type(v) for k, v in parts[0].items()})
        for part in parts:
            file["Events"].extend(part)
    return path


def sample(simulation: bool = False) -> Sample:
    return Sample(name="s", resonance="z", format="nanoaod", files=("-",), simulation=simulation)


def in_levels(path: Path, start: int, stop: int, simulation: bool, cuts: ResolvedSelection) -> Any:
    where = {"filename": str(path), "treename": "Events", "entrystart": start, "entrystop": stop}
    with open_baskets(where) as baskets:
        return select_nanoaod(baskets, where, sample(simulation), NEEDS, cuts)


def at_once(
    path: Path, start: int, stop: int, simulation: bool, cuts: ResolvedSelection
) -> Selected:
    """Return the selection from all columns of all events."""
    where = {"filename": str(path), "entrystart": start, "entrystop": stop}
    with uproot.open({path: None}) as file:
        events = NanoEventsFactory.from_root(
            file,
            treepath="Events",
            schemaclass=BaseSchema,
            mode="virtual",
            metadata=where,
            entry_start=start,
            entry_stop=stop,
        ).events()
        chunk = read_nanoaod(GivenColumns(events), where, sample(simulation), NEEDS, cuts)
    pairs, rejected = pairing.select(chunk, cuts)
    return Selected(pairs, len(chunk), rejected)


def columns(pairs: Pairs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, muon in (("leading", pairs.leading), ("subleading", pairs.subleading)):
        found |= {f"{name}.{k}": v for k, v in vars(muon).items() if k != "extra"}
        found |= {f"{name}.extra.{k}": v for k, v in muon.extra.items()}
    rest = ("weight", "run", "luminosityBlock", "event", "gen_mass")
    return found | {k: getattr(pairs, k) for k in rest} | {"mass": pairs.mass}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 12 baskets of 500 events; triggers fire in every third one."""
    rng = np.random.default_rng(7)
    parts = [branches(500, rng, rng.random(500) < (0.5 if i % 3 == 0 else 0.0)) for i in range(12)]
    return write(tmp_path_factory.mktemp("levels") / "mixed.root", parts)


SELECTIONS = {
    "all levels": {
        "triggers": ("HLT_IsoMu24",),
        "identification": "medium",
        "isolation": 0.25,
        "certified": ((1, 2, 5), (3, 1, 8)),
    },
    "no identification": {"triggers": ("HLT_IsoMu24",)},
    "no trigger": {"identification": "medium"},
    "kinematics alone": {"opposite_charge": False},
    "nothing left": {"certified": ((9, 1, 1),)},
}


@pytest.mark.parametrize("simulation", [False, True])
@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("gap", [0, 2000])
def test_same_as_at_once(
    mixed: Path, simulation: bool, name: str, gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.readers.baskets.GAP", gap)
    cuts = ResolvedSelection(**{**CUTS, **SELECTIONS[name]})
    for start, stop in ((0, 6000), (730, 4210)):
        found = in_levels(mixed, start, stop, simulation, cuts)
        expected = at_once(mixed, start, stop, simulation, cuts)
        assert found.n_read == stop - start
        assert found.rejected == expected.rejected
        assert list(found.rejected) == [r for r in REASONS if r in found.rejected]
        got, wanted = columns(found.pairs), columns(expected.pairs)
        assert set(got) == set(wanted)
        assert (len(found.pairs) == 0) == (name == "nothing left")
        for key, values in wanted.items():
            if values is None:
                assert got[key] is None
                continue
            assert got[key].dtype == values.dtype, key
            assert np.array_equal(got[key], values, equal_nan=values.dtype.kind == "f"), key


def test_an_rntuple_has_no_counter(tmp_path: Path) -> None:
    pairs = [writing.pair(), [], writing.pair()[:1], writing.pair({"mediumId": False})]
    path = writing.rntuple(tmp_path / "a.root", [pairs, [[]] * 3, pairs])
    cuts = ResolvedSelection(identification="medium", **CUTS)
    where = {"filename": str(path), "entrystart": 1, "entrystop": 11}
    needs = Needs(muon=("ptErr",))
    with open_baskets(where) as baskets:
        found = select_nanoaod(baskets, where, sample(), needs, cuts)
    assert found.rejected == {"fewer_than_two_muons": 7, "identification": 2}
    assert found.pairs.event.tolist() == [100]


def test_every_reason_has_a_level() -> None:
    levels = [level_of(reason) for reason in (*REASONS, "cut MET_pt < 5", "own")]
    assert set(levels) == set(LEVELS)
    assert level_of("own") == "calibration" and level_of("bad_pt") == "kinematics"


def test_numbers_of_muons_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    part = branches(50, np.random.default_rng(1), True)
    muons = part.pop("Muon")
    part |= {f"Muon_{name}": muons[name] for name in muons.fields}
    part["Muon_dxy"] = part["Muon_dxy"][:, ::2]
    path = write(tmp_path / "a.root", [part])
    with pytest.raises(InputError, match="Muon_dxy has other numbers of muons"):
        in_levels(path, 0, 50, False, ResolvedSelection())


@pytest.mark.parametrize("spread", [False, True])
def test_baskets_without_a_survivor_are_not_read(tmp_path: Path, spread: bool) -> None:
    """Triggers that fire in one basket of a hundred, or the same number spread evenly."""
    rng = np.random.default_rng(3)
    parts = []
    for i in range(100):
        fired = np.arange(400) % 100 == 0 if spread else np.full(400, i == 41)
        parts.append(branches(400, rng, fired))
    path = write(tmp_path / "a.root", parts)
    cuts = ResolvedSelection(triggers=("HLT_IsoMu24",), identification="medium", **CUTS)
    found = in_levels(path, 0, 40_000, True, cuts)
    everything = 0.0
    with uproot.open({path: None}) as file:
        before = file.file.source.num_requested_bytes
        tree = file["Events"]
        wanted = [n for n in tree.keys() if n not in ("nGenPart", "HLT_IsoMu24")]
        tree.arrays(filter_name=wanted)
        everything = file.file.source.num_requested_bytes - before
    share = sum(cost["bytes"] for cost in found.costs.values()) / everything
    assert found.rejected["trigger"] == 39_600
    # spread evenly, all baskets of the muons are read; those of the rest where a pair is left
    low, high = (0.3, 0.8) if spread else (0.0, 0.1)
    assert low < share < high
