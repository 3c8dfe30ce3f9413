"""Results in a notebook: what the files say, pictures, refits, comparisons."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import calib
from calib.errors import InputError
from jobs.notebook.covariance import Covariance
from jobs.run.run import Run

CATEGORY = "45-200_AA"


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the content of all files of a run; who held its lock does not matter."""
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


@pytest.fixture
def own(result, tmp_path) -> Path:
    """A copy of the run that may be changed."""
    shutil.copytree(result.directory, tmp_path / "run")
    return tmp_path / "run"


def test_a_result_says_what_its_files_say(result):
    directory = result.directory
    assert result.passed is json.loads((directory / "verdict.json").read_text())["passed"]
    table = result.to_dataframe()
    with (directory / "factors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["category"] for row in rows] == list(table["category"])
    # to the last bit
    assert [float(row["factor"]) for row in rows] == list(table["factor"])
    pd.testing.assert_frame_equal(result.to_dataframe("closure"), result.closure)
    factors, muons = (result.values.query(f"kind == '{k}'") for k in ("factor", "muon_factor"))
    assert result.statuses.sum() == 8 and len(factors) == 8 and len(muons) > 8
    np.testing.assert_allclose(factors["value"], table["factor"], rtol=1e-14)
    np.testing.assert_array_equal(result.covariance.values, table["factor"])
    opened = calib.open_result(directory)
    assert repr(opened) == repr(result) and opened._repr_html_() == result._repr_html_()
    with pytest.raises(InputError, match="no table 'nothing'; it has factors"):
        result.to_dataframe("nothing")


def test_it_is_frozen(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.fits = None
    table = result.to_dataframe()
    table.loc[0, "factor"] = 17.0
    assert result.to_dataframe().loc[0, "factor"] != 17.0
    with pytest.raises(ValueError, match="read-only"):
        result.covariance.values[0] = 17.0


def test_it_shows_verdict_and_statuses_in_words(result):
    page = result._repr_html_()
    assert (
        "verdict: passed" in page and "Events covered by the closure" in page and CATEGORY in page
    )
    bad = {
        "passed": False,
        "checks": [
            {"name": "<i>", "value": None, "threshold": 1.0, "passed": False, "text": "a < b"}
        ],
    }
    page = dataclasses.replace(result, verdict=bad)._repr_html_()
    assert "verdict: not passed" in page and "<i>" not in page and "a &lt; b" in page


def test_values_go_on_with_their_correlations(result):
    found = result.uncertainties()
    assert list(found) == list(result.to_dataframe()["category"])
    covariance = result.covariance.covariance
    for i, number in enumerate(found.values()):
        assert abs(number.std_dev - np.sqrt(covariance[i, i])) < 1e-9
    values, cov = result.covariance
    assert values.shape == (8,) and cov.shape == (8, 8)


def test_an_error_of_a_difference_knows_of_the_covariance():
    matrix = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, 0.0], [0.0, 0.0, np.nan]])
    made = Covariance(np.array(["a", "b", "c"]), np.array([1.0, 2.0, np.nan]), matrix)
    numbers = made.uncertainties()
    assert list(numbers) == ["a", "b"]
    assert abs((numbers["a"] - numbers["b"]).std_dev ** 2 - 2.0) < 1e-12
    assert abs(made.correlation.loc["a", "b"] - 0.75) < 1e-12


def test_there_is_a_figure_for_each_picture_of_the_report(result):
    figures = result.figures()
    assert set(figures) == {p.stem for p in (result.directory / "plots").glob("*.png")}
    assert len(figures) >= 4 and all(isinstance(f, Figure) for f in figures.values())
    assert isinstance(result.figure(CATEGORY), Figure)
    curve = result.curves[CATEGORY]
    assert curve.counts.sum() > 1000 and len(result.curves) == 8
    with pytest.raises(InputError, match="no picture 'nothing'"):
        result.figure("nothing")


