"""Imports go down only: jobs -> processors -> calib. And no room knows a calibration by name."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import calib.calibrations

ROOT = Path(__file__).parent.parent
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
    ours = [m.name for m in pkgutil.iter_modules(calib.calibrations.__path__) if m.name != "base"]
    assert ours
    for path in sources(room):
        text = path.read_text(encoding="utf-8")
        assert [name for name in ours if name in text] == [], path


def modules() -> dict[str, Path]:
    """Return our modules by their dotted names."""
    found = {}
    for room in ("calib", "processors", "jobs"):
        for path in sources(room):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def needed(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of ours that one imports anywhere in it, but for its types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                full = f"{module}.{alias.name}"
                found.add(full if full in known else module)
    return (found & known.keys()) - {name}


def test_no_circle_among_files() -> None:
    known = modules()
    sorter = TopologicalSorter({name: needed(name, path, known) for name, path in known.items()})
    sorter.prepare()  # a CycleError names the circle


def test_nothing_pickles_and_nothing_prints() -> None:
    for room in FORBIDDEN:
        for path in sources(room):
            assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
            assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"], path
