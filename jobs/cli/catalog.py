"""`calib catalog`: which files there are, with their runs, events, luminosity and quality."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.console import NOT_PASSED, Command, Console, Group, Json, Quiet, Verbose, console

app = typer.Typer(
    no_args_is_help=True,
    cls=Group,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Know the files: runs, events, luminosity, quality, checksums. A query can stand for the"
    " files of a configuration: [bold]files: {catalog: PATH, query: 'run >= 315252'}[/bold].",
)

Place = Annotated[
    str, typer.Argument(metavar="CATALOG", help="File (SQLite), or postgresql://USER@HOST/NAME.")
]
Query = Annotated[
    str,
    typer.Argument(
        metavar="QUERY",
        help="Of run, events, luminosity, quality, sample, resonance, format, simulation, path,"
        " size, checksum, added, state; with == != < <= > >= in, and, or, not.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that open files.", show_default="a few")
]
A_FEW = min(8, os.cpu_count() or 1)


@app.command(cls=Command)
def add(
    catalog: Place,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILES...", help="Globs, directories, addresses.")
    ] = None,
    sample: Annotated[str | None, typer.Option(help="Name of the sample.")] = None,
    resonance: Annotated[str | None, typer.Option(help="jpsi, upsilon, z or h.")] = None,
    format: Annotated[
        str | None, typer.Option(help="nanoaod, stage1 or table; else by the names of the files.")
    ] = None,
    simulation: Annotated[bool, typer.Option("--simulation", help="Not collision data.")] = False,
    quality: Annotated[str, typer.Option(help="A word of yours, for queries.")] = "unknown",
    luminosity: Annotated[
        float | None, typer.Option(min=0, help="fb^-1 of these files, shared out by their events.")
    ] = None,
    luminosity_table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Luminosity by run or section: CSV as brilcalc writes it, or run,luminosity"
            " in fb^-1, or JSON.",
        ),
    ] = None,
    checksum: Annotated[
        bool, typer.Option("--checksum/--no-checksum", help="Read local files whole for a SHA-256.")
    ] = True,
    update: Annotated[
        bool, typer.Option("--update", help="Files that changed or moved replace their entries.")
    ] = False,
    workers: Workers = A_FEW,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Enter files, or a table of luminosities; go on where an earlier add stopped.

    Example: [bold]calib catalog add files.sqlite "z/*.parquet" --sample data --resonance z
    --quality good --luminosity-table recorded.csv[/bold]
    """
    own = console(quiet, verbose, json)
    from calib.errors import InputError
    from jobs.catalog.catalog import Catalog
    from jobs.catalog.luminosities import read_table

    if not files and luminosity_table is None:
        raise InputError("nothing to add; name files, or give --luminosity-table")
    wanted = _sample(files, sample, resonance, format, simulation) if files else None
    table = None if luminosity_table is None else read_table(luminosity_table)
    opened = Catalog.open(catalog, new=True)
    result: dict[str, Any] = {"catalog": catalog}
    if table is not None:
        opened.keep_luminosities(table)
        result["luminosities"] = len(table)
        own.say(f"{catalog}: {len(table)} luminosities of {len({r for r, _ in table})} runs")
    if wanted is not None:
        with own.working():
            found = opened.add(
                wanted,
                quality=quality,
                luminosity=luminosity,
                checksum=checksum,
                update=update,
                workers=workers,
                progress=own.progress,
            )
        n_runs = len(found.runs)
        result |= {**vars(found), "runs": n_runs, "problems": list(found.problems)}
        own.say(
            f"{catalog}: {found.added} files added, {found.replaced} replaced, {found.there}"
            f" there already; {found.events} events in {n_runs} runs"
        )
        if found.problems:
            _refuse(own, catalog, found.problems)
    own.result(result)


def _refuse(own: Console, catalog: str, problems: tuple[str, ...]) -> None:
    """End with what was not added; all else is in."""
    from rich.markup import escape

    from calib.errors import InputError

    for sentence in problems[1:]:
        own.say(escape(sentence))
    raise InputError(
        f"{problems[0]} ({len(problems)} not added to {catalog}, all others are in it)"
    )


def _sample(
    files: list[str], name: str | None, resonance: str | None, format: str | None, simulation: bool
) -> Any:
    from calib.errors import InputError
    from calib.schema import Sample, validated

    if format == "table":
        resonance = resonance or "none"
    for option, value in (("--sample", name), ("--resonance", resonance)):
        if value is None:
            raise InputError(f"option {option} is missing; say what the files are")
    if format is None:
        kinds = {".root": "nanoaod", ".parquet": "stage1"}
        found = {kinds.get(Path(f).suffix) for f in files}
        if len(found) != 1 or None in found:
            raise InputError("option --format is missing; give nanoaod, stage1 or table")
        format = found.pop()
    values = {
        "name": name,
        "resonance": resonance,
        "format": format,
        "files": files,
        "simulation": simulation,
    }
    return validated(Sample, values, "calib catalog add")


