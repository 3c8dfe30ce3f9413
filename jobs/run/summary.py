"""The end of a command: verdict, counts and where to read on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from calib.quality.verdict import for_people

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.console import Console
    from jobs.storage.files import RunDirectory


def conclude(
    directory: RunDirectory, decided: Mapping[str, Any], accounting: Mapping[str, Any], own: Console
) -> dict[str, Any]:
    """Show what came out of a run; return it as plain values.

    Parameters
    ----------
    directory : RunDirectory
        Of the run.
    decided : mapping
        The verdict.
    accounting : mapping
        Where every event went.
    own : Console
        Where it is shown.

    Returns
    -------
    dict
        For ``--json``: ``directory, passed, verdict, samples, report``.
    """
    for note in accounting["notes"]:
        own.say(f"note: {escape(note)}")
    own.show(counts_table(accounting))
    own.show(checks_table(decided))
    own.say(verdict_line(decided))
    for line in advice(decided):
        own.say(line)
    page = directory / "report.html"
    own.say(f"report: {page}" if page.is_file() else "report: not written yet")
    return {
        "directory": str(directory.path),
        "passed": decided["passed"],
        "verdict": decided,
        "samples": {name: s["totals"] for name, s in accounting["samples"].items()},
        "report": str(page),
    }


def verdict_line(decided: Mapping[str, Any]) -> str:
    """Return the verdict in one line."""
    if decided["passed"]:
        return f"[bold green]verdict: passed[/bold green], {len(decided['checks'])} checks"
    bad = [check["name"] for check in decided["checks"] if not check["passed"]]
    return (
        f"[bold red]verdict: not passed[/bold red], {len(bad)} of {len(decided['checks'])} checks:"
        f" {', '.join(bad)}"
    )


def advice(decided: Mapping[str, Any]) -> list[str]:
    """Return what to do about each check that is not passed, a line each."""
    lines = []
    for check in for_people(decided):
        if not check["passed"]:
            beyond = f", {check['beyond']}" * bool(check["beyond"])
            number = f" {_number(check['value'])} (must be {check['limit']}{beyond})"
            lines.append(
                f"[bold]{escape(check['title'])}[/bold]{number * bool(check['limit'])}:"
                f" {escape(check['advice'] or check['text'])}"
            )
    return lines


def counts_table(accounting: Mapping[str, Any]) -> Table:
    """Return where the events went, by sample."""
    from rich.table import Table

    table = Table("sample", box=None, pad_edge=False)
    for column in ("events", "selected"):
        table.add_column(column, justify="right")
    table.add_column("rejected")
    for name, sample in accounting["samples"].items():
        totals = sample["totals"]
        rejected = ", ".join(f"{reason} {n}" for reason, n in totals["rejected"].items())
        table.add_row(escape(name), str(totals["events"]), str(totals["selected"]), rejected)
    return table


def checks_table(decided: Mapping[str, Any]) -> Table:
    """Return each check beside its limit, those that are not passed first."""
    from rich.table import Table

    table = Table("check", box=None, pad_edge=False)
    for column in ("value", "limit"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("")
    for check in for_people(decided):
        mark = "[green]passed[/green]" if check["passed"] else "[red]not passed[/red]"
        table.add_row(
            escape(check["title"]),
            _number(check["value"]),
            check["limit"] or "–",
            mark,
            escape(check["text"]),
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
