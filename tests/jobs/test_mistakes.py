"""A mistake in a configuration: the full key, in our words, and no directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app

MISTAKES: list[tuple[str, Any, str]] = [
    ("settings.leading_pt", "high", "found 'high', expected a list; correct it"),
    ("settings.leading_pt", [30, 20], "found [30, 20], not ascending: 20 comes after 30"),
    ("settings.gates.min_events", -1, "found -1, expected a number of at least 1"),
    ("settings.fit", 3, "found 3, expected keys with values"),
    ("settings.fit.range", [98], "found [98], expected a list of 2 entries"),
    ("settings.copies", 0, "found 0, expected 1 to 1000, a share between 0 and 1, or auto"),
    ("settings.copies", "many", "found 'many', expected auto or a number"),
    ("settings.compare", "embedded", "expected a list"),
    ("settings.compare", "embedded", "write [embedded]"),
    ("settings.abs_eta", [0, float("nan")], "a number that is neither nan nor infinite"),
    ("settings.line_shape", "embeded", "expected auto, embedded, simulation, kernel or"),
    ("samples", "data", "found 'data', expected a list; correct it"),
    ("samples.0.files", 3, "found 3, expected a list"),
    ("samples.0.resonance", "zz", "expected jpsi, upsilon, z, h or none"),
    ("samples.0.simulation", "maybe", "found 'maybe', expected true or false"),
    ("cluster.workers", "two", "found 'two', expected a whole number"),
    ("cluster.kind", "lokal", "found 'lokal', expected local, inline, address"),
    ("bad_files", "skip", "found 'skip', expected stop or keys with values"),
    ("bad_files.skip_up_to", 5, "a share of 5 % is written 0.05"),
    ("payloads", "a.json", "write [a.json]"),
    ("seed", 1.5, "found 1.5, expected a whole number"),
    ("calibration", 5, 'write it in quotes, "5"'),
]
UNKNOWN = [
    ("settings.gates.min_evnts", "min_events"),
    ("samples.0.files.qury", "query"),
    ("bad_files.skip_upto", "skip_up_to"),
    ("chnk_size", "chunk_size"),
]
WRONG = ("pydantic", "Input should", "tuple", "validation", "Literal", "type=")


def refused(tmp_path: Path, key: str, value: Any) -> str:
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["*.parquet"]}
    values: Any = {"name": "z", "calibration": "mass_resolution", "samples": [sample]}
    place = values
    *above, last = key.split(".")
    for part in above:
        if isinstance(place, list):
            place = place[int(part)]
            continue
        if not isinstance(place.get(part), dict | list) or part == "files":
            place[part] = {}
        place = place[part]
    place[last] = value
    config = tmp_path / "z.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    found = CliRunner().invoke(app, ["run", str(config), "--out", str(tmp_path / "out")])
    assert found.exit_code == 2, found.output
    assert not (tmp_path / "out").exists()
    assert not any(word in found.stderr for word in WRONG), found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    return found.stderr


@pytest.mark.parametrize(("key", "value", "words"), MISTAKES)
def test_a_wrong_value(tmp_path: Path, key: str, value: Any, words: str) -> None:
    said = refused(tmp_path, key, value)
    assert f"key '{key}" in said and words in said


@pytest.mark.parametrize(("key", "near"), UNKNOWN)
def test_an_unknown_key(tmp_path: Path, key: str, near: str) -> None:
    assert f"unknown key {key!r}; did you mean {near!r}?" in refused(tmp_path, key, 0.05)
