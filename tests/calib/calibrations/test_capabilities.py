"""What a calibration can is what it is derived from; halves are made for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calib import calibrations, plugin
from calib.calibrations.capabilities import corrects, following_pass, half_of
from calib.events.pairs import Muons, Pairs
from calib.plugin import Categories, Fill, Formula, Parameters, Reduction, Sample, Status
from calib.quality.publication_gate import moved, relative
from calib.results import Pass
from calib.toys.generation import generate
from processors.fill import fill

BINS = Categories.of([plugin.Axis("abs_eta", (0.0, 1.2, 2.4))])
EDGES = np.linspace(80.0, 102.0, 45)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])


class Position(plugin.ClosesInHalves[Pairs], plugin.CorrectsMuons, plugin.Calibration):
    """Mean mass by |eta|, over 91."""

    name = "position"
    payload = {"position": Formula("factor", outside=1.0)}
    pt_factor = "position"

    def observe(self, events: Pairs, sample: Sample) -> dict[str, Any]:
        at = BINS.index(np.abs(events.leading.eta))
        return {"mass": Fill(at, len(BINS), events.mass, EDGES, events.weight, {"m": events.mass})}

    def fit(self, sums: Any, edits: Any, whole: Reduction | None = None) -> Reduction:
        w = np.asarray(sums["data"]["mass/sumw"])
        mean = w @ CENTRES / w.sum(axis=1)
        error = np.sqrt(np.sum(w * (CENTRES - mean[:, None]) ** 2, axis=1)) / w.sum(axis=1)
        status, covariance = [Status.OK] * len(BINS), np.diag((error / mean) ** 2)
        found = Parameters(BINS.axes, ("factor",), ("",), 91.0 / mean, covariance, status)
        return Reduction(found.as_fits("data"), parameters={"": found})


def position(*simulated: bool) -> Position:
    samples = [
        Sample(name=f"s{i}", resonance="z", format="stage1", files=("-",), simulation=s)
        for i, s in enumerate(simulated)
    ]
    return Position(plugin.Strict(), samples, 1)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return generate("z", 20_000, seed=5).pairs


def test_halves_are_made_and_compared(pairs: Pairs) -> None:
    own = position(False)
    sample = own.samples[0]
    sums = {"s0": fill(own.collect(pairs, sample, Pass()))}
    assert sums["s0"]["mass/counts"].shape == (4, 44)
    whole = fill(own.observe(pairs, sample))
    halves = [half_of(sums["s0"], h) for h in (0, 1)]
    for name, values in whole.items():
        np.testing.assert_allclose(halves[0][name] + halves[1][name], values, rtol=1e-12)
    sizes = [int(h["mass/counts"].sum()) for h in halves]
    assert abs(sizes[0] - sizes[1]) < 5 * np.sqrt(len(pairs))
    found = own.reduce(sums, {})
    assert own.closure_pass(found) is None
    tested = own.closure(sums, found)
    assert all(c.passed for c in tested.checks) and len(tested.table) == 2
    values = np.asarray(found.state[":values_halves"])
    np.testing.assert_array_equal(tested.table["fitted"], values[1, :, 0])
    # one half that is off does not close
    state = {**found.state, ":values_edited": values * np.array([1.0, 1.02])[:, None, None]}
    assert not all(c.passed for c in own.closure(sums, replace(found, state=state)).checks)
    with pytest.raises(plugin.InputError, match="nothing of a category of position can be set"):
        own.reduce(sums, {"x": {"use": False}})


def test_kinds(pairs: Pairs) -> None:
    few = pairs.take(np.arange(2000))
    for simulated, kinds in (
        ((False, False, True), ["data", "simulation"]),
        ((True, False), ["data", "simulation"]),
        ((True, True), ["data"]),
    ):
        own = position(*simulated)
        sums = {s.name: fill(own.collect(few, s, Pass())) for s in own.samples}
        found = own.by_kind(sums)
        assert list(found) == kinds
        n = sum(kind == "data" for kind in (plugin.kind_of(s, own.samples) for s in own.samples))
        assert found["data"]["mass/counts"].sum() == n * sums["s0"]["mass/counts"].sum()


def test_payload_corrects_muons(pairs: Pairs) -> None:
    own = position(False)
    found = own.reduce({"s0": fill(own.collect(pairs, own.samples[0], Pass()))}, {})
    document = own.publish(found)
    assert all(c.passed for c in own.check_payload(document, found))
    assert own.payload_names == ("position",) and len(own.values(document)) == 2
    eta, charge = np.array([-0.3, 1.5, 3.0, np.nan]), np.ones(4, dtype=np.int64)
    muons = Muons(np.full(4, 40.0), eta, np.zeros(4), charge, np.ones(4))
    made = own.apply_muons(document, muons, *3 * (np.zeros(4),), False)
    factor = found.parameters[""].values[:, 0]
    np.testing.assert_allclose(made.pt, 40 * np.array([*factor, 1.0, 1.0]))
    assert made.pt_err is not None
    np.testing.assert_allclose(made.pt_err, made.pt / 40)
    columns = own.apply(document, pairs)
    at = BINS.index(np.abs(pairs.leading.eta))
    np.testing.assert_allclose(columns["mu1_pt"], pairs.leading.pt * factor[at])
    titles = [s.title for s in own.sections(found, None, document)]
    assert titles == ["position", "What moved"]


def test_shifts_are_relative_where_something_is_corrected(pairs: Pairs) -> None:
    own = position(False)
    found = own.reduce({"s0": fill(own.collect(pairs, own.samples[0], Pass()))}, {})
    effects = type(own).effects(found.tables, found.arrays)
    assert effects.relative and effects.names == ("0-1.2_factor", "1.2-2.4_factor")

    class Width(Position):
        positive = True

    logs = Width.effects(found.tables, found.arrays)
    np.testing.assert_allclose(logs.values, np.log(effects.values))
    np.testing.assert_allclose(logs.errors, effects.errors / effects.values)
    doubled = replace(effects, values=2 * effects.values, relative=False)
    change = moved(doubled, replace(effects, relative=False))
    assert not change.relative
    np.testing.assert_allclose(relative(change, effects).values, 1.0)


def test_ours_say_what_they_can() -> None:
    kinds = {name: calibrations.get(name) for name in calibrations.available()}
    words = {name: corrects(kind) for name, kind in kinds.items() if ":" not in name}
    assert words["momentum_scale"] == "muons" and words["mass_resolution"] == "pairs"
    assert words["impact_parameter"] == "nothing"
    scale, width = kinds["momentum_scale"], kinds["impact_parameter"]
    assert issubclass(scale, plugin.Iterates) and issubclass(scale, plugin.Exports)
    assert issubclass(width, plugin.ClosesInHalves) and not issubclass(width, plugin.Iterates)
    assert following_pass(position(False), Reduction(None), Pass()) is None  # type: ignore[arg-type]


def test_a_method_says_what_a_class_of_an_earlier_version_can() -> None:
    with pytest.warns(DeprecationWarning, match="'closure'.*derive it from calib.plugin.Closes"):

        class Earlier(plugin.Calibration):
            def closure(self, sums: Any, reduction: Any) -> Any:
                return None

    assert issubclass(Earlier, plugin.Closes) and not issubclass(Earlier, plugin.Iterates)
    assert Earlier.closure_pass(Earlier, Reduction(None)) is None  # type: ignore[arg-type]


def test_iterations_end() -> None:
    class Settings(plugin.Strict):
        max_passes: int = 2

    class Walker(plugin.Iterates):
        settings = Settings()
        passes_on = ("c",)

    def reduction(done: bool) -> Reduction:
        return Reduction(None, state={"converged": np.array(done), "c": np.arange(3)})  # type: ignore[arg-type]

    walk = Walker().next_pass(reduction(False), Pass())
    assert walk is not None and walk.name == "1" and list(walk.values) == ["c"]
    assert Walker().next_pass(reduction(True), Pass()) is None
    assert Walker().next_pass(reduction(False), Pass("2")) is None


def test_entries_that_belong_to_no_event_are_refused(pairs: Pairs) -> None:
    class Odd(Position):
        def observe(self, events: Pairs, sample: Sample) -> dict[str, Any]:
            found = super().observe(events, sample)["mass"]
            first = replace(found, **{n: getattr(found, n)[1:] for n in ("category", "value")})
            return {"mass": first}

    own = Odd(plugin.Strict(), position(False).samples, 1)
    with pytest.raises(ValueError, match="mass: 19999 entries of 20000 events"):
        own.collect(pairs, own.samples[0], Pass())
