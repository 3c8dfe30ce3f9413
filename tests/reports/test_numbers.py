"""Numbers that are none: in the events, and in the settings of every calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from calib import calibrations
from calib.errors import InputError
from calib.schema import Selection, validated
from calib.toys.generation import generate
from jobs.cli import app
from jobs.config.schema import Config
from jobs.events.root import inspect_root
from jobs.events.toys import write_toys
from jobs.nightly import settings as nightly
from processors.readers.events import require_whole

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    made = generate("z", 400, seed=5)
    (path,) = write_toys(tmp_path_factory.mktemp("toys") / "z", made, "stage1")
    return pq.read_table(path)


def collected(folder: Path, table: pa.Table, more: str = "") -> Any:
    pq.write_table(table, folder / "events.parquet")
    (folder / "z.yaml").write_text(
        "name: z\ncalibration: mass_resolution\ncluster: {kind: inline}\nsamples:\n"
        f"  - {{name: data, resonance: z, format: stage1, files: [events.parquet]}}\n{more}"
    )
    return CliRunner().invoke(
        app, ["collect", str(folder / "z.yaml"), "--out", str(folder / "run")]
    )


def gaps(value: float) -> Change:
    return lambda v: np.where(np.arange(len(v)) % 3 == 0, value, v)


WRONG: list[tuple[str, Change, str]] = [
    ("run", gaps(math.nan), "no whole numbers (the first: nan)"),
    ("luminosityBlock", gaps(math.nan), "no whole numbers"),
    ("event", gaps(math.nan), "134 of 400"),
    ("run", gaps(math.inf), "no whole numbers (the first: inf)"),
    ("event", gaps(0.5), "no whole numbers (the first: 0.5)"),
    ("run", lambda v: (v % 100 + 0.5).astype(np.float16), "no whole numbers"),
    ("event", lambda v: (v + 2e9).astype(np.float32), "above 16777216"),
    ("run", lambda v: np.full(len(v), -1, np.int32), "holds -1"),
    ("luminosityBlock", gaps(-3.0), "holds -3"),
    ("run", lambda v: np.full(len(v), 2**40, np.int64), "from 0 to 4294967295"),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG)
def test_numbers_of_events_that_are_none(
    tmp_path: Path, table: pa.Table, name: str, change: Change, said: str
) -> None:
    values = change(table[name].to_numpy().astype(np.float64))
    place = table.column_names.index(name)
    found = collected(tmp_path, table.set_column(place, name, pa.array(values)))
    assert found.exit_code == 2, found.output
    assert f"events.parquet: column '{name}'" in found.stderr and said in found.stderr
    assert not (tmp_path / "run" / "accounting.json").exists()


def test_whole_numbers_as_floats_are_taken(tmp_path: Path, table: pa.Table) -> None:
    place = table.column_names.index("run")
    values = pa.array(table["run"].to_numpy().astype(np.float64))
    assert collected(tmp_path, table.set_column(place, "run", values)).exit_code == 0


def test_numbers_of_nanoaod(tmp_path: Path) -> None:
    run = np.array([1.0, np.nan, 3.0])
    with uproot.recreate(tmp_path / "a.root") as made:
        made.mktree("Events", {"run": np.float64, "Muon_pt": "var * float32"})
        made["Events"].extend({"run": run, "Muon_pt": [[1.0], [2.0], []]})
    with pytest.raises(InputError, match=r"a.root: column 'run' has 1 of 3 values"):
        inspect_root(str(tmp_path / "a.root"), ("run", "Muon_pt"))


@given(
    values=st.lists(st.floats(width=64) | st.integers(-(2**40), 2**40), max_size=9),
    name=st.sampled_from(["run", "luminosityBlock", "event"]),
)
@settings(max_examples=60, derandomize=True)
def test_only_whole_numbers_pass(values: list[float], name: str) -> None:
    array = np.array(values, dtype=np.float64)
    largest = 2.0**53 if name == "event" else 2**32 - 1
    good = all(math.isfinite(v) and v == int(v) and 0 <= v <= largest for v in array.tolist())
    try:
        require_whole(array, name, "file")
        assert good
        assert np.array_equal(array.astype(np.uint64).astype(np.float64), array)
    except InputError:
        assert not good


# settings -----------------------------------------------------------------------------------------
def fields(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every key of a model with its type and default, models inside included."""
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from fields(type(default), f"{before}{name}.")
        else:
            yield f"{before}{name}", field.annotation, default


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def is_of_numbers(annotation: Any) -> bool:
    if annotation is float:
        return True
    return any(is_of_numbers(a) for a in get_args(annotation) if get_origin(annotation) is not dict)


MODELS: dict[str, type[BaseModel]] = {
    **{
        f"settings of {n}": calibrations.get(n).Settings
        for n in ("mass_resolution", "momentum_scale", "impact_parameter")
    },
    "selection": Selection,
    "test": nightly.TestSettings,
    "gate": nightly.GateSettings,
}


@pytest.mark.parametrize("name", MODELS)
def test_no_setting_takes_what_is_no_number(name: str) -> None:
    tried = 0
    for key, annotation, default in fields(MODELS[name]):
        if not is_of_numbers(annotation):
            continue
        for wrong in (math.nan, math.inf, -math.inf, True):
            is_list = isinstance(default, tuple)
            value = [*default[:-1], wrong] if is_list else wrong
            with pytest.raises(InputError, match=rf"key '{key}") as error:
                validated(MODELS[name], nested(key, value), "file")
            assert "nput should" not in str(error.value)
            tried += 1
    assert tried >= 8


@pytest.mark.parametrize("name", MODELS)
def test_every_number_has_a_bound(name: str) -> None:
    """A share of 7, a probability of -1, a number of standard deviations below 0 are refused."""
    unbounded = []
    for key, _, default in fields(MODELS[name]):
        if not isinstance(default, float):
            continue
        taken = 0
        for wrong in (-1e9, 1e9):
            with suppress(InputError):
                validated(MODELS[name], nested(key, wrong), "file")
                taken += 1
        unbounded += [key] * (taken == 2)
    assert unbounded == []


@pytest.mark.parametrize("name", MODELS)
def test_no_setting_takes_edges_that_do_not_ascend(name: str) -> None:
    for key, _, default in fields(MODELS[name]):
        shares = key.endswith("shares")
        if not isinstance(default, tuple) or len(default) < 2 or shares:
            continue
        if not all(isinstance(v, float) for v in default):
            continue
        for wrong in (default[::-1], (default[0], default[0], *default[2:])):
            with pytest.raises(InputError, match=rf"key '{key}"):
                validated(MODELS[name], nested(key, list(wrong)), "file")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mass_window": [105, 75]}, r"'selection.mass_window'.*write \[75, 105\]"),
        ({"abs_eta": -2.4}, "'selection.abs_eta'.*above 0"),
        ({"subleading_pt": -5}, "'selection.subleading_pt'"),
        ({"leading_pt": 26000000}, "'selection.leading_pt'.*below 10000"),
        ({"isolation": -0.1}, "'selection.isolation'.*auto or none"),
        ({"triggers": "HLT_IsoMu24"}, r"'selection.triggers'.*a list.*\[HLT_IsoMu24\]"),
        ({"triggers": [""]}, "'selection.triggers.0'"),
    ],
)
def test_selections_that_cannot_be_meant(values: dict[str, Any], said: str) -> None:
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["x"]}
    config = {"name": "z", "calibration": "c", "samples": [sample], "selection": values}
    with pytest.raises(InputError, match=said):
        validated(Config, config, "z.yaml")
