"""Own cuts: ``Muon_nTrackerLayers > 5 and abs(Muon_dxy) < 0.2`` as conditions on branches.

Text is parsed as Python parses it and evaluated word by word with numpy in double precision:
nothing of it is ever run. Branches ``Muon_...`` are of each muon, others of the event. A value
that is no number fulfils no comparison.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

import numpy as np

from calib.payload.expressions import evaluated, names_in
from calib.types import AnyArray, BoolArray

MAX_LENGTH = 500
OF_MUONS = "Muon_"
CUT, FILTER = "cut ", "filter "

_COMPARISONS = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)


@dataclass(frozen=True)
class Cut:
    """A condition that events or muons have to fulfil, and under which reason they are left out.

    ``reason`` is ``cut TEXT``, or ``filter BRANCH`` for a branch that has to be true.
    """

    text: str
    reason: str

    @property
    def branches(self) -> dict[str, int]:
        """Its branches, and the character at which each stands first, from 1."""
        tree = condition_of(self.text)
        found: dict[str, int] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in names_in(tree):
                place = node.col_offset + 1
                found[node.id] = min(place, found.get(node.id, place))
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @property
    def is_of_muons(self) -> bool:
        """Whether it is decided for each muon."""
        return any(name.startswith(OF_MUONS) for name in self.branches)

    @property
    def key(self) -> str:
        """The key of the configuration that it is from."""
        return "selection.filters" if self.reason.startswith(FILTER) else "selection.cuts"

    def passed(self, values: Mapping[str, AnyArray]) -> BoolArray:
        """Return where it is fulfilled.

        Parameters
        ----------
        values : mapping of branch to array, shape (n,)
            All of its branches.

        Returns
        -------
        bool array, shape (n,)
            One of each muon or event.
        """
        with np.errstate(all="ignore"):
            return _truth(condition_of(self.text), values)


def own_cut(text: str) -> Cut:
    """Return a cut as a user has written it."""
    plain = " ".join(text.split())
    return Cut(plain, CUT + plain)


def event_filter(branch: str) -> Cut:
    """Return the condition that a branch is true."""
    return Cut(branch, FILTER + branch)


@cache
def condition_of(text: str) -> ast.expr:
    """Return the tree of a condition.

    Parameters
    ----------
    text : str
        Comparisons, also chained, of numbers and branches with ``+ - * /``, ``abs()`` and
        parentheses; a branch alone (true where it is not 0); ``and``, ``or``, ``not``.

    Raises
    ------
    ValueError
        If there is anything else in it; the sentence says at which character.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{len(text)} characters, expected at most {MAX_LENGTH}")
    try:
        tree = ast.parse(text, mode="eval").body
        _require_truth(text, tree)
    except (SyntaxError, RecursionError, MemoryError) as error:
        place = getattr(error, "offset", None) or len(text)
        what = getattr(error, "msg", None) or "nested too deeply"
        raise ValueError(
            f"not understood at character {place} ({what}); write it like MET_pt < 100"
        ) from None
    if not names_in(tree):
        _refuse(text, tree, "no branch", "compare one with a number, such as MET_pt < 100")
    return tree


def _refuse(text: str, node: ast.expr, why: str, advice: str) -> NoReturn:
    word = ast.get_source_segment(text, node) or type(node).__name__
    raise ValueError(f"{why} in {word!r} at character {node.col_offset + 1}; {advice}")


def _require_truth(text: str, node: ast.expr) -> None:
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _require_truth(text, value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _require_truth(text, node.operand)
    elif isinstance(node, ast.Compare):
        for value in (node.left, *node.comparators):
            _require_number(text, value)
        if not all(type(op) in _COMPARISONS for op in node.ops):
            _refuse(text, node, "no known comparison", "use < <= > >= == !=")
    elif not isinstance(node, ast.Name):
        _refuse(text, node, "no condition", "compare it with a number, such as MET_pt < 100")


def _require_number(text: str, node: ast.expr) -> None:
    if isinstance(node, ast.Name):
        return
    if isinstance(node, ast.Constant) and _is_number(node.value):
        return
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _require_number(text, node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _ARITHMETIC):
        _require_number(text, node.left)
        return _require_number(text, node.right)
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if is_call and node.func.id == "abs" and len(node.args) == 1 and not node.keywords:  # type: ignore[attr-defined]
        return _require_number(text, node.args[0])  # type: ignore[attr-defined]
    _refuse(
        text, node, "no number and no branch", "known are + - * /, abs(), comparisons, and, or, not"
    )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _truth(node: ast.expr, values: Mapping[str, AnyArray]) -> BoolArray:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return np.asarray(join.reduce([_truth(value, values) for value in node.values]))
    if isinstance(node, ast.UnaryOp):
        return ~_truth(node.operand, values)
    if isinstance(node, ast.Compare):
        sides = [evaluated(side, values) for side in (node.left, *node.comparators)]
        steps = zip(node.ops, sides[:-1], sides[1:], strict=True)
        found = [_COMPARISONS[type(op)](a, b) for op, a, b in steps]
        return np.asarray(np.logical_and.reduce(np.broadcast_arrays(*found)))
    assert isinstance(node, ast.Name)
    return np.asarray(values[node.id] != 0)
