"""Small files of both formats, whose runs go across them, and `calib` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from calib.toys.generation import generate
from jobs.cli import app
from jobs.events.toys import write_toys

Calib = Callable[..., Any]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``stage1`` and ``nanoaod``: the same 1 500 pairs in three files, and ``mc``."""
    folder = tmp_path_factory.mktemp("catalog")
    made = generate("z", 1500, seed=1)
    for format in ("stage1", "nanoaod"):
        write_toys(folder / format, made, format, 3)
    write_toys(folder / "mc", generate("z", 300, seed=2, simulation=True), "stage1", 1)
    return folder


@pytest.fixture
def calib() -> Calib:
    """Run a command: ``calib("catalog", "list", path)`` gives its JSON; ``code`` is expected."""

    def run(*arguments: object, code: int = 0) -> Any:
        found: Result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert found.exit_code == code, found.output
        line = found.stdout.strip().splitlines()[-1]
        return json.loads(line)

    return run


@pytest.fixture
def catalog(files: Path, tmp_path: Path, calib: Calib) -> Path:
    """A catalogue of the data in stage1."""
    place = tmp_path / "files.sqlite"
    calib(
        "catalog",
        "add",
        place,
        files / "stage1",
        "--format",
        "stage1",
        "--sample",
        "data",
        "--resonance",
        "z",
        "--quality",
        "good",
    )
    return place
