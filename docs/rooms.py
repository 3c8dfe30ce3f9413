"""The picture of the rooms: `python docs/rooms.py` writes docs/rooms.svg from the imports.

Each box is a folder (or the files that lie beside the folders) with its files and lines; an arrow
is an import within a package, the wider the more files have it; between packages they lead down
only (tests/test_rooms.py), and are left out.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jobs", "processors", "calib")
WIDE, HIGH, GAP, LEFT, TOP = 132, 44, 18, 120, 16
COLOURS = {"jobs": "#c7d8ec", "processors": "#cfe6cf", "calib": "#f3dcc2"}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of our packages by the dotted names of their modules."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
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


def room(path: Path, root: Path = ROOT) -> str:
    """Return the room of a file: a folder of a package, or the package itself."""
    parts = path.relative_to(root).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def arrows(root: Path = ROOT) -> Counter[tuple[str, str]]:
    """Return how many files of one room import from another, for each pair of rooms."""
    known, found = modules(root), Counter[tuple[str, str]]()
    for name, path in known.items():
        here = room(path, root)
        for other in {room(known[n], root) for n in needed(name, path, known)} - {here}:
            found[here, other] += 1
    return found


def levels(rooms: list[str], pairs: Counter[tuple[str, str]]) -> dict[str, int]:
    """Return the row of each room of a package: below whoever imports it more than it imports."""
    down = {(a, b) for a, b in pairs if a in rooms and b in rooms and pairs[a, b] > pairs[b, a]}
    row = dict.fromkeys(rooms, 0)
    for _ in rooms:
        for a, b in sorted(down):
            row[b] = min(max(row[b], row[a] + 1), len(rooms))
    order = {r: i for i, r in enumerate(sorted(set(row.values())))}
    return {name: order[r] for name, r in row.items()}


def places(rooms: dict[str, list[Path]], pairs: Counter[tuple[str, str]]) -> dict[str, tuple]:
    """Return the corner of each box, x and y, and of each package its top and bottom."""
    found, y = {}, TOP
    for package in PACKAGES:
        own = [name for name in rooms if name.split("/")[0] == package]
        rows = defaultdict(list)
        for name, row in levels(own, pairs).items():
            rows[row].append(name)
        start = y
        for row in sorted(rows):
            for line in (rows[row][i : i + 7] for i in range(0, len(rows[row]), 7)):
                shift = (7 - len(line)) * (WIDE + GAP) / 2
                for i, name in enumerate(sorted(line)):
                    found[name] = (LEFT + shift + i * (WIDE + GAP), y)
                y += HIGH + 2 * GAP
        found[f"band {package}"] = (start - GAP / 2, y - GAP)
        y += GAP
    return found


def picture(root: Path = ROOT) -> str:
    """Return the picture as SVG."""
    rooms: dict[str, list[Path]] = defaultdict(list)
    for path in modules(root).values():
        rooms[room(path, root)].append(path)
    pairs = arrows(root)
    at = places(dict(rooms), pairs)
    width = LEFT + 7 * (WIDE + GAP)
    height = max(bottom for name, (_, bottom) in at.items() if name.startswith("band")) + GAP
    parts = []
    for package in PACKAGES:
        top, bottom = at[f"band {package}"]
        parts.append(
            f'<rect x="4" y="{top:g}" width="{width - 8}" height="{bottom - top:g}" rx="8"'
            f' fill="{COLOURS[package]}" fill-opacity="0.35"/>'
            f'<text x="14" y="{top + 26:g}" font-size="17" font-weight="bold">{package}</text>'
        )
    for (a, b), n in sorted(pairs.items()):
        if a.split("/")[0] != b.split("/")[0]:
            continue
        (x1, y1), (x2, y2) = at[a], at[b]
        parts.append(
            f'<line x1="{x1 + WIDE / 2:g}" y1="{y1 + HIGH:g}" x2="{x2 + WIDE / 2:g}" y2="{y2:g}"'
            f' stroke="#556" stroke-opacity="0.35" stroke-width="{0.5 + n**0.5 / 2:.1f}"'
            f' marker-end="url(#tip)"><title>{escape(f"{a} to {b}: {n} files")}</title></line>'
        )
    for name, paths in sorted(rooms.items()):
        x, y = at[name]
        lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in paths)
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="5"'
            f' fill="{COLOURS[name.split("/")[0]]}" stroke="#556"/>'
            f'<text x="{x + WIDE / 2:g}" y="{y + 18}" text-anchor="middle" font-size="14">'
            f"{name.split('/')[1] if '/' in name else 'files beside'}</text>"
            f'<text x="{x + WIDE / 2:g}" y="{y + 35}" text-anchor="middle" font-size="11"'
            f' fill="#445">{len(paths)} files, {round(lines, -2)} lines</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}"'
        ' font-family="sans-serif" role="img" aria-label="Rooms of dimucal and their imports">'
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5"'
        ' markerHeight="5" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 z" fill="#556"/></marker></defs>\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    (ROOT / "docs" / "rooms.svg").write_text(picture(), encoding="utf-8")
