"""Samples that are opened: the selection of production, and what is said where it cannot be."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import calib
from calib.errors import InputError
from calib.toys.generation import generate
from jobs.events.toys import write_stage1

from .conftest import N


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


WITHOUT = """
import sys

sys.modules["dask_awkward"] = None  # as where it is not installed
import calib

try:
    calib.open_lazy(sys.argv[1], resonance="z")
except calib.errors.InputError as error:
    print(error)
"""


def test_without_dask_awkward_it_is_said_how_to_install_it(events):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(events)], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "calib.open_lazy: dask_awkward is not installed; pip install 'dimucal[lazy]' in an"
        " environment of its own, since it brings dask 2025.3 (constraints-lazy.txt)\n"
    )
