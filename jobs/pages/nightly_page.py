"""nightly.html: what the last night did, what needs a person, and how the residuals went."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jobs.nightly import states
from jobs.nightly.settings import Nightly
from jobs.pages.report import environment, template_text
from jobs.storage.files import write_text
from jobs.store.store import Store

WIDTH, HEIGHT = 900, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 14, 30
MOST = 400
"""Tests that are drawn."""

TONE = {
    "published": "good",
    "waiting": "plain",
    "testing": "plain",
    "bad": "bad",
    "calibrating": "plain",
    "gated": "plain",
    "held": "bad",
    "not_converged": "bad",
    "failed": "bad",
}


@dataclass(frozen=True)
class ResidualPoint:
    """One test on the picture, in its units; ``tone`` says what it found."""

    x: float
    y: float
    low: float
    high: float
    tone: str
    text: str


@dataclass(frozen=True)
class ResidualPicture:
    """Residuals against run, with the limits, and lines where constants begin."""

    name: str
    points: tuple[ResidualPoint, ...]
    lines: tuple[tuple[float, str], ...]
    limits: tuple[float, float]
    ticks_x: tuple[tuple[float, str], ...]
    ticks_y: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def write_page(settings: Nightly, store: Store | None, trouble: str = "") -> Path:
    """Write the page of a nightly into its directory, whole or not at all.

    Parameters
    ----------
    settings : Nightly
    store : Store or None
        None where it could not be opened.
    trouble : str
        What has ended the night before its end.
    """
    found: dict[str, Any] = {"nights": [], "calibrations": []}
    history: list[dict[str, Any]] = []
    if store is not None:
        folder = store.content.folder
        own = [s for s in states.summary(folder) if s["nightly"] == settings.name]
        found = own[0] if own else found
        history = states.told(folder, settings.name)
    last = found["nights"][0] if found["nights"] else {}
    troubles = [trouble] if trouble else list(last.get("troubles") or ())
    for one in found["calibrations"]:
        one["tone"] = TONE[str(one["state"])]
    pictures = [picture(c["name"], history) for c in found["calibrations"]]
    needs = [c for c in found["calibrations"] if c["tone"] == "bad" or c["aside"]]
    page = (
        environment()
        .get_template("nightly.html")
        .render(
            settings=settings,
            style=Markup(template_text("report.css")),
            nights=found["nights"],
            calibrations=found["calibrations"],
            needs=bool(needs or troubles),
            troubles=troubles,
            history=[
                {**h, "tone": TONE[h["state"]], "report": _report(settings, h)}
                for h in history[:MOST]
            ],
            pictures=[p for p in pictures if p.points],
            exact=_exact,
        )
    )
    path = Path(settings.directory) / "nightly.html"
    write_text(path, page)
    return path


def _report(settings: Nightly, line: Mapping[str, Any]) -> str:
    """Return where the report of a calibration is, seen from the page."""
    place = line["numbers"].get("directory")
    if place is None or line["state"] == "gated":
        return ""
    return os.path.join(os.path.relpath(place, settings.directory), "report.html")


def _exact(value: Any) -> str:
    return "–" if value is None else f"{value}"


def picture(name: str, history: Sequence[Mapping[str, Any]]) -> ResidualPicture:
    """Return the residuals of one calibration; ``history`` is newest first."""
    own = [h for h in reversed(history) if h["calibration"] == name]
    tests: dict[tuple[int, int], Mapping[str, Any]] = {}
    begins: dict[int, str] = {}
    for line in own:
        numbers = line["numbers"]
        if numbers.get("test", {}).get("value") is not None:
            tests[tuple(numbers["runs"])] = numbers  # type: ignore[index]
        if line["state"] == "published":
            begins[int(numbers["bucket"][0])] = f"revision {numbers['published']}"
    shown = list(tests.values())[-MOST:]
    if not shown:
        return ResidualPicture(name, (), (), (0, 0), (), ())
    runs = [float(n["runs"][1]) for n in shown]
    values = [float(n["test"]["value"]) for n in shown]
    errors = [float(n["test"]["error"] or 0.0) for n in shown]
    limit = max(float(n["limit"]) for n in shown)
    first, last = min([*runs, *begins]), max([*runs, *begins])
    top = 1.15 * max(1.5 * limit, max(abs(v) + e for v, e in zip(values, errors, strict=True)))

    def x(run: float) -> float:
        share = 0.5 if last == first else (run - first) / (last - first)
        return round(LEFT + 10 + share * (WIDTH - LEFT - RIGHT - 20), 1)

    def y(value: float) -> float:
        share = min(max((value + top) / (2 * top), 0.0), 1.0)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    tones = {"within": "good", "outside": "bad", "undecided": "plain"}
    points = tuple(
        ResidualPoint(
            x(r),
            y(v),
            y(v - e),
            y(v + e),
            tones[n["test"]["outcome"]],
            f"runs {n['runs'][0]} to {n['runs'][1]}: {n['test']['why']}",
        )
        for n, r, v, e in zip(shown, runs, values, errors, strict=True)
    )
    step = _step(top)
    return ResidualPicture(
        name,
        points,
        tuple((x(run), text) for run, text in sorted(begins.items())),
        (y(limit), y(-limit)),
        tuple((x(r), f"{r:.0f}") for r in sorted({first, last, *_between(runs)})),
        tuple((y(k * step), f"{k * step:.1g}") for k in range(-3, 4) if abs(k * step) < top),
    )


def _step(top: float) -> float:
    """Return a round distance of the marks on an axis that ends at ``top``."""
    power = 10.0 ** math.floor(math.log10(top))
    return next((s * power for s in (0.5, 1.0, 2.0) if top / (s * power) <= 3.5), 5.0 * power)


def _between(runs: Sequence[float]) -> list[float]:
    """Return a few runs for the axis."""
    ordered = sorted(set(runs))
    return ordered[:: max(1, len(ordered) // 6)]
