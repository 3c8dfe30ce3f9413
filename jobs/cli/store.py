"""`calib publish` and `calib store`: constants with intervals of validity."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import NOT_PASSED, Command, Group, Json, Quiet, Verbose, console

if TYPE_CHECKING:
    from jobs.store import Store

log = logging.getLogger(__name__)

app = typer.Typer(
    no_args_is_help=True,
    cls=Group,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Published constants: what holds for which run, and how it came to that. Nothing is ever"
    " changed or removed. A store is a directory, or postgresql://USER@HOST/NAME (its password in"
    " PGPASSWORD or ~/.pgpass); [bold]calib publish[/bold] fills it. Writers on several machines"
    " need the database: a directory relies on the locks of a local disk.",
)


class StoreCommand(Command):
    """A command on a store, which may also be named by --store, as `calib publish` does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the store from the option to the first place."""
        for i, word in enumerate(args):
            if word == "--store" and i + 1 < len(args):
                args = [args[i + 1], *args[:i], *args[i + 2 :]]
                break
            if word.startswith("--store="):
                args = [word.removeprefix("--store="), *args[:i], *args[i + 1 :]]
                break
        return list(super().parse_args(ctx, args))


Place = Annotated[
    str, typer.Argument(metavar="STORE", help="Directory, or postgresql://USER@HOST/NAME.")
]
Number = Annotated[int, typer.Argument(metavar="N", help="Number of a revision.")]
Calibration = Annotated[
    str | None, typer.Option(metavar="NAME", help="Needed where the store has several.")
]
TagName = Annotated[str, typer.Option(metavar="TAG", help="The line of revisions.")]
AsOf = Annotated[
    int | None, typer.Option(metavar="N", help="As it was when revision N was the newest.")
]
Until = Annotated[
    int | None, typer.Option(min=0, metavar="RUN", help="Last run; without it: open.")
]
Why = Annotated[str, typer.Option(metavar="TEXT", help="The reason; it stays with the revision.")]


def publish(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a finished run.")],
    store: Annotated[
        str,
        typer.Option(
            metavar="STORE", help="Directory (made if need be), or postgresql://USER@HOST/NAME."
        ),
    ],
    since: Annotated[int, typer.Option(min=0, metavar="RUN", help="First run.")],
    until: Until = None,
    tag: TagName = "main",
    calibration: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the run must be of.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take over runs for which something else holds.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Although the verdict is not passed; needs --why.")
    ] = False,
    why: Why = "",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Publish the payload of a run whose verdict is passed, for an interval of runs.

    Without --until it holds from then on, and what held before ends there. Any other overlap is
    refused, unless --replace is given. Of a chain all steps are published. Exit code 3: the
    verdict is not passed.

    Example: [bold]calib publish z-2018 --store constants --since 315252[/bold]
    """
    own = console(quiet, verbose, json)
    from rich.markup import escape

    from jobs.config.schema import is_chain
    from jobs.storage.database import is_address
    from jobs.store import NotPublishable, Store, chains

    kept = Store.open(store) if is_address(store) else Store.create(store)
    how = {"force": force, "why": why, "replace": replace}
    try:
        if is_chain(directory):
            made = chains.publish(kept, directory, since, until, tag, **how)
        else:
            made = (kept.publish(directory, calibration, since, until, tag, **how),)
    except NotPublishable as error:
        own.complain(str(error), NOT_PASSED)
    for one in made:
        own.say(
            f"revision {one.number}: {one.calibration}, runs {one.validity}, tag {tag}"
            f"{f' - [red]forced[/red]: {escape(one.why)}' if one.forced else ''}"
        )
    own.say(f"[bold]calib store get {store} --run {since} --out payload.json[/bold] has it back")
    own.result({"store": store, **made[-1].as_dict(), "revisions": [r.as_dict() for r in made]})


