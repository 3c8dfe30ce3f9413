"""The end of a command: verdict, counts and where to read on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.console import Console
    from jobs.storage.files import RunDirectory


def conclude(
    directory: RunDirectory, decided: Mapping[str, Any], accounting: Mapping[str, Any], own: Console
) -> dict[str, Any]:
    """Show what came out of a run; return it as plain values."""
    for note in accounting["notes"]:
        own.say(f"note: {escape(note)}")
    own.show(counts_table(accounting))
    own.show(checks_table(decided))
    own.say(verdict_line(decided))
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
    """Return each check beside its threshold."""
    from rich.table import Table

    table = Table("check", box=None, pad_edge=False)
    for column in ("value", "threshold"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("")
    for check in decided["checks"]:
        mark = "[green]passed[/green]" if check["passed"] else "[red]not passed[/red]"
        table.add_row(
            escape(check["name"]),
            _number(check["value"]),
            _number(check["threshold"]),
            mark,
            escape(check["text"]),
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
