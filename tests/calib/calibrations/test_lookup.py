"""Calibrations are found by name: ours, those of entry points, and any class that imports."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from calib import calibrations
from calib.errors import InputError

PLUG_IN = """
from calib.calibrations.base import Calibration

class Mine(Calibration):
    name = "mine"
    payload_names = ("mine",)
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "a_plug_in.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path)
    return "a_plug_in:Mine"


def test_ours() -> None:
    for name in calibrations.available():
        assert calibrations.get(name).name == name


def test_class_by_its_module(plug_in: str) -> None:
    assert calibrations.get(plug_in).name == "mine"


def test_entry_point(plug_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", plug_in, calibrations.GROUP)
    monkeypatch.setattr(calibrations, "entry_points", lambda group: [point])
    assert "mine" in calibrations.available()
    assert calibrations.get("mine").name == "mine"
    assert calibrations.of_payload({"corrections": [{"name": "mine"}]}).name == "mine"


def test_what_is_not_there(plug_in: str) -> None:
    for name in ("mine", "base", "a_plug_in:Other", "no_module:Mine", "a_plug_in:Calibration.x"):
        with pytest.raises(InputError, match="key 'calibration'"):
            calibrations.get(name)
    with pytest.raises(InputError, match="subclass"):
        calibrations.get("pathlib:Path")


@pytest.mark.parametrize(
    "text", ["import no_such_module", "raise ValueError('not today')", "Mine = 3", PLUG_IN]
)
def test_a_broken_plug_in_is_named_and_leaves_the_others_alone(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"broken_{abs(hash(text))}"
    text = text.replace('payload_names = ("mine",)', "")
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("a_broken_one", f"{module}:Mine", calibrations.GROUP)
    monkeypatch.setattr(calibrations, "entry_points", lambda group: [point])
    assert "a_broken_one" in calibrations.available()
    assert calibrations.of_payload({"corrections": [{"name": "momentum_scale"}]})
    with pytest.raises(InputError, match="known here.*broken, and not asked: .*a_broken_one"):
        calibrations.of_payload({"corrections": [{"name": "of_others"}]})
    if "class" not in text:
        with pytest.raises(InputError, match="calibration 'a_broken_one' of package"):
            calibrations.get("a_broken_one")
