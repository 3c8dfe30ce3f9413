"""Toys in files: what is read back is what was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from calib.errors import InputError
from calib.toys import generate
from jobs import toys
from jobs.toys import write_toys
from tests.processors.peak import Settings, collect, configured

SETTINGS = Settings(muon=("ptErr",))


@pytest.mark.parametrize("simulation", [False, True])
@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_what_is_read_is_what_was_made(tmp_path: Path, format: str, simulation: bool) -> None:
    made = generate("z", 5000, seed=2, simulation=simulation)
    files = write_toys(tmp_path / "toys", made, format, 3)
    assert [f.parent for f in files] == [tmp_path / "toys"] * 3
    config = configured(format, ["toys"], simulation=simulation)
    found = collect(config, tmp_path, settings=SETTINGS)
    assert found.counts == {"read": 5000, "selected": 5000, "rejected": {}}
    events, pairs = found.events, made.pairs
    a, b = pairs.leading, pairs.subleading
    assert a.pt_err is not None
    for key, column in (("event", pairs.event), ("run", pairs.run), ("charge", a.charge),
                        ("charge2", b.charge), ("lumi", pairs.luminosityBlock)):  # fmt: skip
        assert np.array_equal(events[key], column), key
    for key, real in (("pt", a.pt), ("pt2", b.pt), ("eta", a.eta), ("eta2", b.eta),
                      ("pt_err", a.pt_err), ("mass", pairs.mass)):  # fmt: skip
        assert np.allclose(events[key], real, rtol=3e-7, atol=3e-7), key
    if simulation:
        assert pairs.gen_mass is not None and a.gen_pt is not None
        assert np.allclose(events["gen_mass"], pairs.gen_mass, rtol=3e-7)
        assert np.allclose(events["gen_pt"], a.gen_pt, rtol=3e-7)
    else:
        assert "gen_mass" not in events
    truth = json.loads((tmp_path / "toys" / "truth.json").read_text())
    assert truth["events"] == 5000 and truth["simulation"] is simulation
    assert truth["pt_err_factor"] == list(made.truth["pt_err_factor"])


def test_parquet_as_the_reader_likes_it(tmp_path: Path) -> None:
    (file,) = write_toys(tmp_path / "toys", generate("z", 100), "stage1")
    with pq.ParquetFile(file) as parquet:
        column = parquet.metadata.row_group(0).column(0)
        assert column.compression == "LZ4" and not column.has_dictionary_page
        assert column.statistics.has_null_count


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(toys, "write_stage1", fails)
    with pytest.raises(OSError, match="full"):
        write_toys(tmp_path / "toys", generate("z", 100), "stage1", 2)
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path: Path) -> None:
    made = generate("z", 10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not empty"):
        write_toys(tmp_path / "full", made, "stage1")
    with pytest.raises(InputError, match="format 'csv'"):
        write_toys(tmp_path / "a", made, "csv")
    with pytest.raises(InputError, match="files 11"):
        write_toys(tmp_path / "a", made, "stage1", 11)
    assert len(write_toys(tmp_path / "empty", made, "stage1", 10)) == 10
