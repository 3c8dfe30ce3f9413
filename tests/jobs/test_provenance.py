"""The version of the code that makes numbers: our own source, and all of a plug-in's package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from jobs.run import provenance

PLUGIN = "from calib.calibrations.base import Calibration\nfrom . import numbers\n\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two files with a calibration in it, on the path."""
    folder = tmp_path / "counted_twice"
    folder.mkdir()
    (folder / "__init__.py").write_text(PLUGIN + "class Twice(Calibration):\n    name = 'twice'\n")
    (folder / "numbers.py").write_text("FACTOR = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [n for n in sys.modules if n.startswith("counted_twice")]:
        del sys.modules[name]


def test_every_file_of_a_plugin_counts(package: Path) -> None:
    kind = importlib.import_module("counted_twice").Twice
    first = provenance.code(kind)
    provenance.code.cache_clear()
    assert provenance.code(kind) == first
    (package / "numbers.py").write_text("FACTOR = 3\n")
    provenance.code.cache_clear()
    assert provenance.code(kind) != first