def gain(
    place: Annotated[
        str, typer.Argument(metavar="DIR|STORE", help="Directory of a run, or a store.")
    ],
    times: Annotated[
        float, typer.Option(min=1e-3, max=1e6, help="Luminosity of the data over that of now.")
    ] = 2.0,
    least: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Of a store: share by which an error must fall to be worth it."
        ),
    ] = 0.1,
    tag: TagName = "main",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Say what error more data would give, kind by kind of parameter (--json: each parameter).

    What is measured falls with the luminosity; systematic variations and the statistics of a
    simulation stay. Of a store: which calibrations are worth redoing, the most gain first.

    Example: [bold]calib gain z-2018[/bold], or [bold]calib gain constants --times 3[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.nightly import constants
    from jobs.storage.files import is_store

    if is_store(place):
        found = constants.gain_of_store(_opened(place), times, tag, least)
    else:
        found = constants.gain_of_run(Path(place), times)
    own.show(constants.gain_table(found))
    for line in constants.gain_lines(found):
        own.say(line)
    own.result(found)


@app.command(cls=StoreCommand)
def init(
    store: Place,
    files: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of payloads and reports, for a database.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Make a store, or bring the tables of an older one up to date.

    Example: [bold]calib store init constants[/bold]

    In a database that is there: [bold]calib store init postgresql://calib@db.example/constants
    --files /data/constants[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.store import Store

    made = Store.create(store, files)
    own.say(f"{store}: a store, files in {made.content.folder}, {len(made.revisions())} revisions")
    own.result({"store": store, "files": str(made.content.folder)})


@app.command("list", cls=StoreCommand)
def list_(
    store: Place,
    calibration: Annotated[str | None, typer.Option(metavar="NAME", help="This one.")] = None,
    tag: TagName = "main",
    as_of: AsOf = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Show what holds for which runs.

    Example: [bold]calib store list constants[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.store import display

    kept = _opened(store)
    names = kept.calibrations() if calibration is None else (calibration,)
    found = [i for name in names for i in kept.intervals(name, tag, as_of)]
    own.show(display.intervals_table(found))
    for line in display.forced_lines(i.revision for i in found):
        own.say(line)
    if not found:
        own.say(f"tag {tag}: nothing holds")
    own.result(
        {"store": store, "tag": tag, "as_of": as_of, "intervals": [i.as_dict() for i in found]}
    )


@app.command(cls=StoreCommand)
def history(
    store: Place,
    calibration: Annotated[str | None, typer.Option(metavar="NAME", help="This one.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="This one; else all.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Show every revision, also those that no longer hold, oldest first.

    Example: [bold]calib store history constants --tag main[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.store import display

    found = _opened(store).revisions(calibration, tag)
    own.show(display.revisions_table(found))
    for line in display.forced_lines(found):
        own.say(line)
    own.result({"store": store, "revisions": [r.as_dict() for r in found]})


@app.command(cls=StoreCommand)
def show(
    store: Place,
    number: Number,
    files: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy what was kept of the run into it.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Show one revision: verdict, provenance, checksum, and where it holds now.

    Example: [bold]calib store show constants 12 --files run-12[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.store import display

    kept = _opened(store)
    found = display.details(kept, kept.revision(number))
    if files is not None:
        found["copied"] = display.copy_files(kept, kept.revision(number), files)
    for line in display.lines(found):
        own.say(line)
    own.result(found)


@app.command(cls=StoreCommand)
def get(
    store: Place,
    run: Annotated[
        int | None, typer.Option(min=0, metavar="RUN", help="Of this run; without it: all runs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write (.json, .json.gz); else stdout."),
    ] = None,
    revision: Annotated[
        int | None, typer.Option(metavar="N", help="Of this revision, whether it holds or not.")
    ] = None,
    calibration: Calibration = None,
    tag: TagName = "main",
    as_of: AsOf = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write the payload that holds for a run, the same to the byte as it was published.

    Without --run: one correctionlib file for all runs, for analyses; its first input is the run.

    Example: [bold]calib store get constants --run 317000 --out payload.json[/bold]
    """
    own = console(quiet, verbose, json)
    from calib.errors import InputError
    from jobs.store import display

    if run is not None and revision is not None:
        raise InputError("options --run and --revision: two answers to one question; leave one out")
    kept = _opened(store)
    if run is None and revision is None:
        data, facts = display.for_all_runs(kept, calibration, tag, as_of)
    else:
        where = {"calibration": calibration, "tag": tag, "as_of": as_of}
        made = kept.at(run, **where) if run is not None else kept.revision(int(revision or 0))
        data, facts = kept.payload(made), {"revision": made.as_dict()}
        if made.forced:
            log.warning("revision %d was forced, its verdict not passed: %s", made.number, made.why)
    if out is None:
        if own.json:
            own.result({**facts, "payload": data.decode("utf-8")})
        else:
            typer.echo(data, nl=False)
        return
    display.write_bytes(out, data)
    own.say(f"{out}: {display.what(facts)}, {len(data)} bytes")
    own.result({**facts, "path": str(out), "size": len(data)})


@app.command(cls=StoreCommand)
def diff(
    store: Place,
    before: Annotated[int, typer.Argument(metavar="N", help="Number of a revision.")],
    after: Annotated[int, typer.Argument(metavar="M", help="Number of another one.")],
    top: Annotated[int, typer.Option(min=1, help="Rows to show, the largest moves.")] = 20,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Compare two revisions, parameter by parameter, in standard deviations.

    Example: [bold]calib store diff constants 11 12[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.store import display
    from jobs.store.differences import compare

    found = compare(_opened(store), before, after)
    own.show(display.difference_table(found, top))
    for line in display.difference_lines(found):
        own.say(line)
    own.result(found.as_dict())


@app.command(cls=StoreCommand)
def extend(
    store: Place,
    number: Number,
    until: Until = None,
    why: Why = "",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Let what holds go on to hold for later runs: a new revision.

    Example: [bold]calib store extend constants 12 --until 318000[/bold]
    """
    own = console(quiet, verbose, json)
    made = _opened(store).extend(number, until, why)
    own.say(f"revision {made.number}: revision {made.origin} holds for runs {made.validity} too")
    own.result({"store": store, **made.as_dict()})


@app.command(cls=StoreCommand)
def rollback(
    store: Place,
    to: Annotated[
        int, typer.Option(min=0, metavar="N", help="As it was when revision N was the newest.")
    ],
    why: Why = "",
    calibration: Calibration = None,
    tag: TagName = "main",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Let hold again what held as of a revision: a new revision, the others stay.

    Example: [bold]calib store rollback constants --to 11 --why "12 had the wrong field map"[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.store import display

    kept = _opened(store)
    made = kept.rollback(to, calibration, tag, why)
    own.say(f"revision {made.number}: {made.calibration} in tag {tag} is as of revision {to} again")
    own.show(display.intervals_table(kept.intervals(made.calibration, tag)))
    own.result({"store": store, **made.as_dict()})


@app.command(cls=StoreCommand)
def tag(
    store: Place,
    name: Annotated[
        str | None, typer.Argument(metavar="[TAG]", help="To make or to freeze; else list them.")
    ] = None,
    of: Annotated[str, typer.Option(metavar="TAG", help="A new one begins as this one.")] = "main",
    as_of: AsOf = None,
    empty: Annotated[bool, typer.Option("--empty", help="A new one begins with nothing.")] = False,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Nothing may come into it any more, for ever.")
    ] = False,
    why: Why = "",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Make a tag, freeze one, or list them.

    Example: [bold]calib store tag constants reprocessing-2018 --frozen[/bold]
    """
    own = console(quiet, verbose, json)
    from dataclasses import asdict

    from jobs.store import display

    kept = _opened(store)
    if name is not None:
        made = kept.tag(name, of=None if empty else of, as_of=as_of, frozen=frozen, why=why)
        own.say(f"tag {made.name}: {'frozen' if made.frozen else 'open'}")
    found = kept.tags()
    own.show(display.tags_table(found))
    own.result({"store": store, "tags": [asdict(t) for t in found]})


@app.command(cls=StoreCommand)
def check(
    store: Place,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Remove what publishers that were killed have left.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Verify the checksum of everything that was published; exit code 3 where one is wrong.

    Example: [bold]calib store check constants[/bold]
    """
    own = console(quiet, verbose, json)
    from rich.markup import escape

    kept = _opened(store)
    found = kept.problems()
    swept = kept.sweep() if sweep else []
    for sentence in found:
        own.say(f"[red]{escape(sentence)}[/red]")
    total = len(kept.revisions())
    own.say(
        f"{store}: {total} revisions, {len(found)} problems"
        f"{f', {len(swept)} left-overs removed' if sweep else ''}"
    )
    own.result({"store": store, "revisions": total, "problems": found, "swept": swept})
    if found:
        raise typer.Exit(NOT_PASSED)


def _opened(store: str) -> Store:
    from jobs.store import Store

    return Store.open(store)