def test_a_refit_changes_the_category_and_no_file(result):
    before = files_of(result.directory)
    refit = result.refit(CATEGORY, fit_range=(82, 98))
    assert files_of(result.directory) == before
    old, new = (r.to_dataframe().set_index("category") for r in (result, refit))
    assert new.loc[CATEGORY, "factor"] != old.loc[CATEGORY, "factor"]
    assert new.loc[CATEGORY, "edited"] == "fit.range=[82, 98]"
    assert new.loc[CATEGORY, "ndf"] < old.loc[CATEGORY, "ndf"]
    kept = (new["status"] == "ok") & (new.index != CATEGORY)
    np.testing.assert_array_equal(new.loc[kept, "own_factor"], old.loc[kept, "own_factor"])
    assert "a refit that is not written" in refit._repr_html_()
    with pytest.raises(InputError, match="was not written"):
        refit.publish("store", since=1)


def test_a_refit_that_is_kept_is_the_one_of_the_command(result, own):
    refit = result.refit(CATEGORY, {"fit.range": [82, 98]})
    kept = calib.open_result(own).refit(CATEGORY, fit_range=(82, 98), keep=True, progress=False)
    pd.testing.assert_frame_equal(
        kept.to_dataframe().drop(columns="edited"),
        refit.to_dataframe().drop(columns="edited"),
        check_exact=False,
        rtol=1e-12,
    )
    assert kept.payload.document == refit.payload.document
    assert kept.verdict["passed"] == refit.verdict["passed"]
    assert Run.resume(own).directory.edits() == {CATEGORY: {"fit.range": [82, 98]}}
    assert Run.resume(own).verdict() == kept.verdict
    assert calib.open_result(own).edits == refit.edits


def test_a_refit_refuses_what_cannot_be(result):
    with pytest.raises(InputError, match="'45-200_AX' does not exist"):
        result.refit("45-200_AX", fit_range=(82, 98))
    with pytest.raises(InputError, match="'gates.min_events' cannot be set for one category"):
        result.refit(CATEGORY, gates_min_events=3)
    with pytest.raises(InputError, match="no settings given"):
        result.refit(CATEGORY)


def test_two_results_are_compared(result):
    refit = result.refit(CATEGORY, fit_range=(82, 98))
    found = calib.compare(result, refit, labels=("all", "narrow"))
    assert found.ndf > 0 and 0 < found.chi2 < 8 and found.furthest.empty
    moved = found.table.set_index("name")["difference"]
    assert (moved != 0).sum() >= 1 and moved["45-200 0-1.2 0-1.2"] != 0
    assert isinstance(found.figure(), Figure) and "narrow against all" in found._repr_html_()
    for same in (
        result.directory,
        result.directory / "payload.json",
        result.payload,
        result.payload.document,
    ):
        assert calib.compare(result, same).chi2 == 0


def test_payloads_of_different_calibrations_are_not_compared(result, tmp_path):
    document = {"schema_version": 2, "corrections": [{"name": "momentum_scale"}]}
    with pytest.raises(InputError, match="a payload of momentum_scale, expected one of mass_res"):
        calib.compare(result, document)


def test_a_real_payload_of_others_can_be_compared(shared_data, result):
    peer = shared_data / "peer_2018_mass_resolution.json"
    found = calib.compare(peer, peer)
    assert len(found.table) == 36 and found.labels[0] == peer.name
    assert calib.compare(peer, result).ndf == 0  # other bins


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        calib.open_result(tmp_path / "nothing")
    with pytest.raises(InputError, match="not the directory of a run"):
        calib.open_result(tmp_path)


def test_importing_calib_stays_light():
    code = (
        "import sys, calib; assert 'run' in dir(calib) and 'run' in calib.__all__;"
        "heavy = {'jobs', 'coffea', 'dask', 'numba', 'matplotlib'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_result_is_published(result, tmp_path):
    from jobs.store import Store

    revision = result.publish(tmp_path / "store", since=315252, until=320000)
    assert revision.calibration == "mass_resolution"
    with Store.open(tmp_path / "store") as store:
        found = store.payload(store.at(316000, "mass_resolution"))
    assert found == (result.directory / "payload.json").read_bytes()
