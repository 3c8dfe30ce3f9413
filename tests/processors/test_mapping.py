"""Branches of other names, units and signs give the same pairs as ours, in every way to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from pydantic import ValidationError

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.schema import MappedColumn, Sample
from jobs.config.schema import Config
from processors.readers import chunk
from processors.readers.mapping import pt_of
from processors.selection import ResolvedSelection
from tests.processors import test_levels as levels
from tests.processors import writing
from tests.processors.peak import Outcome, Settings, collect, configured

N = 200
WITH_ERROR = Settings(muon=("ptErr",))


@pytest.fixture(scope="module")
def events() -> list[list[dict[str, Any]]]:
    """Pairs of muons, of which some are not identified."""
    random = np.random.default_rng(3)
    found = []
    for pt1, pt2, eta, good in zip(
        random.uniform(30, 60, N),
        random.uniform(20, 50, N),
        random.uniform(-2, 2, N),
        random.random(N) < 0.8,
        strict=True,
    ):
        found.append(
            writing.pair(
                {"pt": np.float32(pt1), "eta": eta, "mediumId": good}, {"pt": np.float32(pt2)}
            )
        )
    return found


def with_columns(config: Config, **columns: Any) -> Config:
    given = {name: MappedColumn.model_validate(column) for name, column in columns.items()}
    values = {**config.samples[0].model_dump(), "columns": given}
    return config.model_copy(update={"samples": (Sample.model_validate(values),)})


def renamed(path: Path, out: Path, form: str = "tree") -> Path:
    """Write a file of another experiment: MeV, the other sign of charges, its own names."""
    with uproot.open(path) as file:
        old = {name: file["Events"][name].array() for name in file["Events"].keys()}
    pt, charge, error = (
        ak.values_astype(old[f"Muon_{n}"], "f8") for n in ("pt", "charge", "ptErr")
    )
    new = {
        "mu_pt": pt * 1000,
        "mu_eta": old["Muon_eta"],
        "mu_phi": old["Muon_phi"],
        "mu_q": ak.values_astype(-charge, "i4"),
        "mu_ptErr": error * 1000,
        "mu_k": -charge / pt / 1000,
        "mu_kErr": error / pt**2 / 1000,
        "mu_medium": old["Muon_mediumId"],
        "runNumber": np.asarray(old["run"]),
        "lb": np.asarray(old["luminosityBlock"]),
        "eventNumber": np.asarray(old["event"]),
        "nMuon": np.full(N, 77, dtype=np.int32),  # of others than these
    }
    with uproot.recreate(out) as file:
        if form == "tree":
            kinds = {
                k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in new.items()
            }
            file.mktree("Events", kinds).extend(new)
        else:
            file.mkrntuple("Events", new)
    return out


OTHERS = {
    "pt": {"branch": "mu_pt", "unit": "MeV"},
    "ptErr": {"branch": "mu_ptErr", "unit": "MeV"},
    "eta": "mu_eta",
    "phi": "mu_phi",
    "charge": {"branch": "mu_q", "sign": -1},
    "mediumId": "mu_medium",
    "run": "runNumber",
    "luminosityBlock": "lb",
    "event": "eventNumber",
}
CURVED = {n: c for n, c in OTHERS.items() if n not in ("pt", "ptErr", "charge")} | {
    "curvature": {"branch": "mu_k", "unit": "1/MeV", "sign": -1},
    "curvatureErr": {"branch": "mu_kErr", "unit": "1/MeV"},
}


def compared(found: Outcome, expected: Outcome, exact: bool = True) -> None:
    assert found.adds_up and found.counts == expected.counts
    assert 100 < expected.counts["selected"] < N
    for name, values in expected.events.items():
        rtol = 0 if exact else 1e-12
        np.testing.assert_allclose(found.events[name], values, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("form", ["tree", "rntuple"])
@pytest.mark.parametrize("columns", [OTHERS, CURVED], ids=["pt", "curvature"])
def test_ntuples_of_others(
    columns: dict[str, Any], form: str, tmp_path: Path, events: list[Any]
) -> None:
    ours = writing.nanoaod(tmp_path / "ours.root", events)
    renamed(ours, tmp_path / "theirs.root", form)
    expected = collect(configured("nanoaod", ["ours.root"]), tmp_path, settings=WITH_ERROR)
    theirs = with_columns(configured("nanoaod", ["theirs.root"], isolation="none"), **columns)
    found = collect(theirs, tmp_path, chunk_size=90, settings=WITH_ERROR)
    compared(found, expected, exact=False)


def test_the_same_bits_from_a_file_and_from_given_events(tmp_path: Path, events: list[Any]) -> None:
    path = renamed(writing.nanoaod(tmp_path / "ours.root", events), tmp_path / "theirs.root")
    (sample,) = with_columns(configured("nanoaod", [path]), **CURVED).samples
    where = {"dataset": "s", "filename": str(path), "entrystart": 0, "entrystop": N}
    with uproot.open(path) as file:
        given = {n: file["Events"][n].array() for n in file["Events"].keys()}
    records = ak.with_parameter(ak.zip(given, depth_limit=1), "metadata", where)
    cuts = ResolvedSelection(identification="medium", leading_pt=35.0, mass_window=(60.0, 120.0))
    needs = Needs(muon=("ptErr",))
    fast = chunk.selected(chunk.FileEntries(where), sample, needs, cuts)
    slow = chunk.selected(records, sample, needs, cuts)
    assert fast.rejected == slow.rejected and len(fast.pairs) > 50
    mine = levels.columns(slow.pairs)
    for name, values in levels.columns(fast.pairs).items():
        if values is not None:
            np.testing.assert_array_equal(mine[name], values, err_msg=name)
    less = ak.without_field(records, "mu_k")
    with pytest.raises(InputError, match=r"no column 'mu_k'.*'columns\.curvature'"):
        chunk.selected(ak.with_parameter(less, "metadata", where), sample, needs, cuts)


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_another_pt_of_the_same_file(format: str, tmp_path: Path) -> None:
    """Without a fallback: a muon whose constraint failed has no pt, and its event is counted."""
    pairs = [
        writing.pair(
            {"bsConstrainedPt": 41.0 if i else -1.0, "bsConstrainedPtErr": 0.3},
            {"bsConstrainedPt": 36.0, "bsConstrainedPtErr": 0.2},
        )
        for i in range(50)
    ]
    if format == "nanoaod":
        path = writing.nanoaod(tmp_path / "a.root", pairs)
        columns = {"pt": "Muon_bsConstrainedPt", "ptErr": "Muon_bsConstrainedPtErr"}
    else:
        made = writing.stage1_columns(pairs)
        for i in (0, 1):
            for own in ("Pt", "PtErr"):
                name = f"bsConstrained{own}"
                values = np.array([p[i][name] for p in pairs], dtype=np.float32)
                made[f"mu{i + 1}_{name}"] = values
        path = writing.stage1(tmp_path / "a.parquet", made)
        columns = {
            f"mu{i}_{n}": f"mu{i}_bsConstrained{o}"
            for i in (1, 2)
            for n, o in (("pt", "Pt"), ("ptErr", "PtErr"))
        }
    config = with_columns(configured(format, [path]), **columns)
    found = collect(config, tmp_path, settings=WITH_ERROR)
    assert found.counts["rejected"] == {"bad_pt": 1} and found.adds_up
    assert np.all(found.events["pt"] == 41.0) and np.all(found.events["pt2"] == 36.0)
    np.testing.assert_array_equal(found.events["pt_err"], np.full(49, np.float32(0.3)))
    assert pt_of(config.samples[0]) == "bsConstrainedPt"
    twice = config.model_copy(
        update={"selection": config.selection.model_copy(update={"muon_pt": "bsConstrainedPt"})}
    )
    with pytest.raises(InputError, match="'columns'.*'selection.muon_pt'"):
        collect(twice, tmp_path)


def test_stage1_under_other_names(tmp_path: Path, events: list[Any]) -> None:
    ours = writing.stage1_columns(events)
    writing.stage1(tmp_path / "ours.parquet", ours)
    names = {"mu1": "lead", "mu2": "sub"}
    columns = {n: f"{names[n[:3]]}{n[3:]}" if n[:3] in names else f"{n}Number" for n in ours}
    writing.stage1(tmp_path / "theirs.parquet", {columns[n]: v for n, v in ours.items()})
    expected = collect(configured("stage1", ["ours.parquet"]), tmp_path, settings=WITH_ERROR)
    theirs = with_columns(configured("stage1", ["theirs.parquet"]), **columns)
    found = collect(theirs, tmp_path, settings=WITH_ERROR)
    assert found.counts == expected.counts and expected.counts["selected"] > 100
    for name, values in expected.events.items():
        np.testing.assert_array_equal(found.events[name], values, err_msg=name)


def test_a_branch_that_is_not_there(tmp_path: Path) -> None:
    path = writing.nanoaod(tmp_path / "a.root", [writing.pair({"corrPt": 41.0}, {"corrPt": 36.0})])
    config = with_columns(configured("nanoaod", [path]), pt="Muon_corPt")
    sentence = r"a\.root: no branch 'Muon_corPt', which key 'columns\.pt'.*did you mean Muon_corrPt"
    with pytest.raises(InputError, match=sentence):
        collect(config, tmp_path)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"pt": {"branch": "mu_pt", "unit": "cm"}}, "unit 'cm' of 'pt', expected one of GeV"),
        ({"eta": {"branch": "mu_eta", "unit": "GeV"}}, "it has no unit"),
        ({"pt": "mu_pt", "curvature": "mu_k"}, "'pt' is given twice"),
        ({"curvatureErr": "mu_k"}, "needs 'curvature' beside it"),
        ({"pt": {"branch": "mu pt"}}, "should match pattern"),
    ],
)
def test_columns_that_make_no_sense(columns: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        with_columns(configured("nanoaod", ["a.root"]), **columns)
