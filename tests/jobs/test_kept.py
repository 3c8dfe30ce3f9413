"""A run directory and a store of the version before open as they did."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import calib
from jobs.cli import app
from jobs.store import Store

KEPT = Path(__file__).parents[1] / "kept" / "before.tar.xz"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return a folder with ``run`` and ``store``."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def values(run: Path) -> pd.DataFrame:
    table = pd.read_csv(run / "parameters.csv")
    return table[["a", "a_err", "b", "b_err", "correlation", "chi2"]]


def test_a_run_is_opened_and_says_what_its_files_say(kept: Path) -> None:
    found = calib.open_result(kept / "run")
    assert found.passed and found.config.calibration == "impact_parameter"
    table = found.to_dataframe()
    written = pd.read_csv(kept / "run/parameters.csv")
    words = dict.fromkeys(table.select_dtypes(exclude="number"), "")
    pd.testing.assert_frame_equal(table, written.fillna(words))
    assert found.covariance is not None
    assert len(found.covariance.names) == 2 * len(table)


def test_it_is_reduced_again_to_the_same_numbers(kept: Path) -> None:
    run = kept / "run"
    before = values(run)
    result = CliRunner().invoke(app, ["reduce", str(run)])
    assert result.exit_code == 0, result.output
    # fits on another make of processor end elsewhere within their tolerance (1e-5 seen)
    np.testing.assert_allclose(values(run), before, rtol=1e-4)
    assert (run / "report.html").stat().st_size > 100_000


def test_a_store_is_listed_and_gives_its_payload(kept: Path) -> None:
    with Store.open(str(kept / "store")) as store:
        assert [r.number for r in store.revisions()] == [1, 2]
        assert store.at(5, "impact_parameter").number == 1
        assert store.at(12, "impact_parameter").number == 2
    out = kept / "payload.json"
    found = CliRunner().invoke(
        app, ["store", "get", str(kept / "store"), "--run", "12", "--out", str(out)]
    )
    assert found.exit_code == 0, found.output
    payload = calib.load_payload(out)
    expected = pd.read_csv(kept / "run/parameters.csv")
    assert np.isin(expected["a"].round(9), payload.to_dataframe()["value"].round(9)).all()
    checked = CliRunner().invoke(app, ["store", "check", str(kept / "store")])
    assert checked.exit_code == 0 and "0 problems" in checked.output
