"""Samples that are looked at lazily: the selection and the sums of production.

They need dask-awkward and the old dask that it works with: an environment of its own, `make lazy`.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import awkward as ak
import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import calib
from calib.errors import InputError
from calib.events import histograms
from calib.toys.generation import generate, momentum_truth
from jobs.events.toys import write_nanoaod
from jobs.notebook.configurations import completed
from jobs.run.run import Run
from tests.notebook.conftest import N

pytestmark = pytest.mark.lazy
dak = pytest.importorskip("dask_awkward", reason="without the extra lazy; make lazy has it")
hist_dask = pytest.importorskip("hist.dask", reason="without the extra lazy; make lazy has it")


def produced(values: dict[str, Any], out: Path) -> dict[str, histograms.Sums]:
    """Return the totals that `calib collect` writes."""
    config, calibration, where = completed(values)
    work = Run.of((config, calibration), Path(where), out)
    with work.held("test"):
        work.adopt()
        work.collect()
    return {
        s.name: histograms.read(out / "histograms" / f"main.{s.name}.npz") for s in config.samples
    }


def same(found: histograms.Sums, expected: histograms.Sums) -> None:
    assert set(found) == set(expected) and any("counts" in name for name in found)
    for name, values in expected.items():
        if values.dtype.kind in "iu":
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)


def test_lazy_sums_are_those_of_production_in_stage1(values, result):
    lazy = calib.open_lazy(values)
    assert lazy.pairs.npartitions > 4  # the chunks of production
    expected = histograms.read(result.directory / "histograms" / "main.data.npz")
    same(lazy.collect().compute(), expected)
    mine, theirs = lazy.histograms()["mass"], result.histograms()["data"]["mass"]
    assert mine == theirs
    assert mine.sum().value == result.accounting["samples"]["data"]["totals"]["selected"]


def test_lazy_sums_are_those_of_production_in_simulated_nanoaod(tmp_path):
    """Weights, generated muons, and a calibration whose sums are no plain histograms."""
    made = generate("jpsi", 4000, seed=3, truth=momentum_truth(), simulation=True)
    for i, part in enumerate((slice(0, 2500), slice(2500, None))):
        at = np.arange(4000)[part]
        write_nanoaod(tmp_path / f"mc_{i}.root", made.pairs.take(at), simulation=True)
    values = {
        "name": "lazy",
        "calibration": "momentum_scale",
        "samples": [
            {
                "name": "mc",
                "resonance": "jpsi",
                "format": "nanoaod",
                "simulation": True,
                "files": [str(tmp_path / "*.root")],
            }
        ],
        "settings": {"eta": [-2.4, 0, 2.4], "copies": 2},
        "cluster": {"kind": "inline"},
    }
    expected = produced(values, tmp_path / "run")["mc"]
    lazy = calib.open_lazy(values)
    same(lazy.collect().compute(), expected)
    found = lazy.histograms()
    assert found["mass"].axes.name == ("half", "category", "mass")
    assert found["mass"].sum().value == expected["mass/counts"].sum() > 1000
    assert found["reference/mass"].sum().value == expected["reference/mass/counts"].sum()
    same(lazy.collect(lazy.select(lazy.events)).compute(), expected)
    assert lazy.events.fields.count("Muon_pt") == 1 and ak.num(lazy.events.Muon_pt.compute()).ndim


def test_a_cut_of_ones_own(values):
    lazy = calib.open_lazy(values)
    central = lazy.pairs[abs(lazy.pairs.leading.eta) < 1.2]
    found, everything = lazy.histograms(central)["mass"], lazy.histograms()["mass"]
    inside = [c for c in everything.axes["category"] if c.split("_")[1].startswith("A")]
    for category in everything.axes["category"]:
        expected = everything[:, category, :].view()
        if category in inside:
            assert np.array_equal(found[:, category, :].view(), expected)
        else:
            assert found[:, category, :].sum().value == 0 < expected["value"].sum()
    with dask.config.set(scheduler="synchronous"):
        filled = hist_dask.Hist.new.Reg(50, 75, 105).Double().fill(lazy.pairs.mass).compute()
    assert filled.sum(flow=True) == everything.sum().value


def test_lazy_events_are_all_events(events):
    lazy = calib.open_lazy(events, resonance="z")
    assert len(lazy.events.compute()) == 2 * N > len(lazy.pairs.compute())
    assert lazy.opened.sample.format == "stage1"


def test_lazy_events_with_muons_of_ones_own(values):
    """The cuts are made on them; the mass moves with them."""
    lazy = calib.open_lazy(values)
    events = lazy.events
    for name in ("mu1_pt", "mu2_pt"):
        events[name] = events[name] * np.float64(1.01)
    before, after = (lazy.pairs.compute(), lazy.select(events).compute())
    assert len(before) != len(after) > 1000
    both = np.intersect1d(before.event, after.event)
    mass = [x.mass[np.isin(x.event, both)] for x in (before, after)]
    # the muons' own mass, 0.1 GeV, does not grow
    np.testing.assert_allclose(mass[1] / mass[0], 1.01, rtol=1e-6)
    opened = calib.open_sample(values)
    pairs, rejected = opened.select(events.compute())
    assert np.array_equal(pairs.mass, after.mass)
    assert len(pairs) + sum(rejected.values()) == 2 * N
    found = opened.processor().process(events.compute())["data"]
    assert found["counts"]["selected"] == len(pairs)


def test_real_files_of_both_kinds(shared_data):
    ttree = calib.open_lazy(shared_data / "cms2018_dy_simulation.nanoaod.root", simulation=True)
    assert len(ttree.pairs.compute()) == ttree.opened.counts()["selected"] > 0
    rntuple = calib.open_lazy(
        shared_data / "cms2012_doublemuparked.rntuple.root",
        settings={"predicted_resolution": [{"abs_eta": [0, 2.4], "a": 0.01, "c": 0.0001}]},
    )
    found = rntuple.pairs.mass.compute()
    assert len(found) == rntuple.opened.counts()["selected"] > 0
    assert ak.all((found > 75) & (found < 105))


def test_a_newer_dask_is_refused(monkeypatch, values):
    monkeypatch.setattr(dask, "__version__", "2025.4.0")
    with pytest.raises(InputError, match=r"below 2025\.4; pip install"):
        calib.open_lazy(values)


# the versions that work together -------------------------------------------------------------
def test_versions_are_the_pair_that_works():
    assert version("dask") == version("distributed")
    assert (2025, 3) <= tuple(int(part) for part in version("dask").split(".")[:2]) < (2025, 4)


def test_dask_awkward_computes():
    events = ak.Array([{"pt": [40.0, 30.0]}, {"pt": []}, {"pt": [25.0]}])
    lazy = dak.from_awkward(events, npartitions=2)
    with dask.config.set(scheduler="synchronous"):
        assert ak.sum(lazy.pt, axis=1).compute().to_list() == [70.0, 0.0, 25.0]
        assert lazy.pt[lazy.pt > 28].compute().to_list() == [[40.0, 30.0], [], []]


def test_dask_awkward_computes_on_two_workers():
    counts = np.arange(100) % 4
    events = ak.unflatten(np.arange(counts.sum(), dtype=np.float64), counts)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        total = ak.sum(dak.from_awkward(events, npartitions=4))
        assert client.compute(total).result() == np.arange(counts.sum()).sum()
        assert len(client.nthreads()) == 2
