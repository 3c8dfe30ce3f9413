"""The language of queries: ``run >= 315252 and quality == "good" and format == "stage1"``.

Comparisons (also chained), ``in`` a list, ``and``, ``or``, ``not``, parentheses, numbers, text,
``True``, ``False``, ``None``; nothing else. Text is parsed as Python parses it and then translated
word by word into SQL with bound values: nothing of it is ever run.

``"part" in path`` is true where a column of text contains a part. A column without a value (a
luminosity that nobody gave) fulfils no comparison but ``luminosity == None``.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from typing import Any, NoReturn

import sqlalchemy as sa

from calib.errors import InputError
from jobs.catalog.tables import entries, files, samples

MAX_LENGTH, MAX_WORDS = 20_000, 5_000
NUMBER, TEXT, TRUTH = "a number", "text", "True or False"

COLUMNS: dict[str, tuple[sa.Column[Any], str]] = {
    "run": (entries.c.run, NUMBER),
    "events": (entries.c.events, NUMBER),
    "luminosity": (entries.c.luminosity, NUMBER),
    "quality": (entries.c.quality, TEXT),
    "sample": (samples.c.name, TEXT),
    "resonance": (samples.c.resonance, TEXT),
    "format": (samples.c.format, TEXT),
    "simulation": (samples.c.simulation, TRUTH),
    "path": (files.c.path, TEXT),
    "size": (files.c.size, NUMBER),
    "checksum": (files.c.checksum, TEXT),
    "added": (files.c.added, TEXT),
    "state": (files.c.state, TEXT),
}
"""``events`` and ``luminosity`` (fb^-1) are those of a file in a run; ``size`` in bytes."""

_ORDER = {
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
}


@dataclass(frozen=True)
class Condition:
    """A query as SQL, and whether it asks for columns of the files."""

    clause: sa.ColumnElement[bool]
    needs_files: bool


@dataclass(frozen=True)
class _Value:
    """One side of a comparison: a column, or a constant."""

    expression: Any
    kind: str | None
    column: str | None = None

    @property
    def bound(self) -> Any:
        """The value with its own type: 3.5 stays 3.5 beside a column of whole numbers."""
        kinds = {bool: sa.Boolean, int: sa.BigInteger, float: sa.Float, str: sa.Text}
        if type(self.expression) in kinds:
            return sa.literal(self.expression, kinds[type(self.expression)]())
        return self.expression


def condition(text: str) -> Condition:
    """Return a query as a condition on runs of files.

    Raises
    ------
    InputError
        If it is not of this language; the sentence names the word and the nearest known one.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"query: {len(text)} characters, expected at most {MAX_LENGTH}")
    text = " ".join(text.splitlines()).strip()  # YAML folds long ones
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = getattr(error, "text", None) and f" at character {getattr(error, 'offset', '?')}"
        what = getattr(error, "msg", None) or str(error) or type(error).__name__
        raise InputError(
            f"query {_short(text)}: not understood{where or ''} ({what}); expected for example"
            ' run >= 315252 and quality == "good"'
        ) from None
    nodes = list(ast.walk(tree))
    if len(nodes) > MAX_WORDS:
        raise InputError(f"query: {len(nodes)} words, expected at most {MAX_WORDS}")
    words = {n.id for n in nodes if isinstance(n, ast.Name)}
    try:
        clause = _Translation(text).boolean(tree.body)
    except RecursionError:
        raise InputError(f"query {_short(text)}: nested too deeply; write it flatter") from None
    return Condition(clause, any(COLUMNS[w][0].table is files for w in words))


