"""Samples that are opened, eagerly and lazily: the selection and the sums of production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import dask
import hist.dask
import numpy as np
import pytest

import calib
from calib.errors import InputError
from calib.events import histograms
from calib.toys.generation import generate, momentum_truth
from jobs.config.complete import adopt, in_directory
from jobs.events.toys import write_nanoaod, write_stage1
from jobs.notebook.configurations import completed
from jobs.run import steps

from .conftest import N


def produced(values: dict[str, Any], out: Path) -> dict[str, histograms.Sums]:
    """Return the totals that `calib collect` writes."""
    config, calibration, where = completed(values)
    work = in_directory((config, calibration), Path(where), out)
    with work.directory.lock("test"):
        adopt(work)
        steps.collect(work)
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
        filled = hist.dask.Hist.new.Reg(50, 75, 105).Double().fill(lazy.pairs.mass).compute()
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


def test_an_opened_sample_says_what_it_is(values, result):
    opened = calib.open_sample(values)
    assert opened.n_events == 2 * N and list(opened.files["events"]) == [N, N]
    counts = opened.counts()
    totals = result.accounting["samples"]["data"]["totals"]
    assert counts["selected"] == totals["selected"] and counts.sum() == 2 * N
    assert {k: v for k, v in totals["rejected"].items() if v} == {
        k: v for k, v in counts.items() if v and k != "selected"
    }
    page = opened._repr_html_()
    assert "30000 events" in page and "leading_pt" in page
    few = opened.to_dataframe(events=5000)
    everything = opened.to_dataframe()
    assert 0 < len(few) < 5001 and few.equals(everything.head(len(few)))
    np.testing.assert_array_equal(opened.pairs().mass, everything["dimuon_mass"])
    assert {"mu1_pt", "mu2_ptErr", "run", "dimuon_mass"} <= set(everything)
    assert opened.to_dataframe(events=0).empty


def test_names_from_outside_are_escaped(tmp_path):
    made = generate("z", 300, seed=9)
    (tmp_path / "<b>x").mkdir()
    write_stage1(tmp_path / "<b>x" / "z.parquet", made.pairs, simulation=False)
    page = calib.open_sample(tmp_path / "<b>x" / "z.parquet")._repr_html_()
    assert "<b>x" not in page and "&lt;b&gt;x" in page


def test_what_is_wrong_is_one_sentence(tmp_path, values):
    with pytest.raises(InputError, match="all of one kind"):
        calib.open_sample(["a.root", "b.parquet"])
    with pytest.raises(InputError, match="no file"):
        calib.open_sample(tmp_path / "*.parquet")
    with pytest.raises(InputError, match="no sample 'mc'; it has data"):
        calib.open_sample(values, "mc")
    with pytest.raises(InputError, match="beside a configuration"):
        calib.open_sample(values, resonance="z")
    with pytest.raises(InputError, match="did you mean 'seed'"):
        calib.open_sample({**values, "sed": 3})
    try:
        calib.open_sample({**values, "sed": 3})
    except InputError as error:
        assert error._render_traceback_() == [f"InputError: {error}"]


def test_a_newer_dask_is_refused(monkeypatch, values):
    monkeypatch.setattr(dask, "__version__", "2025.4.0")
    with pytest.raises(InputError, match=r"below 2025\.4; pip install"):
        calib.open_lazy(values)
