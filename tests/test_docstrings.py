"""Public functions say what they take and what they return: numpydoc's Parameters and Returns.

Of every public function and method with two or more arguments: Parameters names exactly these, in
their order, and what is not None has Returns or Yields. Commands have none: their text is the help.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DONE = [
    "calib/events",
    "calib/fitting",
    "calib/physics",
    "calib/plots",
    "calib/quality",
    "calib/toys",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(path: Path) -> Iterator[tuple[str, Function, list[str]]]:
    """Yield name, function and arguments, without self and cls."""
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inside:
            if not isinstance(function, Function):
                continue
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            decorators = {ast.unparse(d) for d in function.decorator_list}
            if function.name[0] == "_" or owner[:1] == "_" or "overload" in decorators:
                continue
            bound = owner != "" and "staticmethod" not in decorators
            yield f"{owner}.{function.name}".strip("."), function, arguments(function)[bound:]


def arguments(function: Function) -> list[str]:
    """Return the names as numpydoc writes them."""
    given = function.args
    names = [a.arg for a in given.posonlyargs + given.args]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [a.arg for a in given.kwonlyargs]
    return names + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def sections(doc: str) -> dict[str, list[str]]:
    """Return the lines below each underlined title."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    lines = doc.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if re.fullmatch("-{3,}", below):
            current = found.setdefault(line, [])
        elif not re.fullmatch("-{3,}", line):
            current.append(line)
    return found


def documented(lines: list[str]) -> list[str]:
    """Return the names of a section Parameters: lines that are not indented."""
    heads = [line.split(" :")[0] for line in lines if line.strip() and line[0] != " "]
    return [name.strip() for head in heads for name in head.split(",")]


def fault(function: Function, names: list[str]) -> str:
    """Return what is wrong with a docstring, empty if nothing is."""
    found = sections(ast.get_docstring(function) or "")
    if documented(found.get("Parameters", [])) != names:
        return f"Parameters {documented(found.get('Parameters', []))}, arguments {names}"
    returns = function.returns
    nothing = returns is not None and ast.unparse(returns) in ("None", "NoReturn")
    gives = any(isinstance(n, ast.Return) and n.value for n in ast.walk(function))
    nothing |= returns is None and not gives
    if not nothing and not found.keys() & {"Returns", "Yields"}:
        return "Returns is missing"
    return ""


@pytest.mark.parametrize("place", DONE)
def test_public_functions_say_what_they_take_and_return(place: str) -> None:
    files = sorted((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else [ROOT / place]
    functions = [(path, *each) for path in files for each in public_functions(path)]
    several = [each for each in functions if len(each[3]) > 1]
    assert several
    faults = {f"{path.relative_to(ROOT)} {name}": fault(f, n) for path, name, f, n in several}
    assert {name: what for name, what in faults.items() if what} == {}
