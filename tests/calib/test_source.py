"""What a piece of code depends on is found by name, and what cannot be followed counts whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from calib.source import WHOLE, Reach, members


def package(folder: Path, **files: str) -> Path:
    place = folder / "pack"
    place.mkdir()
    for name, text in {"__init__": "", **files}.items():
        (place / f"{name}.py").write_text(text)
    return place


def reached(place: Path, module: str, what: str = WHOLE) -> str:
    reach = Reach({"pack": place})
    reach.follow(module, what)
    return "\n".join(text for _, text in reach.texts())


def test_what_is_named_is_reached_and_nothing_else(tmp_path: Path) -> None:
    place = package(
        tmp_path,
        a="from .b import used\nfrom pack import c\n\ndef start(): return used() + c.inner()\n"
        "def other(): return c.unused()\n",
        b="LIMIT = 3\n\ndef used(): return LIMIT\ndef unused(): return 'b'\n",
        c="def inner(): return 1\ndef unused(): return 'c'\n",
    )
    found = reached(place, "pack.a", "start")
    assert "def start" in found and "LIMIT = 3" in found and "def inner" in found
    assert "unused" not in found and "def other" not in found


@pytest.mark.parametrize(
    "text",
    [
        "from pack.b import *\ndef start(): return hidden()\n",
        "import pack.b\ndef start(): return pack.b.hidden()\n",
        "from pack import b\ndef start(): return getattr(b, 'hid' + 'den')()\n",
        "import importlib\ndef start(): return importlib.import_module('pack.b').hidden()\n",
        "def start():\n    from .b import hidden\n    return hidden()\n",
        "from .d import hidden as again\ndef start(): return again()\n",
        "def start(): return eval('__import__(\"pack.b\")')\n",
        "from . import b as short\nTABLE = {'x': short.hidden}\ndef start(): return TABLE\n",
        "try:\n    from .b import hidden\nexcept ImportError:\n    hidden = None\n"
        "def start(): return hidden()\n",
        "from .b import hidden\ndef wrap(f): return hidden\n@wrap\ndef start(): return 1\n",
    ],
)
def test_ways_to_a_name(tmp_path: Path, text: str) -> None:
    place = package(
        tmp_path, a=text, b="def hidden(): return 'found'\n", d="from pack.b import hidden\n"
    )
    assert "'found'" in reached(place, "pack.a", "start")


def test_statements_that_run_when_a_module_is_imported_count(tmp_path: Path) -> None:
    place = package(
        tmp_path,
        a="from .b import used\ndef start(): return used()\n",
        b="def used(): return TABLE\nTABLE = {}\nTABLE['x'] = 1\ndef unused(): pass\n",
    )
    found = reached(place, "pack.a", "start")
    assert "TABLE['x'] = 1" in found and "unused" not in found


def test_members_of_classes() -> None:
    text = """
class Base:
    def __init__(self): self.helper()
    def collect(self): return self.inner()
    def inner(self): return 0

class Own:
    LIMIT = 3
    OTHER = 4
    def inner(self): return self.LIMIT
    def helper(self): return 1
    def reduce(self): return self.OTHER
"""
    classes = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)]
    assert members(classes, ["collect"]) == {"__init__", "collect", "inner", "LIMIT", "helper"}
    asks = ast.parse("class A:\n def collect(self, n): return getattr(self, n)\n def b(self): pass")
    assert isinstance(asks.body[0], ast.ClassDef)
    assert members([asks.body[0]], ["collect"]) == {"collect", "b"}
