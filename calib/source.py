"""The source that a piece of code depends on, found by its names and imports, without running it.

When to use: to tell whether results that were kept are still those of the code. Whatever is
reached by name from the start counts, definition by definition; what cannot be followed (a star
import, ``getattr`` of a module, a module that is handed on) counts as a whole. Comments outside
definitions do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DYNAMIC = ("globals", "eval", "exec", "vars", "__import__", "import_module")

WHOLE = "*"
"""In place of a name: everything in a module."""


@dataclass(frozen=True)
class Import:
    """What a name stands for that a module has imported: a module, or a name in one."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Module:
    """One file of source."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        """Its content."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> dict[str, Import]:
        """Names that are imported anywhere in it."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for name in node.names:
                    if name.asname:
                        found[name.asname] = Import(name.name)
            elif isinstance(node, ast.ImportFrom):
                for name in node.names:
                    found[name.asname or name.name] = Import(self.origin(node), name.name)
        return found

    @cached_property
    def plain(self) -> list[str]:
        """Modules whose names are not listed: ``import a.b`` and ``from a.b import *``."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [name.name for name in node.names if not name.asname]
            elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                found.append(self.origin(node))
        return found

    def origin(self, node: ast.ImportFrom) -> str:
        """Return the full name of the module from which names are imported."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        up = node.level - (self.path.name == "__init__.py")
        return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])

    @cached_property
    def statements(self) -> dict[str, list[ast.stmt]]:
        """The statements that bind each name, and under `WHOLE` those that just run."""
        found: dict[str, list[ast.stmt]] = {WHOLE: []}
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
                continue
            names = _bound(node)
            for name in names or (WHOLE,):
                found.setdefault(name, []).append(node)
            if names and not isinstance(node, Definition | ast.Assign | ast.AnnAssign):
                found[WHOLE].append(node)
        return found

    def lines(self, node: ast.stmt) -> tuple[int, int]:
        """Return the first and the last line of a statement, decorators included."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        return first, node.end_lineno or first


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module binds."""
    if isinstance(node, Definition):
        return [node.name]
    return [
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]


@dataclass
class Reach:
    """Everything that is reached from some starts.

    Parameters
    ----------
    places : mapping of a top package or module to its folder or file
        Only what is in these counts.
    methods : mapping of (module, class) to names
        Classes of which only these members are a start; others are reached where a member that
        is reached names them.
    known : frozenset of (module, name)
        What is not followed, since it is accounted for elsewhere.
    """

    places: Mapping[str, Path]
    methods: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    known: frozenset[tuple[str, str]] = frozenset()
    modules: dict[str, Module | None] = field(default_factory=dict)
    parts: set[tuple[str, int, int]] = field(default_factory=set)
    _done: set[tuple[str, str]] = field(default_factory=set)

    def texts(self) -> list[tuple[str, str]]:
        """Return the text of every part that is reached, with its module, in their order."""
        found = []
        for name, first, last in sorted(self.parts):
            module = self.modules[name]
            assert module is not None
            found.append((name, "\n".join(module.text.splitlines()[first - 1 : last])))
        return found

    def covers(self, path: Path, line: int) -> bool:
        """Return whether a line of a file is among what is reached."""
        names = [m.name for m in self.modules.values() if m is not None and m.path == path]
        return any(n in names and first <= line <= last for n, first, last in self.parts)

    def module(self, name: str) -> Module | None:
        """Return a module in our places, None where it is somebody else's."""
        if name not in self.modules:
            path = self._path(name)
            self.modules[name] = None if path is None else Module(name, path)
        return self.modules[name]

    def _path(self, name: str) -> Path | None:
        top, *rest = name.split(".")
        place = self.places.get(top)
        if place is None or place.suffix == ".py":
            return place if not rest else None
        inside = place.joinpath(*rest)
        for path in (inside / "__init__.py", inside.with_suffix(".py")):
            if path.is_file() and (rest or path.name == "__init__.py"):
                return path
        return None

    # following -----------------------------------------------------------------------------------
    def follow(self, name: str, what: str = WHOLE) -> None:
        """Reach a name of a module, or all of it."""
        todo = [(name, what)]
        while todo:
            at = todo.pop()
            if at not in self._done and at not in self.known:
                self._done.add(at)
                todo += self._next(*at)

    def _next(self, name: str, what: str) -> Iterator[tuple[str, str]]:
        """Yield what a name leads to, and note its text."""
        module = self.module(name)
        if module is None:
            return
        parents = name.split(".")
        yield from ((".".join(parents[:i]), "") for i in range(1, len(parents)))
        if what == "":  # imported on the way: what runs then, and no more
            for node in module.statements[WHOLE]:
                yield from self._noted(module, node)
            yield from ((plain, WHOLE) for plain in module.plain)
        elif what == WHOLE:
            yield from ((plain, WHOLE) for plain in module.plain)
            for node in module.tree.body:
                yield from self._noted(module, node)
        elif self.module(f"{name}.{what}") is not None:
            yield f"{name}.{what}", WHOLE
        elif what in module.statements:
            yield name, ""
            for node in module.statements[what]:
                yield from self._noted(module, node)
        elif what in module.imports:
            yield name, ""
            yield module.imports[what].module, module.imports[what].name or WHOLE
        else:  # made by something that cannot be followed
            yield name, WHOLE

    def _noted(self, module: Module, node: ast.stmt) -> Iterator[tuple[str, str]]:
        kept = self.methods.get((module.name, getattr(node, "name", "")))
        parts: Iterable[ast.stmt] = (node,)
        if kept is not None and isinstance(node, ast.ClassDef):
            parts = _members(node, kept)
            yield from (
                use for e in (*node.bases, *node.decorator_list) for use in self._uses(module, e)
            )
        for part in parts:
            self.parts.add((module.name, *module.lines(part)))
            yield from self._uses(module, part)

    def _uses(self, module: Module, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Yield what the names in a piece of syntax stand for."""
        modules = set()  # names of modules of which an attribute is taken
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute):
                if inner.attr in _DYNAMIC:
                    yield from self._everything()
                if isinstance(inner.value, ast.Name):
                    found = module.imports.get(inner.value.id)
                    if found and (target := self._as_module(found)):
                        modules.add(inner.value)
                        yield target, inner.attr
            elif isinstance(inner, ast.Name) and inner not in modules:
                if inner.id in _DYNAMIC:
                    yield from self._everything()
                if inner.id in module.statements:
                    yield module.name, inner.id
                if inner.id in module.imports:
                    found = module.imports[inner.id]
                    yield found.module, found.name or WHOLE

    def _everything(self) -> Iterator[tuple[str, str]]:
        """Yield all there is: what is imported by a name made up at run time may be any of it."""
        for top, place in self.places.items():
            yield top, WHOLE
            for path in place.rglob("*.py"):
                inside = path.relative_to(place).with_suffix("").parts
                yield ".".join([top, *(p for p in inside if p != "__init__")]), WHOLE

    def _as_module(self, found: Import) -> str:
        """Return the module that an import stands for, empty where it is a name in one."""
        name = f"{found.module}.{found.name}" if found.name else found.module
        return name if self.module(name) is not None else ""


def members(classes: Iterable[ast.ClassDef], start: Iterable[str]) -> frozenset[str]:
    """Return the names of the members of some classes that a start leads to.

    Parameters
    ----------
    classes : iterable of ClassDef
        A class and its bases: each may use what another defines.
    start : iterable of str
        ``__init__`` and its like always belong to it.
    """
    by_name: dict[str, list[ast.stmt]] = {}
    for node in classes:
        for member in node.body:
            for name in _bound(member):
                by_name.setdefault(name, []).append(member)
    found = {name for name in by_name if name.startswith("__")} | {*start} & by_name.keys()
    todo = list(found)
    while todo:
        for member in by_name[todo.pop()]:
            new = set(by_name) if _looks_itself_up(member) else _named(member) & by_name.keys()
            todo += new - found
            found |= new
    return frozenset(found)


def _named(node: ast.AST) -> set[str]:
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute):
            found.add(inner.attr)
        elif isinstance(inner, ast.Name):
            found.add(inner.id)
    return found


def _looks_itself_up(node: ast.AST) -> bool:
    """Return whether members may be reached by a name that is made up at run time."""
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    return any(
        isinstance(c.func, ast.Name)
        and c.func.id == "getattr"
        and isinstance(c.args[0], ast.Name)
        and c.args[0].id in ("self", "cls")
        for c in calls
    )


def _members(node: ast.ClassDef, kept: frozenset[str]) -> list[ast.stmt]:
    """Return the members of a class with these names, and what runs in its body."""
    return [m for m in node.body if not _is_text(m) and (kept & {*_bound(m)} or not _bound(m))]
