"""A selection on branches that some files lack: the first fallback that fits, and it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from calib.errors import InputError
from calib.schema import Sample, Selection
from jobs.config.schema import load
from processors.defaults import resolve
from tests.processors import writing
from tests.processors.peak import collect, configured

SAMPLE = Sample(name="s", resonance="z", format="nanoaod", files=("-",))
NEW = frozenset({"HLT_IsoMu24", "Muon_mediumId", "Muon_pfRelIso04_all"})
OLD = frozenset({"HLT_IsoMu20", "HLT_Mu50", "Muon_tightId"})
FALLBACKS = [
    {"name": "other trigger", "triggers": ["HLT_IsoMu20"]},
    {
        "name": "2015",
        "triggers": ["HLT_IsoMu20", "HLT_Mu50"],
        "identification": "tight",
        "isolation": "none",
    },
    {"name": "last", "triggers": [], "identification": "none", "isolation": "none"},
]


def resolved(have: dict[str, frozenset[str]], fallbacks: Any = FALLBACKS) -> Any:
    selection = Selection(
        triggers=("HLT_IsoMu24",), identification="medium", isolation=0.2, fallbacks=fallbacks
    )
    return resolve(SAMPLE, selection, {"leading_pt": 26.0}, have, None)


def test_all_is_there() -> None:
    found, notes = resolved({"a": NEW, "b": NEW | OLD})
    assert (found.triggers, found.identification, found.isolation) == (
        ("HLT_IsoMu24",),
        "medium",
        0.2,
    )
    assert notes == [] and found.leading_pt == 26.0


@pytest.mark.parametrize(
    ("have", "name", "expected"),
    [
        (OLD, "2015", (("HLT_IsoMu20", "HLT_Mu50"), "tight", None)),
        (
            OLD | {"Muon_mediumId", "Muon_pfRelIso04_all"},
            "other trigger",
            (("HLT_IsoMu20",), "medium", 0.2),
        ),
        (frozenset(), "last", ((), None, None)),
    ],
)
def test_the_first_that_fits(have: Any, name: str, expected: Any) -> None:
    found, notes = resolved({"a": have, "b": have})
    assert (found.triggers, found.identification, found.isolation) == expected
    assert len(notes) == 1 and f"fallback {name!r}" in notes[0] and "degraded" in notes[0]
    assert "no HLT_IsoMu24 in a" in notes[0] and found.leading_pt == 26.0


def test_one_selection_for_all_files_of_a_sample() -> None:
    found, notes = resolved({"a": NEW, "b": OLD})
    assert found.identification is None and "fallback 'last'" in notes[0]
    assert "no HLT_IsoMu24 in b" in notes[0]


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    values = configured("nanoaod", ["a.root"]).model_dump(mode="json")
    values["selection"]["fallbacks"] = [{"name": "x", "trigers": []}]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"unknown key 'selection.fallbacks.0.trigers'"):
        load(path)


def test_from_the_file_to_the_notes(tmp_path: Path) -> None:
    events = [writing.pair(), writing.pair({"tightId": False}), writing.pair()]
    fired = {"HLT_IsoMu20": np.array([True, True, False])}
    file = writing.nanoaod(
        tmp_path / "a.root", events, without=("HLT_IsoMu24", "Muon_mediumId"), **fired
    )
    asked = {"triggers": ["HLT_IsoMu24"], "identification": "medium"}
    fallback = {"name": "2015", "triggers": ["HLT_IsoMu20"], "identification": "tight"}
    found = collect(configured("nanoaod", [file], **asked, fallbacks=[fallback]), tmp_path)
    assert found.counts["rejected"] == {"trigger": 1, "identification": 1}
    assert [n for n in found.notes if "'2015'" in n and "degraded" in n]
    with pytest.raises(InputError, match="HLT_IsoMu24.*selection.triggers"):
        collect(configured("nanoaod", [file], **asked), tmp_path)
