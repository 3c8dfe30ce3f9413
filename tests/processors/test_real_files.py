"""The processor on real files: every event is accounted for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uproot

from calib.physics.kinematics import mass
from tests.processors.peak import Settings, collect, configured

FILES = {
    "cms2018_dimuon.nanoaod.root": ("nanoaod", False, 40),
    "cms2018_dy_simulation.nanoaod.root": ("nanoaod", True, 40),
    "cms2015_ttbar_simulation.nanoaod.root": ("nanoaod", True, 200),
    "cms2012_doublemuparked.rntuple.root": ("nanoaod", False, 1000),
    "cms2011_zmumu.stage1.parquet": ("stage1", False, 10583),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("parts", [1, 3])
def test_every_event_is_accounted_for(shared_data: Path, name: str, parts: int) -> None:
    format, simulation, n = FILES[name]
    config = configured(format, [name], simulation=simulation)
    found = collect(config, shared_data, chunk_size=n // parts)
    assert found.counts["read"] == n
    assert found.adds_up
    assert len(found.events["event"]) == found.counts["selected"]
    assert np.isfinite(found.events["mass"]).all()


def test_stage1_agrees_with_pandas(shared_data: Path) -> None:
    name = "cms2011_zmumu.stage1.parquet"
    found = collect(configured("stage1", [name]), shared_data)
    table = pd.read_parquet(shared_data / name).astype(np.float64)
    same_sign = table.mu1_charge == table.mu2_charge
    outside = (table.mu1_eta.abs() >= 2.4) | (table.mu2_eta.abs() >= 2.4)
    soft = table[["mu1_pt", "mu2_pt"]].min(axis=1) < 5
    left = table[~(outside | soft | same_sign)]
    assert int(same_sign.sum()) == 356
    assert found.counts["rejected"] == {
        reason: int(n)
        for reason, n in {
            "eta": outside.sum(),
            "pt": (soft & ~outside).sum(),
            "same_sign": (same_sign & ~outside & ~soft).sum(),
        }.items()
        if n
    }
    assert np.array_equal(found.events["event"], left.event)
    assert np.allclose(found.events["mass"], left.dimuon_mass, rtol=2e-5)
    expected = mass(
        *(left[c].to_numpy() for c in _kinematics("mu1")),
        *(left[c].to_numpy() for c in _kinematics("mu2")),
    )
    assert np.allclose(found.events["mass"], expected, rtol=1e-12)
    assert np.array_equal(found.events["pt"], left[["mu1_pt", "mu2_pt"]].max(axis=1))


def _kinematics(muon: str) -> tuple[str, str, str]:
    return f"{muon}_pt", f"{muon}_eta", f"{muon}_phi"


@pytest.mark.parametrize("chunk_size", [1_000_000, 150])
def test_rntuple_agrees_with_a_plain_loop(shared_data: Path, chunk_size: int) -> None:
    name = "cms2012_doublemuparked.rntuple.root"
    found = collect(configured("nanoaod", [name]), shared_data, chunk_size=chunk_size)
    with uproot.open({shared_data / name: None}) as file:
        keys = ("pt", "eta", "phi", "charge")
        columns = [file["Events"][f"Muon_{key}"].array().tolist() for key in keys]
    expected = []
    for entry, event in enumerate(zip(*columns, strict=True)):
        muons = sorted(
            (m for m in zip(*event, strict=True) if m[0] >= 5 and abs(m[1]) < 2.4),
            key=lambda m: -m[0],
        )
        partners = [m for m in muons[1:] if m[3] != muons[0][3]]
        if partners:
            expected.append((entry, muons[0][0], partners[0][0]))
    got = zip(*(found.events[k].tolist() for k in ("event", "pt", "pt2")), strict=True)
    assert list(got) == expected
    assert len(set(found.events["run"].tolist())) == 1
    assert any("the entry number in the file is used" in note for note in found.notes)
    assert any("degraded" in note for note in found.notes)


def test_generated_muons_of_real_simulation(shared_data: Path) -> None:
    name = "cms2018_dy_simulation.nanoaod.root"
    config = configured("nanoaod", [name], simulation=True)
    found = collect(config, shared_data, settings=Settings(muon=("ptErr", "dxy")))
    events = found.events
    assert len(events["mass"]) >= 4
    assert np.allclose(events["gen_mass"], events["mass"], rtol=0.05)
    assert np.allclose(events["gen_pt"], events["pt"], rtol=0.1)
    assert (events["pt_err"] > 0).all() and events["dxy"].dtype == np.float64
    with uproot.open({shared_data / name: None}) as file:
        weights = file["Events"]["genWeight"].array(library="np")
    assert set(events["weight"]) <= set(weights.astype(np.float64))


def test_splitting_gives_the_same_sums(shared_data: Path) -> None:
    name = "cms2011_zmumu.stage1.parquet"
    sizes = (10583, 4000, 999)
    results = [
        collect(configured("stage1", [name]), shared_data, chunk_size=size) for size in sizes
    ]
    for a, b in itertools.pairwise(results):
        assert np.array_equal(a.sums["peak/counts"], b.sums["peak/counts"])
        for key in a.sums:
            assert np.allclose(a.sums[key], b.sums[key], rtol=1e-12, atol=0)
        assert a.counts["rejected"] == b.counts["rejected"]
        for key in a.events:
            assert np.array_equal(a.events[key], b.events[key])
