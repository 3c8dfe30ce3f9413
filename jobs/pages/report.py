"""The page people read: report.html, self-contained, and its figures in plots/.

Everything that a person may have named (samples, categories, files, errors) is escaped; the page
allows itself no network and no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from calib.later import pandas as pd
from calib.plots import figures as plots
from calib.quality.verdict import SIGNS, for_people
from calib.results import Check, Closure, Curve, Reduction, Section
from jobs.config.schema import Config, dump
from jobs.pages import report_fits
from jobs.pages.report_tables import MISSING, PageTable, as_float, number, table, words
from jobs.run import selection_levels
from jobs.storage.files import RunDirectory, whole, write_text

LARGEST_SVG = 700_000
"""Bytes of a drawing; a larger one is shown as PNG."""


@dataclass(frozen=True)
class ReportContext:
    """What the page tells.

    ``accounting``, ``provenance`` and ``verdict`` are those of the files of these names; keys may
    be missing. ``notes`` are sentences for the reader, such as a selection that was not possible.
    """

    config: Config
    reduction: Reduction
    closure: Closure | None
    sections: Sequence[Section]
    verdict: Mapping[str, Any]
    accounting: Mapping[str, Any]
    provenance: Mapping[str, Any]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its name and address (``data:...``)."""

    name: str
    address: str


