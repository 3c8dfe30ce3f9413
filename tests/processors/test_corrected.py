"""Payloads in the event loop: as if the events had been written corrected, however they are cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calib import calibrations
from calib.calibrations.base import Needs
from calib.calibrations.momentum_scale.payloads import payload
from calib.errors import InputError
from calib.events.pairs import Pairs
from calib.physics.kinematics import predicted_mass_resolution
from calib.schema import Sample
from calib.toys.generation import generate
from jobs.events.apply import apply_payload
from jobs.events.toys import write_nanoaod, write_stage1
from jobs.run import payloads
from processors.corrections import Correction, tried
from processors.readers import chunk
from processors.selection import ResolvedSelection
from tests.calib.calibrations.momentum_scale import synthetic
from tests.processors import test_levels as levels

NEEDS = Needs(optional=("ptErr",))
CUTS = ResolvedSelection(
    leading_pt=26.0, subleading_pt=20.0, abs_eta=2.4, mass_window=(80.0, 100.0)
)


def quiet(text: str, done: int, total: int) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return payload.document(synthetic.reduction())


@pytest.fixture(scope="module")
def scale(document: dict[str, Any]) -> Correction:
    return Correction("scale/payload.json", "0" * 64, "momentum_scale", document)


@pytest.fixture(scope="module")
def factor() -> Correction:
    """The factor is 1 + 0.1 times the ring of the leading muon, plus that of the other."""
    kind = calibrations.get("mass_resolution")
    settings = kind.Settings()
    rings = np.arange(3)
    content = 1 + 0.1 * (rings[:, None] + rings) * np.ones((4, 1, 1))
    inputs = ("leading_pt", "leading_abs_eta", "subleading_abs_eta")
    edges = (settings.leading_pt, settings.abs_eta, settings.abs_eta)
    correction = {
        "name": kind.payload_names[0],
        "version": 1,
        "inputs": [{"name": name, "type": "real"} for name in inputs],
        "output": {"name": "factor", "type": "real"},
        "data": {
            "nodetype": "multibinning",
            "inputs": list(inputs),
            "flow": "clamp",
            "edges": [list(e) for e in edges],
            "content": content.ravel().tolist(),
        },
    }
    found = {"schema_version": 2, "corrections": [correction]}
    return Correction("factors/payload.json", "1" * 64, "mass_resolution", found)


def sample(format: str, simulation: bool = False) -> Sample:
    return Sample(name="s", resonance="z", format=format, files=("-",), simulation=simulation)


def selected(
    path: Path,
    n: int,
    corrections: tuple[Correction, ...] = (),
    simulation: bool = False,
    step: int = 10**9,
    cuts: ResolvedSelection = CUTS,
) -> tuple[list[Pairs], dict[str, int]]:
    """Return the pairs of a file, chunk by chunk, and how many events each reason took."""
    format = {".root": "nanoaod", ".parquet": "stage1"}[path.suffix]
    parts, rejected = [], {}
    for start in range(0, n, step):
        where = {
            "filename": str(path),
            "treename": "Events",
            "entrystart": start,
            "entrystop": min(n, start + step),
        }
        found = chunk.selected(
            chunk.FileEntries(where), sample(format, simulation), NEEDS, cuts, corrections
        )
        parts.append(found.pairs)
        for reason, count in found.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
    return parts, rejected


def columns(parts: list[Pairs]) -> dict[str, Any]:
    found = [{**levels.columns(p), "mass": p.mass} for p in parts]
    return {k: np.concatenate([f[k] for f in found]) for k, v in found[0].items() if v is not None}


def in_double(path: Path) -> Path:
    """Write the pt of a stage1 file in double precision, so that nothing is rounded on the way."""
    table = pq.read_table(path)
    for name in ("mu1_pt", "mu2_pt", "mu1_ptErr", "mu2_ptErr"):
        at = table.column_names.index(name)
        table = table.set_column(at, name, table.column(name).cast(pa.float64()))
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("simulation", [False, True])
def test_rows_are_as_written_by_apply(tmp_path, document, scale, simulation):
    made = generate("z", 4000, seed=3, simulation=simulation)
    write_stage1(tmp_path / "in.parquet", made.pairs, simulation=simulation)
    events = in_double(tmp_path / "in.parquet")
    payloads.write(tmp_path / "payload.json", document)
    out = tmp_path / "out.parquet"
    apply_payload(tmp_path / "payload.json", events, out, quiet)
    expected, reasons = selected(out, 4000, simulation=simulation)
    found, own = selected(events, 4000, (scale,), simulation, step=700)
    assert own == reasons and {"pt", "mass_window"} <= set(own)
    wanted = columns(expected)
    for name, values in columns(found).items():
        np.testing.assert_array_equal(values, wanted[name], err_msg=name)
    # not a comparison of nothing with nothing: other pairs are selected, at another mass
    plain = columns(selected(events, 4000, simulation=simulation)[0])
    assert not np.array_equal(plain["event"], wanted["event"])


def written(path: Path, simulation: bool) -> Path:
    """Write NanoAOD of any number of muons an event, some with bad values, pt in double."""
    rng = np.random.default_rng(8)
    parts = [levels.branches(700, rng, True) for _ in range(3)]
    for part in parts:
        for name in ("pt", "ptErr"):
            part["Muon"] = levels.ak.with_field(
                part["Muon"], levels.ak.values_astype(part["Muon"][name], np.float64), name
            )
        if not simulation:
            del part["genWeight"], part["GenPart"]
            part["Muon"] = levels.ak.without_field(part["Muon"], "genPartIdx")
    return levels.write(path, parts)


@pytest.mark.parametrize("simulation", [False, True])
def test_nanoaod_is_as_written_by_apply(tmp_path, document, scale, simulation):
    events = written(tmp_path / "in.root", simulation)
    payloads.write(tmp_path / "payload.json", document)
    out = tmp_path / "out.root"
    apply_payload(tmp_path / "payload.json", events, out, quiet)
    cuts = replace(CUTS, mass_window=(20.0, 200.0), identification="medium")
    found, own = selected(events, 2100, (scale,), simulation, step=500, cuts=cuts)
    # what apply writes has no generated particles any more
    expected, reasons = selected(out, 2100, cuts=cuts)
    if not simulation:
        assert own == reasons
    wanted, mine = columns(expected), columns(found)
    if simulation:  # events without a good weight are left out of simulation alone
        both = np.isin(wanted["event"], mine["event"])
        assert both.sum() == len(mine["event"]) > 50
        wanted = {k: v[both] for k, v in wanted.items()}
    for name in ("leading.pt", "subleading.pt", "leading.pt_err", "mass", "event"):
        np.testing.assert_array_equal(mine[name], wanted[name], err_msg=name)
    plain = columns(selected(events, 2100, simulation=simulation, cuts=cuts)[0])
    assert not np.array_equal(plain["leading.pt"], wanted["leading.pt"])


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_a_factor_multiplies_the_prediction_alone(tmp_path, factor, scale, format):
    pairs = generate("z", 3000, seed=4).pairs
    if format == "nanoaod":
        write_nanoaod(tmp_path / "in.root", pairs, simulation=False)
        path = tmp_path / "in.root"
    else:
        write_stage1(tmp_path / "in.parquet", pairs, simulation=False)
        path = tmp_path / "in.parquet"
    before = selected(path, 3000, (scale,))[0][0]
    after = selected(path, 3000, (scale, factor))[0][0]
    np.testing.assert_array_equal(after.mass, before.mass)
    rings = [
        np.searchsorted((0.9, 1.8), np.abs(m.eta), side="right")
        for m in (before.leading, before.subleading)
    ]
    predicted = [
        predicted_mass_resolution(
            p.mass, p.leading.pt_err / p.leading.pt, p.subleading.pt_err / p.subleading.pt
        )
        for p in (before, after)
    ]
    assert len(np.unique(rings[0] + rings[1])) == 5
    np.testing.assert_allclose(
        predicted[1] / predicted[0], 1 + 0.1 * (rings[0] + rings[1]), rtol=1e-12
    )


def test_two_payloads_are_applied_in_order(tmp_path, document, scale):
    """The scale of events that are at 20 GeV is not that of events that were moved twice."""
    pairs = generate("z", 500, seed=5).pairs
    write_stage1(tmp_path / "in.parquet", pairs, simulation=False)
    payloads.write(tmp_path / "payload.json", document)
    events = in_double(tmp_path / "in.parquet")
    for i, name in enumerate(("one", "two")):
        before = events if i == 0 else tmp_path / "one.parquet"
        out = tmp_path / f"{name}.parquet"
        apply_payload(tmp_path / "payload.json", before, out, quiet, again=True)
    wanted = columns(selected(tmp_path / "two.parquet", 500)[0])
    found = columns(selected(events, 500, (scale, scale))[0])
    np.testing.assert_array_equal(found["leading.pt"], wanted["leading.pt"])


def test_what_cannot_be_applied_is_refused_before_any_event(scale, factor):
    tried(scale, True)
    tried(factor, False)
    bare = replace(scale, document=payload.document(synthetic.reduction(simulation=False)))
    tried(bare, False)
    with pytest.raises(InputError, match="made without a simulated sample"):
        tried(bare, True)
