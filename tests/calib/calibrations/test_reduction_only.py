"""Settings that are said to touch no events are not looked at in the event loop."""

from __future__ import annotations

from typing import Any

import pytest

from calib.calibrations import build
from calib.calibrations.base import Calibration
from calib.results import Pass
from calib.schema import Sample
from calib.toys.generation import generate
from jobs.config.schema import Config


class Guard:
    """Settings that break where a forbidden one is looked at."""

    def __init__(self, settings: Any, forbidden: tuple[str, ...], place: str = "") -> None:
        self._settings, self._forbidden, self._place = settings, forbidden, place

    def __getattr__(self, name: str) -> Any:
        key = f"{self._place}{name}"
        if key in self._forbidden:
            raise AssertionError(f"the event loop looks at {key}")
        value = getattr(self._settings, name)
        inner = tuple(k for k in self._forbidden if k.startswith(f"{key}."))
        return Guard(value, self._forbidden, f"{key}.") if inner else value


def guarded(name: str, resonance: str, **settings: Any) -> tuple[Calibration, Sample]:
    sample = Sample(name="data", resonance=resonance, format="stage1", files=("-",))  # type: ignore[arg-type]
    made = build(Config(name="x", calibration=name, samples=(sample,), settings=settings))
    # which model is made is asked of the line shape, and is among the collected settings
    forbidden = tuple(k for k in made.reduction_only if k != "line_shape")
    made.settings = Guard(made.settings, forbidden)  # type: ignore[assignment]
    return made, sample


@pytest.mark.parametrize(
    ("name", "resonance"),
    [("mass_resolution", "z"), ("momentum_scale", "jpsi"), ("momentum_scale", "z")],
)
def test_the_event_loop_does_not_look_at_them(name: str, resonance: str) -> None:
    made, sample = guarded(name, resonance)
    pairs = generate(resonance, 300, seed=3).pairs
    made.rejects(pairs, sample)
    assert made.collect(pairs, sample, Pass())
    assert made.selection(sample) and made.needs(sample)


def test_the_guard_guards() -> None:
    made, _ = guarded("mass_resolution", "z")
    with pytest.raises(AssertionError, match="gates"):
        _ = made.settings.gates  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match=r"fit\.background"):
        _ = made.settings.fit.background  # type: ignore[attr-defined]


def test_models_that_are_embedded_are_part_of_the_sums() -> None:
    sample = Sample(name="data", resonance="z", format="stage1", files=("-",))
    found = [
        build(
            Config(name="x", calibration="mass_resolution", samples=(sample,), settings=changed)
        ).collect_settings()
        for changed in (
            {},
            {"compare": []},
            {"gates": {"min_events": 7}},
            {"line_shape": "breit_wigner"},
            {"copies": 3},
        )
    ]
    assert found[0] == found[1] == found[2]
    assert found[3] != found[0] and found[4] != found[0]
