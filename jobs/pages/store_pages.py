"""What each page says, as plain values: the same for the template and for JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib.documents import json_values
from calib.errors import CalibError, InputError
from calib.payload.validity import LAST, Validity
from calib.quality.verdict import for_people
from jobs.nightly import states
from jobs.pages.charts import Chart, ChartStep, chart
from jobs.pages.store_values import Shelf, Values
from jobs.store import MAIN, Interval, Revision, Store
from jobs.store import revisions as rules
from jobs.store.differences import compare

ROWS = 100
"""Rows of a table on one page."""

CHARTS = 8
NIGHTS = 14


class NotFound(InputError):
    """There is no such page (404)."""


@dataclass(frozen=True)
class Page:
    """``data`` is what both say; ``more`` is added to JSON, ``drawn`` is for the template."""

    template: str
    title: str
    data: Mapping[str, Any]
    more: Callable[[], Mapping[str, Any]] = dict
    drawn: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class Request:
    """A request: the words in its path, and its arguments."""

    words: tuple[str, ...]
    arguments: Mapping[str, str]

    def number(self, name: str, default: int) -> int:
        """Return an argument as a whole number.

        Parameters
        ----------
        name : str
            Of the argument.
        default : int
            Without it.

        Returns
        -------
        int
            At most ten digits.

        Raises
        ------
        InputError
            If it is no whole number.
        """
        text = self.arguments.get(name, "") or str(default)
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise InputError(f"{name}: found {text[:40]!r}, expected a whole number")
        return int(text)

    @property
    def tag(self) -> str:
        """The tag that is asked for."""
        return self.arguments.get("tag", "") or MAIN


class Pages:
    """The pages of one store."""

    def __init__(self, store: Store) -> None:
        self.store, self.shelf = store, Shelf(store)

    def page(self, path: str, arguments: Mapping[str, str]) -> Page:
        """Return the page at a path.

        Parameters
        ----------
        path : str
            Without ``.json``.
        arguments : mapping of str to str
            Of the request.

        Returns
        -------
        Page
            For the template, and as JSON.

        Raises
        ------
        NotFound
            If there is none.
        InputError
            If an argument is wrong.
        """
        for pattern, make in ROUTES:
            match = pattern.fullmatch(path)
            if match:
                return make(self, Request(match.groups(), arguments))
        raise NotFound(f"{path[:100]}: there is no such page")

    # pages -------------------------------------------------------------------------------------
    def overview(self, asked: Request) -> Page:
        """Return what holds now, the last revisions and the last nights."""
        found = self.store.revisions()
        tags = rules.tags(found)
        in_force = [
            self._in_force(found, calibration, tag)
            for calibration in _calibrations(found)
            for tag in sorted(tags, key=lambda t: (t != MAIN, t))
        ]
        data = {
            "store": self.store.address,
            "revisions": len(found),
            "tags": [vars(t) for t in tags.values()],
            "in_force": [row for row in in_force if row is not None],
            "newest": [_line(r) for r in found[:-11:-1]],
            "nightly": self._nightly(),
        }
        return Page("serve_overview.html", "Constants", data)

    def calibration(self, asked: Request) -> Page:
        """Return one calibration: what holds for a run, its history, its intervals."""
        (name,), found = asked.words, self.store.revisions()
        _require(name in _calibrations(found), f"calibration {name!r}: nothing of it is published")
        tags = rules.tags(found)
        _require(asked.tag in tags, f"tag {asked.tag!r}: there is none")
        held = rules.intervals(found, name, asked.tag)
        run = asked.number("run", min(held[-1].validity.last, LAST)) if held else 0
        now = next((i for i in held if i.validity.contains(run)), None)
        tables = self.shelf.tables(now.revision if now else held[-1].revision) if held else ()
        table = asked.arguments.get("table") or (tables[0] if tables else "")
        _require(not table or table in tables, f"table {table!r}: there is none")
        values = self.shelf.or_none(now.revision, table) if now and table else None
        chosen = asked.arguments.get("bin", "")
        window = Validity(asked.number("first", 0), asked.number("last", LAST))
        page, places = _some(list(reversed(range(len(held)))), asked)
        rows = [held[i] for i in places]
        before = {held[i].revision.number: held[i - 1].revision.number for i in places if i}
        data = {
            "calibration": name,
            "tag": asked.tag,
            "tags": sorted(tags),
            "page": page,
            "intervals": [_interval(i) for i in rows],
            "before": {k: v for k, v in before.items() if k != v},
            "run": asked.arguments.get("run", ""),
            "first": asked.arguments.get("first", ""),
            "last": asked.arguments.get("last", ""),
            "in_force": now and _interval(now),
            "tables": list(tables),
            "table": table,
            "bin": chosen,
            "constants": values and _plain(values),
        }

        def more() -> Mapping[str, Any]:
            own = self._history(rows, table) if table else []
            return {"history": [{**_interval(i), "constants": v and _plain(v)} for i, v in own]}

        def drawn() -> Mapping[str, Any]:
            shown = [i for i in held if i.validity.overlaps(window)]
            own = self._history(shown, table) if table else []
            bins = values.bins if values else ()
            return {"charts": _charts(own, window, values, chosen), "bins": bins}

        return Page("serve_calibration.html", name, data, more, drawn)

    def revisions(self, asked: Request) -> Page:
        """Return the revisions, newest first."""
        wanted = asked.arguments.get("calibration", "")
        tag = asked.arguments.get("tag", "")
        found = self.store.revisions(wanted or None, tag or None)
        page, rows = _some(list(reversed(found)), asked)
        data = {
            "calibration": wanted,
            "tag": tag,
            "page": page,
            "of": len(found),
            "revisions": [_line(r) for r in rows],
        }
        return Page("serve_revisions.html", "Revisions", data)

    def revision(self, asked: Request) -> Page:
        """Return one revision: who, when, why, its verdict and its files."""
        found = self.store.revisions()
        revision = _numbered(found, asked.words[0])
        listed = dict(self.store.files(revision)) if revision.files else {}
        verdict = self._json(revision, "verdict.json") if "verdict.json" in listed else {}
        made = self._json(revision, "provenance.json") if "provenance.json" in listed else {}
        inputs = made.get("inputs") or []
        data = {
            **_line(revision),
            "payload": revision.payload,
            "size": revision.size,
            "config_hash": revision.config_hash,
            "code_version": revision.code_version,
            "origin": revision.origin,
            "source": revision.source,
            "as_of": revision.as_of,
            "files": [{"name": n, **facts} for n, facts in sorted(listed.items())],
            "checks": for_people(verdict),
            "inputs": {"files": len(inputs), "events": sum(i.get("events") or 0 for i in inputs)},
            "queries": made.get("queries") or [],
            "before": _earlier(found, revision),
        }
        return Page("serve_revision.html", f"Revision {revision.number}", data)

    def diff(self, asked: Request) -> Page:
        """Return two revisions in standard deviations."""
        found = self.store.revisions()
        words = asked.words or tuple(str(asked.number(k, 0)) for k in ("before", "after"))
        before, after = (_numbered(found, w) for w in words)
        done = compare(self.store, before.number, after.number)
        data = done.as_dict()
        rows = sorted(data["parameters"], key=lambda r: -abs(_or(r["sigma"], 0.0)))
        title = f"Revision {before.number} to {after.number}"
        page, rows = _some(rows, asked)
        drawn = {"rows": rows, "page": page}
        return Page("serve_diff.html", title, data, drawn=lambda: drawn)

    # pieces ------------------------------------------------------------------------------------
    def _in_force(
        self, found: Sequence[Revision], calibration: str, tag: str
    ) -> dict[str, Any] | None:
        held = rules.intervals(found, calibration, tag)
        if not held:
            return None
        forced = [i.revision.number for i in held if i.revision.forced]
        return {"tag": tag, **_interval(held[-1]), "intervals": len(held), "forced_ones": forced}

    def _history(
        self, held: Sequence[Interval], table: str
    ) -> list[tuple[Interval, Values | None]]:
        return [(i, self.shelf.or_none(i.revision, table)) for i in held]

    def _nightly(self) -> list[dict[str, Any]]:
        return states.summary(self.store.content.folder, NIGHTS)

    def _json(self, revision: Revision, name: str) -> dict[str, Any]:
        try:
            found = json_values(self.store.file(revision, name).decode("utf-8"))
        except (ValueError, CalibError):
            return {}
        return found if isinstance(found, dict) else {}

    def file(self, number: str, name: str) -> bytes:
        """Return a file kept of the run of a revision, or its payload; checksums are verified.

        Parameters
        ----------
        number : str
            Of the revision.
        name : str
            Of the file.

        Returns
        -------
        bytes
            As it was published.

        Raises
        ------
        NotFound
            If there is no such revision or file.
        """
        revision = _numbered(self.store.revisions(), number)
        if name == "payload.json" and revision.payload:
            return self.store.payload(revision)
        _require(bool(revision.files), f"revision {number}: it has no files")
        _require(name in self.store.files(revision), f"{name[:100]!r}: not kept of this run")
        return self.store.file(revision, name)


ROUTES: tuple[tuple[re.Pattern[str], Callable[[Pages, Request], Page]], ...] = (
    (re.compile(r"/|/index"), Pages.overview),
    (re.compile(r"/calibration/([A-Za-z0-9_.+-]{1,80})"), Pages.calibration),
    (re.compile(r"/revisions"), Pages.revisions),
    (re.compile(r"/revision/([0-9]{1,10})"), Pages.revision),
    (re.compile(r"/diff/([0-9]{1,10})/([0-9]{1,10})"), Pages.diff),
    (re.compile(r"/diff"), Pages.diff),
)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise NotFound(sentence)


def _or(value: Any, instead: Any) -> Any:
    return instead if value is None or value != value else value


def _calibrations(found: Sequence[Revision]) -> list[str]:
    return sorted({r.calibration for r in found if r.calibration is not None})


def _numbered(found: Sequence[Revision], text: str) -> Revision:
    number = int(text)
    _require(1 <= number <= len(found), f"revision {number}: there is none")
    return found[number - 1]


def _line(revision: Revision) -> dict[str, Any]:
    keys = (
        "number",
        "action",
        "calibration",
        "tag",
        "since",
        "until",
        "passed",
        "forced",
        "why",
        "name",
        "made",
        "by",
        "source",
        "as_of",
    )
    values = revision.as_dict()
    return {key: values[key] for key in keys} | {"report": _has_report(revision)}


def _has_report(revision: Revision) -> bool:
    return revision.files is not None


def _interval(interval: Interval) -> dict[str, Any]:
    return interval.as_dict() | {"report": _has_report(interval.revision)}


def _earlier(found: Sequence[Revision], revision: Revision) -> int | None:
    """Return the publication of the same calibration and tag before this one."""
    if revision.action != "publish":
        return None
    own = [
        r.number
        for r in found[: revision.number - 1]
        if r.action == "publish" and (r.calibration, r.tag) == (revision.calibration, revision.tag)
    ]
    return own[-1] if own else None


def _some(rows: list[Any], asked: Request) -> tuple[dict[str, int], list[Any]]:
    """Return the rows of one page, and which page it is."""
    pages = max(1, -(-len(rows) // ROWS))
    number = min(max(1, asked.number("page", 1)), pages)
    return {"page": number, "pages": pages, "rows": len(rows)}, rows[(number - 1) * ROWS :][:ROWS]


def _plain(values: Values) -> dict[str, Any]:
    return {
        "table": values.name,
        "bins": list(values.bins),
        "status": list(values.status),
        "quantities": {q: pairs.tolist() for q, pairs in values.of.items()},
    }


def _charts(
    history: Sequence[tuple[Interval, Values | None]],
    window: Validity,
    values: Values | None,
    chosen: str,
) -> list[Chart]:
    """Return a chart for each quantity; open intervals end a little after the last boundary."""
    there = [(i, v) for i, v in history if v is not None]
    if not there:
        return []
    first = max(there[0][0].validity.since, window.since)
    ends = [i.validity.since for i, _ in there]
    ends += [i.validity.last for i, _ in there if not i.validity.is_open]
    last = max(ends) + (max(1, (max(ends) - first) // 12) if there[-1][0].validity.is_open else 0)
    last = max(first, min(last, window.last))
    newest = values or there[-1][1]
    found = []
    for quantity in list(newest.of)[:CHARTS] if newest else ():
        steps = [_step(i, v, quantity, chosen) for i, v in there if quantity in v.of]
        drawn = chart(quantity, steps, first, last)
        if drawn is not None:
            found.append(drawn)
    return found


def _step(interval: Interval, values: Values, quantity: str, chosen: str) -> ChartStep:
    pairs = values.of[quantity]
    one = None
    if chosen in values.bins:
        value, error = pairs[values.bins.index(chosen)].tolist()
        one = value, error
    validity, revision = interval.validity, interval.revision
    return ChartStep(validity.since, validity.last, revision.number, revision.forced, pairs, one)