class _Translation:
    """One query; the methods return SQL or raise."""

    def __init__(self, text: str) -> None:
        self.text = text

    def boolean(self, node: ast.expr) -> sa.ColumnElement[bool]:
        """Return what is true or false of a row."""
        if isinstance(node, ast.BoolOp):
            join = sa.and_ if isinstance(node.op, ast.And) else sa.or_
            return join(*(self.boolean(v) for v in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return sa.not_(self.boolean(node.operand))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            steps = zip(sides[:-1], node.ops, sides[1:], strict=True)
            return sa.and_(*(self._compared(a, op, b) for a, op, b in steps))
        if isinstance(node, ast.Name):
            found = self._value(node)
            if found.kind == TRUTH:
                return sa.and_(found.expression)
            self._refuse(node, f"{node.id!r} alone is no condition; compare it with something")
        self._refuse(node, "no comparison")

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            found = self._contained(left, right)
            return found if isinstance(op, ast.In) else sa.not_(found)
        a, b = self._value(left), self._value(right)
        if type(op) not in _ORDER:
            self._refuse(right, "`is` is not of this language; write == or !=")
        self._require_alike(a, b, right)
        is_order = type(op) not in (ast.Eq, ast.NotEq)
        if is_order and (TRUTH in (a.kind, b.kind) or None in (a.kind, b.kind)):
            self._refuse(right, "only == and != make sense for True, False and None")
        if a.column is None:  # SQL knows the meaning of a column first
            mirrored = {
                "__lt__": "__gt__",
                "__le__": "__ge__",
                "__gt__": "__lt__",
                "__ge__": "__le__",
            }
            name = _ORDER[type(op)]
            return getattr(b.expression, mirrored.get(name, name))(a.bound)
        return getattr(a.expression, _ORDER[type(op)])(b.bound)

    def _contained(self, left: ast.expr, right: ast.expr) -> Any:
        one = self._value(left)
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            if one.column is None:
                self._refuse(left, "no column")
            values = [self._value(v) for v in right.elts]
            for value, node in zip(values, right.elts, strict=True):
                if value.column is not None or value.kind is None:
                    self._refuse(node, "expected numbers or text in the list")
                self._require_alike(one, value, node)
            return one.expression.in_([v.bound for v in values])
        other = self._value(right)
        if one.column is not None or one.kind != TEXT or other.column is None or other.kind != TEXT:
            self._refuse(right, 'expected a list, run in [315252, 315255], or "part" in path')
        return other.expression.contains(one.expression, autoescape=True)

    def _value(self, node: ast.expr) -> _Value:
        if isinstance(node, ast.Name):
            if node.id not in COLUMNS:
                near = difflib.get_close_matches(node.id, COLUMNS, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(COLUMNS)}"
                raise InputError(f"query {_short(self.text)}: unknown word {node.id!r}; {hint}")
            column, kind = COLUMNS[node.id]
            return _Value(column, kind, node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner = self._value(node.operand)
            if inner.column is None and inner.kind == NUMBER:
                sign = -1 if isinstance(node.op, ast.USub) else 1
                return _Value(sign * inner.expression, NUMBER)
        if isinstance(node, ast.Constant):
            value = node.value
            if value is None:
                return _Value(sa.null(), None)
            if isinstance(value, bool):
                return _Value(value, TRUTH)
            if isinstance(value, int) and abs(value) < 2**63:
                return _Value(value, NUMBER)
            if isinstance(value, float) and abs(value) < float("inf"):
                return _Value(value, NUMBER)
            if isinstance(value, str) and "\0" not in value:
                return _Value(value, TEXT)
        self._refuse(node, "expected a column, a number or text in quotes")

    def _require_alike(self, a: _Value, b: _Value, node: ast.expr) -> None:
        if a.column is None and b.column is None:
            self._refuse(node, f"no column is compared; known: {', '.join(COLUMNS)}")
        if None not in (a.kind, b.kind) and a.kind != b.kind:
            one, other = (a, b) if a.column is not None else (b, a)
            self._refuse(node, f"{one.column!r} is {one.kind}, compared with {other.kind}")

    def _refuse(self, node: ast.expr, why: str) -> NoReturn:
        word = ast.get_source_segment(self.text, node) or type(node).__name__
        raise InputError(f"query {_short(self.text)}: found {_short(word)}: {why}")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 120 else text[:117] + "...")
