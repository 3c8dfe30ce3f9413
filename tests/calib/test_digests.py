"""Digests depend on values alone, and on all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.digests import code_version, digest
from calib.results import Pass
from jobs.config.schema import Cluster

VALUES: list[Any] = [
    None,
    True,
    1,
    1.0,
    "1",
    b"1",
    "",
    (),
    {},
    (1,),
    ((1,),),
    (1, 2),
    {"a": 1},
    {"b": 1},
    {"a": 1, "b": 2},
    np.arange(3),
    np.arange(3.0),
    np.arange(3).reshape(3, 1),
    Path("1/2"),
    Cluster(),
    Cluster(workers=3),
    Pass(),
    Pass("main", {"x": np.zeros(2)}),
    Pass("main", {"x": np.ones(2)}),
    ("ab", "c"),
    ("a", "bc"),
    frozenset({1, 2}),
]


def test_different_values_have_different_digests() -> None:
    assert len({digest(v) for v in VALUES}) == len(VALUES)


def test_order_of_keys_does_not_matter() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest((1, 2)) != digest((2, 1)) and digest(1, 2) != digest((1, 2))


def test_another_process_finds_the_same() -> None:
    code = (
        "from calib.digests import digest; from calib.results import Pass; import numpy as np;"
        "print(digest(Pass('1', {'x': np.arange(4.0)}), {'a', 'b', 'c'}, 'text'))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    expected = digest(Pass("1", {"x": np.arange(4.0)}), {"a", "b", "c"}, "text")
    assert found.stdout.strip() == expected


def test_objects_have_none() -> None:
    for value in (object(), np.array([object()])):
        with pytest.raises(TypeError):
            digest(value)


def test_code_version_follows_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_version([tmp_path])
    (tmp_path / "notes.txt").write_text("x")
    assert code_version([tmp_path]) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_version([tmp_path]) != first != code_version([tmp_path], Pass)
