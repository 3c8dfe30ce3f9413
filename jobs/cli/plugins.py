"""`calib plugins`: the calibrations that are there."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.console import NOT_PASSED, Json, Quiet, Verbose, console


def plugins(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="These; without it all.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Run each on a few toys.")
    ] = True,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """List the calibrations, where they are from, and whether they keep the contract.

    Each is run on a few toys: settings, collect in other chunks, reduce, payload, closure, report,
    apply. A package brings one by an entry point of the group dimucal.calibrations. Exit code 3:
    one does not keep the contract.

    Example: [bold]calib plugins --no-check[/bold]
    """
    own = console(quiet, verbose, json)
    import logging

    from rich.markup import escape
    from rich.table import Table

    from calib import calibrations
    from calib.errors import InputError
    from jobs.run.plugin_check import Judged, as_values, judged

    there = calibrations.plugins()
    for name in names or ():
        if name not in {p.name for p in there}:
            raise InputError(
                f"there is no calibration {name!r}; there are: "
                + ", ".join(calibrations.available())
            )
    chosen = [p for p in there if not names or p.name in names]
    if not verbose:  # toys are few: what a run would warn of says nothing here
        logging.getLogger("jobs").setLevel(logging.ERROR)
        logging.getLogger("calib").setLevel(logging.ERROR)
    found = []
    with own.working():
        for i, plugin in enumerate(chosen):
            own.progress("plugins", i, len(chosen))
            found.append(judged(plugin) if check else Judged(plugin, ()))
        own.progress("plugins", len(chosen), len(chosen))
    table = Table("calibration", "package", "contract", "", box=None, pad_edge=False)
    for one in found:
        bad = next((f for f in one.findings if not f.passed), None)
        word = "[green]kept[/green]" if one.keeps else "[red]broken[/red]"
        package = f"{one.plugin.package} {one.plugin.version}".strip()
        table.add_row(
            escape(one.plugin.name),
            escape(package),
            word if check else "not looked at",
            escape(f"{bad.check}: {bad.text}") if bad else "",
        )
    own.show(table)
    own.result({"plugins": [as_values(one) for one in found]})
    raise typer.Exit(0 if all(one.keeps for one in found) else NOT_PASSED)
