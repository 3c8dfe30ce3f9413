"""Imports go down only: jobs -> processors -> calib. And no room knows a calibration by name."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import calib.calibrations

ROOT = Path(__file__).parent.parent
_SPEC = spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
assert _SPEC is not None and _SPEC.loader is not None
rooms = module_from_spec(_SPEC)
_SPEC.loader.exec_module(rooms)
FORBIDDEN = {
    "calib": {
        "processors",
        "jobs",
        "coffea",
        "dask",
        "distributed",
        "dask_awkward",
        "typer",
        "rich",
        "uproot",
        "click",
        "dask_jobqueue",
        "dask_gateway",
    },
    "processors": {"jobs", "dask", "distributed", "dask_awkward", "typer", "rich"},
    "jobs": {"tests"},
}


def sources(room: str) -> Iterator[Path]:
    yield from sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_go_down_only(room: str) -> None:
    assert list(sources(room))
    wrong = {str(p.relative_to(ROOT)): imported(p) & FORBIDDEN[room] for p in sources(room)}
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize("room", ["processors", "jobs"])
def test_no_calibration_is_known_by_name(room: str) -> None:
    there = {m.name for m in pkgutil.iter_modules(calib.calibrations.__path__)}
    ours = there - set(calib.calibrations.FRAMEWORK)
    assert ours
    for path in sources(room):
        text = path.read_text(encoding="utf-8")
        assert [name for name in ours if name in text] == [], path


def test_no_circle_among_files() -> None:
    known = rooms.modules()
    needs = {name: rooms.needed(name, path, known) for name, path in known.items()}
    sorter = TopologicalSorter(needs)
    sorter.prepare()  # a CycleError names the circle


def test_the_picture_is_the_one_of_today() -> None:
    """Made by `python docs/rooms.py`: which rooms there are, and what they import."""
    drawn = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    titles = {t for t in re.findall(r"<title>(.*?)</title>", drawn)}
    assert titles == {t for t in re.findall(r"<title>(.*?)</title>", rooms.picture())}


def test_nothing_pickles_and_nothing_prints() -> None:
    for room in FORBIDDEN:
        for path in sources(room):
            assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
            assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"], path
