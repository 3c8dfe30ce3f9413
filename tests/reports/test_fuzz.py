"""What others write, at random: a result that adds up, or one sentence in our own words.

Each property knows what must hold, so that what is accepted is tested as well.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from calib import calibrations
from calib.documents import yaml_text, yaml_values
from calib.errors import InputError
from jobs.catalog.luminosities import read_table
from jobs.config.schema import configuration, dump
from jobs.config.sites import merge
from jobs.nightly import settings as nightly

ROOT = Path(__file__).resolve().parents[2]
CONFIG: dict[str, Any] = {
    "name": "z",
    "calibration": "mass_resolution",
    "samples": [
        {"name": "data", "resonance": "z", "format": "stage1", "files": ["a"]},
        {"name": "mc", "resonance": "z", "format": "stage1", "files": ["b"], "simulation": True},
    ],
    "selection": {"leading_pt": 26.0, "mass_window": [75.0, 105.0], "triggers": ["HLT"]},
    "settings": {"gates": {"max_held": 0.2}, "fit": {"range": [80.0, 100.0]}, "copies": 4},
    "cluster": {"kind": "local", "workers": 2, "memory_limit": "2 GB"},
    "bad_files": {"skip_up_to": 0.1},
    "seed": 3,
}
FOREIGN = ("input should", "validation error", "literal[", "pydantic", "valid tuple", "traceback")

numbers = st.sampled_from([0, -1, 1, 2.5, 75, 1e9, 2**70, math.nan, math.inf, -0.0, 5])
words = st.sampled_from(["", "auto", "none", "z", "4GBB", "on", "2", "a b", "../x", "\x00"])
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=2),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return all (holder, key) of nested mappings and lists."""
    items: Any = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [*((value, k) for k, _ in items), *(p for _, v in items for p in places(v))]


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document with one or two values replaced, taken out, or put beside others."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        where = places(found)
        assume(where)
        holder, key = where[draw(st.integers(0, len(where) - 1))]
        kind = draw(st.integers(0, 4))
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw(words) or "more"] = draw(values)
        else:
            holder[key] = draw(values)
    return found


def is_sentence(error: InputError, where: str) -> None:
    said = str(error)
    assert where in said and len(said.splitlines()) == 1, said
    assert not any(word in said.lower() for word in FOREIGN), said


@given(changed(CONFIG))
@settings(max_examples=150, derandomize=True)
def test_configurations(document: Any) -> None:
    try:
        config = configuration(yaml_values(yaml_text(document)), "z.yaml")
        calibrations.build(config, "z.yaml")
    except InputError as error:
        if "there is no calibration" not in str(error) and "key 'calibration'" not in str(error):
            is_sentence(error, "z.yaml")
        return
    # what was accepted means the same when it is read again, and its numbers are numbers
    assert configuration(yaml_values(dump(config)), "again") == config
    window = config.selection.mass_window
    assert window is None or 0 <= window[0] < window[1] < math.inf
    assert 0 <= config.allowed_bad < 1 and config.cluster.workers >= 1
    for number in (config.selection.leading_pt, config.selection.abs_eta):
        assert number is None or math.isfinite(number)


@given(changed(yaml_values((ROOT / "jobs" / "pages" / "templates" / "nightly.yaml").read_text())))
@settings(
    max_examples=80,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nightlies(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "nightly.yaml"
    path.write_text(yaml_text(document), encoding="utf-8")
    try:
        found = nightly.load(path)
    except InputError as error:
        is_sentence(error, str(path))
        return
    names = [s.name for s in found.samples]
    assert len(set(names)) == len(names)
    for task in found.calibrations:
        assert any(s.grows for s in found.samples_of(task))
        assert 0 < task.gate.cut < task.gate.max < math.inf


@given(
    plain=st.lists(st.text(alphabet="aonyesffNO0123456789.:-_e~", max_size=8), max_size=6),
    keys=st.lists(st.sampled_from(["on", "y", "1e3", "null", "a", "0644"]), unique=True),
)
@settings(max_examples=150, derandomize=True)
def test_text_comes_back_as_text(plain: list[str], keys: list[str]) -> None:
    document = {"list": plain, "keys": dict.fromkeys(keys, "x")}
    written = yaml_text(document)
    assert yaml_values(written) == document == yaml.safe_load(written)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=5))
@settings(max_examples=100, derandomize=True)
def test_each_key_once(pairs: list[tuple[str, int]]) -> None:
    text = "\n".join(f"{key}: {value}" for key, value in pairs)
    keys = [key for key, _ in pairs]
    if len(set(keys)) == len(keys):
        assert (yaml_values(text) or {}) == dict(pairs)
    else:
        with pytest.raises(ValueError, match="stands in line"):
            yaml_values(text)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 9),
            st.integers(1, 4),
            st.sampled_from(["0.5", "2", "nan", "-1", "1e400", "", "x", "0"]),
        ),
        min_size=1,
        max_size=6,
    ),
    unit=st.sampled_from(["/fb", "/pb", "/nb", "fb", "lumi"]),
)
@settings(
    max_examples=120, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tables_of_luminosity(tmp_path: Path, rows: list[Any], unit: str) -> None:
    path = tmp_path / "lumi.csv"
    lines = [f"{run},{section},{value}" for run, section, value in rows]
    path.write_text("\n".join([f"run,ls,recorded({unit})", *lines]))
    try:
        found = read_table(path)
    except InputError as error:
        is_sentence(error, str(path))
        return
    scale = {"/fb": 1.0, "/pb": 1e-3, "/nb": 1e-6, "fb": 1.0}[unit]
    assert len(found) == len(rows)
    assert math.fsum(found.values()) == pytest.approx(scale * sum(float(v) for *_, v in rows))


@given(changed(CONFIG["cluster"]), changed(CONFIG["cluster"]))
@settings(max_examples=60, derandomize=True)
def test_a_site_below_a_configuration(site: Any, own: Any) -> None:
    merged = merge(site, own)
    assert set(merged) == set(site) | set(own)
    for key, value in own.items():
        if not isinstance(value, dict):
            assert merged[key] is value
