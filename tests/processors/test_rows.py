"""Rows of two muons, chosen at once: the same pairs and reasons as event by event."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.calibrations.base import Needs
from calib.schema import Sample
from processors import pairing
from processors.readers import stage1
from processors.selection import ResolvedSelection

NUMBER = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0])
MUON = st.tuples(
    st.one_of(NUMBER, st.floats(1, 60, width=32), st.sampled_from([3.6, 20.0, 26.0])),
    st.one_of(NUMBER, st.floats(-3, 3, width=32), st.sampled_from([2.4, -2.4, 10.0, -10.5])),
    st.one_of(NUMBER, st.floats(-4, 4, width=32)),
    st.sampled_from([1, -1, 1, -1, 0, 2]),
    st.one_of(NUMBER, st.floats(0.125, 2, width=32)),
    st.booleans(),
    st.sampled_from([0.0, 0.25, 0.3, np.nan]),
)
ROW = st.tuples(MUON, MUON, st.one_of(NUMBER, st.just(1.0)), st.booleans(), st.integers(1, 3))
LIMIT = st.sampled_from([None, 3.6, 20.0])
SELECTION = st.builds(
    ResolvedSelection,
    triggers=st.sampled_from([(), ("HLT_A",)]),
    identification=st.sampled_from([None, "medium"]),
    isolation=st.sampled_from([None, 0.25]),
    leading_pt=st.sampled_from([None, 3.6, 26.0]),
    subleading_pt=LIMIT,
    abs_eta=st.sampled_from([None, 2.4, 12.0]),
    opposite_charge=st.booleans(),
    mass_window=st.sampled_from([None, (10.0, 60.0)]),
    certified=st.sampled_from([None, ((1, 1, 5), (3, 1, 2))]),
)
SAMPLE = Sample(name="s", resonance="z", format="stage1", files=("-",))


def table(rows, kind: type) -> pa.Table:
    columns = {
        "run": np.array([row[4] for row in rows], dtype=np.uint32),
        "luminosityBlock": np.array([row[4] for row in rows], dtype=np.uint32),
        "event": np.arange(len(rows), dtype=np.int64),
        "wgt_nominal": np.array([row[2] for row in rows]),
        "HLT_A": np.array([row[3] for row in rows]),
    }
    names = ("pt", "eta", "phi", "charge", "ptErr", "mediumId", "pfRelIso04_all")
    types = (kind, kind, kind, np.int32, kind, np.bool_, kind)
    for i in (0, 1):
        for j, (name, dtype) in enumerate(zip(names, types, strict=True)):
            columns[f"mu{i + 1}_{name}"] = np.array([row[i][j] for row in rows], dtype=dtype)
    return pa.table(columns)


@pytest.mark.filterwarnings("ignore:invalid value")
@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=40), SELECTION, st.booleans())
def test_as_event_by_event(rows, selection, is_double) -> None:
    kind = np.float64 if is_double else np.float32
    columns = stage1.RowTable(table(rows, kind), "here")
    needs = Needs(muon=("ptErr",))
    expected, reasons = pairing.select(
        stage1.read_stage1(columns, {}, SAMPLE, needs, selection), selection
    )
    found, found_reasons = pairing.select_rows(
        stage1._rows(columns, SAMPLE, needs, selection, {}),
        selection,
        lambda at: stage1.read_stage1(columns.take(at), {}, SAMPLE, needs, selection),
    )
    assert found_reasons == reasons
    assert len(rows) == len(found) + sum(reasons.values())
    assert np.array_equal(found.event, expected.event)
    assert np.array_equal(found.weight, expected.weight)
    assert np.array_equal(found.mass, expected.mass)
    for a, b in ((found.leading, expected.leading), (found.subleading, expected.subleading)):
        for name in ("pt", "eta", "phi", "charge", "pt_err"):
            x, y = getattr(a, name), getattr(b, name)
            assert x.dtype == y.dtype and np.array_equal(x, y)