@app.command("list", cls=Command)
def list_(catalog: Place, quiet: Quiet = False, verbose: Verbose = 0, json: Json = False) -> None:
    """Say which samples there are, with their files, runs, events and luminosity.

    Example: [bold]calib catalog list files.sqlite[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.catalog.catalog import Catalog

    found = Catalog.open(catalog).samples()
    columns = ("sample", "format", "resonance", "files", "events", "runs", "luminosity")
    rows = [
        [
            f"{r['sample']}{' (simulation)' if r['simulation'] else ''}",
            r["format"],
            r["resonance"],
            r["files"],
            r["events"],
            _range(r),
            _fb(r["luminosity"]),
        ]
        for r in found
    ]
    own.show(_table(columns, rows))
    own.result({"catalog": catalog, "samples": found})


@app.command(cls=Command)
def query(
    catalog: Place,
    query: Query,
    limit: Annotated[int, typer.Option(min=0, help="Rows that are shown; all are counted.")] = 20,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Say what a query gives: files with their runs, and how much it is in all.

    Example: [bold]calib catalog query files.sqlite 'run >= 315252 and quality == "good"
    and format == "stage1"'[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.catalog.catalog import Catalog

    opened = Catalog.open(catalog)
    total = opened.totals(query)
    rows = opened.entries(query, limit)
    columns = ("run", "events", "luminosity", "quality", "sample", "path")
    own.show(
        _table(
            columns,
            [
                [r["run"], r["events"], _fb(r["luminosity"]), r["quality"], r["sample"], r["path"]]
                for r in rows
            ],
        )
    )
    luminosity = _fb(total.luminosity) + ("" if total.luminosity is None else " fb^-1")
    own.say(
        f"{total.files} files, {total.runs} runs ({_range(vars(total))}), {total.events}"
        f" events, luminosity {luminosity}"
    )
    own.result({"catalog": catalog, "query": query, **vars(total), "entries": rows})


@app.command(cls=Command)
def buckets(
    catalog: Place,
    query: Query,
    minimum: Annotated[float, typer.Option(help="fb^-1 of a bucket.")] = 9.0,
    boundary: Annotated[
        list[int] | None, typer.Option(metavar="RUN", help="A bucket begins here in any case.")
    ] = None,
    open_end: Annotated[
        bool, typer.Option("--open", help="More runs will come: a leftover waits for them.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Say into which buckets the runs of a query fall.

    Example: [bold]calib catalog buckets files.sqlite 'quality == "good"' --minimum 9[/bold]
    """
    own = console(quiet, verbose, json)
    from calib.quality.buckets import buckets as into
    from jobs.catalog.catalog import Catalog

    runs = Catalog.open(catalog).runs(query)
    found = into(runs, minimum, boundary or (), closed=not open_end)
    columns = ("first", "last", "runs", "luminosity", "prescale", "")
    rows = [
        [
            b.first,
            b.last,
            len(b.runs),
            _fb(b.luminosity),
            f"{b.prescale:.3f}",
            "" if b.complete else "waits for more" if b.waiting else "below the minimum",
        ]
        for b in found
    ]
    own.show(_table(columns, rows))
    own.result({"catalog": catalog, "query": query, "buckets": [vars(b) for b in found]})


@app.command(cls=Command)
def mark(
    catalog: Place,
    query: Query,
    quality: Annotated[str, typer.Option(help="A word of yours, for queries.")],
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Give the runs that a query matches a quality.

    Example: [bold]calib catalog mark files.sqlite 'run == 315257' --quality bad[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.catalog.catalog import Catalog

    n = Catalog.open(catalog).mark(query, quality)
    own.say(f"{catalog}: {n} runs of files are {quality}")
    own.result({"catalog": catalog, "query": query, "quality": quality, "entries": n})


@app.command(cls=Command)
def check(
    catalog: Place,
    query: Annotated[
        str, typer.Argument(metavar="[QUERY]", help="Which files; else all of them.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Open the files, but read no checksum.")
    ] = False,
    workers: Workers = A_FEW,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Look at the files again: size, checksum, readability; exit code 3 where one is not as it was.

    Example: [bold]calib catalog check files.sqlite 'sample == "data"'[/bold]
    """
    own = console(quiet, verbose, json)
    from rich.markup import escape

    from jobs.catalog.catalog import Catalog
    from jobs.catalog.checking import check as look_again

    opened = Catalog.open(catalog)
    with own.working():
        n, wrong = look_again(opened, query, quick=quick, workers=workers, progress=own.progress)
    for verdict in wrong:
        own.say(escape(f"{verdict.path}: {verdict.state}: {verdict.text}"))
    own.say(f"{catalog}: {n - len(wrong)} of {n} files are as they were")
    own.result({"catalog": catalog, "files": n, "wrong": [vars(v) for v in wrong]})
    if wrong:
        raise typer.Exit(NOT_PASSED)


def _table(columns: tuple[str, ...], rows: list[list[Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    numbers = {"files", "events", "luminosity", "run", "first", "last", "runs", "prescale"}
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def _range(row: Any) -> str:
    first, last = row["first"], row["last"]
    return "" if first is None else str(first) if first == last else f"{first} - {last}"


def _fb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"