@dataclass(frozen=True)
class PagePart:
    """A section, ready for the template."""

    title: str
    anchor: str
    paragraphs: tuple[str, ...]
    tables: tuple[PageTable, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Stage:
    """A step of the flow of events: how many it takes away, and how many are left."""

    title: str
    removed: int
    left: int
    share_left: float
    share_removed: float


def write_report(directory: Path, context: ReportContext) -> Path:
    """Write report.html and plots/, each file whole or not at all; return the page.

    Parameters
    ----------
    directory : Path
        Of the run; plots/ gets every figure as PNG and SVG.
    context : ReportContext
        What the page tells.

    Returns
    -------
    Path
        Of the page.
    """
    fits = report_fits.listing(context.reduction, context.closure)
    drawn = {n for n, at in zip(fits["name"], fits["picture"], strict=True) if at >= 0}
    keep = directory / "plots"
    parts = [_part(s, i, drawn, keep) for i, s in enumerate(context.sections)]
    main = [p for p, s in zip(parts, context.sections, strict=True) if s.place == "main"]
    appendix = [p for p, s in zip(parts, context.sections, strict=True) if s.place != "main"]
    fit_pictures = _pictures(_of_fits(context.reduction), keep)
    tested = _closure_part(context.closure, drawn, keep)
    checks = for_people(context.verdict)
    script = template_text("report.js")
    page = (
        environment()
        .get_template("report.html")
        .render(
            config=context.config,
            style=Markup(template_text("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            passed=bool(context.verdict.get("passed")),
            checks=checks,
            n_passed=sum(c["passed"] for c in checks),
            linked=partial(_linked, drawn=_by_name(drawn)),
            facts=_facts(context),
            notes=list(dict.fromkeys([*context.notes, *(context.accounting.get("notes") or ())])),
            sections=main,
            appendix=appendix,
            fits=Markup(_json(fits)),
            n_fits=len(fits["name"]),
            fit_pictures=fit_pictures,
            closure=tested,
            samples=_samples(context),
            bad_files=list(context.accounting.get("bad_files") or ()),
            provenance=_provenance(context.provenance),
            settings=dump(context.config),
        )
    )
    path = directory / "report.html"
    write_text(path, page)
    shown = [*(p for part in (*parts, tested) for p in part.pictures), *fit_pictures]
    _forget_others(RunDirectory(directory), shown)
    return path


def environment() -> Environment:
    """Return the templates of the pages, everything in them escaped."""
    folder = str(files("jobs") / "pages" / "templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "words": words}
    return environment


def template_text(name: str) -> str:
    """Return the text of a file beside the templates."""
    return (files("jobs") / "pages" / "templates" / name).read_text(encoding="utf-8")


def _by_name(drawn: Iterable[str]) -> dict[str, str]:
    """Return the fits that are drawn by their name, with and without their sample."""
    return {key: name for name in drawn for key in (name.split("/", 1)[-1], name)}


def _linked(text: str, drawn: Mapping[str, str]) -> Markup:
    """Return a sentence in which the names of fits lead to their pictures."""
    parts = []
    for part in re.split(r"(\s+)", text):
        word = part.strip("():;,.")
        if word not in drawn:
            parts.append(escape(part))
            continue
        before, _, after = part.partition(word)
        link = f'<a href="#fit={quote(drawn[word])}">{escape(word)}</a>'
        parts.append(escape(before) + Markup(link) + escape(after))
    return Markup("").join(parts)


def _json(values: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# sections ----------------------------------------------------------------------------------------
def _part(section: Section, place: int, drawn: set[str], keep: Path) -> PagePart:
    return PagePart(
        section.title,
        f"section-{place + 1}",
        tuple(p.strip() for p in re.split(r"\n\s*\n", section.text) if p.strip()),
        tuple(table(name, frame, drawn) for name, frame in section.tables.items()),
        _pictures(section.figures, keep),
    )


def _file_name(figure: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", figure).strip("._") or "figure"


def _forget_others(run: RunDirectory, pictures: Iterable[Picture]) -> None:
    """Remove the figures of an earlier page that this one has not; nobody else's files."""
    made = sorted({_file_name(p.name) for p in pictures})
    for name in {*map(str, run.note("plots").get("names", ()))} - {*made}:
        for suffix in ("png", "svg"):
            (run / "plots" / f"{_file_name(name)}.{suffix}").unlink(missing_ok=True)
    run.keep("plots", {"names": made})


def _picture(name: str, figure: Any, keep: Path) -> Picture:
    """Save a figure as PNG and SVG; return it for the page."""
    file = _file_name(name)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    svg = io.BytesIO()
    # the same figure gives the same file: no date, no random names
    with matplotlib.rc_context({"svg.hashsalt": file}):
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    for suffix, content in (("png", png), ("svg", svg)):
        with whole(keep / f"{file}.{suffix}") as temporary:
            temporary.write_bytes(content.getvalue())
    kind, content = ("svg+xml", svg) if svg.tell() <= LARGEST_SVG else ("png", png)
    data = base64.b64encode(content.getvalue()).decode()
    return Picture(name, f"data:image/{kind};base64,{data}")


def figures(
    reduction: Reduction, closure: Closure | None, sections: Sequence[Section]
) -> dict[str, Any]:
    """Return every figure of the page by its name: of the sections, the fits, the closure.

    Parameters
    ----------
    reduction : Reduction
        The result.
    closure : Closure or None
        Its test.
    sections : sequence of Section
        Of the calibration.

    Returns
    -------
    dict of str to Figure
        By the name of the file in plots/.
    """
    found = {name: figure for s in sections for name, figure in s.figures.items()}
    return found | _of_fits(reduction) | _of_closure(closure)


def _of_fits(reduction: Reduction) -> dict[str, Any]:
    curves = [c for c in reduction.curves if c.group == "categories"]
    if not curves:
        return {}
    pulls = np.concatenate([_pulls(c) for c in curves])
    probabilities = (
        reduction.fits["chi2_probability"].to_numpy(dtype=float)
        if "chi2_probability" in reduction.fits
        else np.array([as_float(p) for p in _probabilities(reduction.fits)])
    )
    label = f"pull of a bin with {plots.FEW_ENTRIES:g} or more expected"
    return {
        "fit_pulls": plots.pull_histogram(pulls, label=label),
        "fit_probabilities": plots.probability_histogram(probabilities),
    }


def _of_closure(closure: Closure | None) -> dict[str, Any]:
    if closure is None or not len(closure.table):
        return {}
    tested = np.isfinite(pd.to_numeric(closure.table["pull"], errors="coerce")).any()
    return {"closure": plots.closure_figure(closure.table)} if tested else {}


def _pictures(figures: Mapping[str, Any], keep: Path) -> tuple[Picture, ...]:
    return tuple(_picture(name, figure, keep) for name, figure in figures.items())


def _pulls(curve: Curve) -> np.ndarray[Any, Any]:
    return plots.pulls_of(curve)[plots.enough_entries(curve)]


def _probabilities(fits: pd.DataFrame) -> Iterable[float]:
    from calib.quality.category_gates import probability

    if not {"chi2", "ndf"} <= set(fits.columns):
        return
    for chi2, ndf in zip(fits["chi2"], fits["ndf"], strict=True):
        if np.isfinite(as_float(chi2)) and as_float(ndf) > 0:
            yield probability(float(chi2), int(ndf))


def _closure_part(closure: Closure | None, drawn: set[str], keep: Path) -> PagePart:
    title, anchor = "Closure", "closure"
    if closure is None:
        return PagePart(title, anchor, ("No closure test has been made.",), (), ())
    sentences = tuple(_sentence(c) for c in closure.checks)
    if not len(closure.table):
        return PagePart(title, anchor, sentences, (), ())
    pictures = _pictures(_of_closure(closure), keep)
    return PagePart(title, anchor, sentences, (table("closure", closure.table, drawn),), pictures)


def _sentence(check: Check) -> str:
    numbers = ""
    if np.isfinite(check.value):
        numbers = f" {number(check.value)} (must be {SIGNS[check.sense]} {number(check.threshold)})"
    return f"{check.title}{numbers}: {check.text or ('passed' if check.passed else 'failed')}."


# accounting and provenance -----------------------------------------------------------------------
def _samples(context: ReportContext) -> list[dict[str, Any]]:
    found = []
    costs = context.provenance.get("levels") or {}
    simulated = {s.name for s in context.config.samples if s.simulation}
    for name, sample in (context.accounting.get("samples") or {}).items():
        totals = sample.get("totals") or {}
        in_files = sample.get("files") or []
        own = selection_levels.table(totals, costs.get(name) or {}, name in simulated)
        found.append(
            {
                "name": name,
                "stages": stages(totals),
                "levels": table("levels of the selection", own),
                "selected": int(totals.get("selected", 0)),
                "events": int(totals.get("events", totals.get("read", 0))),
                "files": _files(in_files),
            }
        )
    return found


def _named(reason: str) -> str:
    """Return a reason as words; a cut stays as it is written."""
    return reason if selection_levels.level_of(reason) == "cuts" else words(reason)


def stages(totals: Mapping[str, Any]) -> list[Stage]:
    """Return the flow of events from the files to the selected ones, reason by reason."""
    events = int(totals.get("events", totals.get("read", 0)))
    read = int(totals.get("read", events))
    scale = max(events, read, 1)
    left = events
    out = [Stage("in the files", 0, events, events / scale, 0.0)]
    losses = [("not read", events - read)] if events > read else []
    losses += [(_named(str(r)), int(n)) for r, n in (totals.get("rejected") or {}).items()]
    for reason, n in losses:
        left -= n
        out.append(Stage(reason, n, left, max(left, 0) / scale, n / scale))
    selected = int(totals.get("selected", 0))
    out.append(Stage("selected", 0, selected, selected / scale, 0.0))
    return out


def _files(found: Sequence[Mapping[str, Any]]) -> PageTable:
    rows = []
    for file in found:
        row = {"file": str(file.get("path", ""))}
        row |= {k: file.get(k) for k in ("events", "read", "selected")}
        row["rejected"] = ", ".join(
            f"{words(str(r))} {number(n)}" for r, n in (file.get("rejected") or {}).items()
        )
        rows.append(row)
    return table(
        "files", pd.DataFrame(rows, columns=["file", "events", "read", "selected", "rejected"])
    )


def _provenance(found: Mapping[str, Any]) -> dict[str, Any]:
    inputs = pd.DataFrame(
        [
            {k: i.get(k) for k in ("sample", "path", "size", "uuid", "events")}
            for i in found.get("inputs") or ()
        ],
        columns=["sample", "path", "size", "uuid", "events"],
    ).rename(columns={"size": "bytes"})
    steps = pd.DataFrame(
        [
            {
                "step": name,
                "wall [s]": as_float(s.get("wall_s")),
                "CPU [s]": as_float(s.get("cpu_s")),
            }
            for name, s in (found.get("steps") or {}).items()
        ],
        columns=["step", "wall [s]", "CPU [s]"],
    )
    known = ("config_hash", "code_version", "git_commit")
    machine = found.get("machine") or {}
    if not isinstance(machine, Mapping):
        machine = {"host": machine}
    return {
        "inputs": table("inputs", inputs),
        "steps": table("steps", steps),
        "machine": {words(str(k)): str(v) for k, v in machine.items()},
        "hashes": {words(k): str(found[k]) for k in known if found.get(k)},
        "packages": {str(k): str(v) for k, v in (found.get("packages") or {}).items()},
    }


def _facts(context: ReportContext) -> list[tuple[str, str]]:
    """Return the line under the title."""
    made, config = context.provenance, context.config
    packages = made.get("packages") or {}
    version = str(made.get("git_commit") or made.get("code_version") or "")
    code = " ".join(x for x in (str(packages.get("dimucal", "")), version[:12]) if x)
    samples = ", ".join(
        f"{s.name} ({s.resonance}{', simulation' if s.simulation else ''})" for s in config.samples
    )
    return [
        ("calibration", words(config.calibration)),
        ("samples", samples),
        ("date", _date(made.get("written"))),
        ("code", code or MISSING),
    ]


def _date(written: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        return MISSING
    zone = moment.tzname() or ""
    return f"{moment.day} {moment:%b %Y, %H:%M} {zone}".strip()
