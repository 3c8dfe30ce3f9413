"""The commands. Heavy imports stand inside them, so that `calib --help` answers at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jobs.cli import catalog, cluster, nightly, plugins, serve, store
from jobs.console import NOT_PASSED, PASSED, Command, Console, Group, Json, Quiet, Verbose, console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=Group,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Calibrate the dimuon momentum scale and mass resolution."
    "\n\nExample: [bold]calib demo[/bold] shows the whole chain on simulated events.",
    epilog="Exit codes: 0 verdict passed; 1 failed while running (what was done is kept);"
    " 2 bad configuration, input or usage; 3 finished, verdict not passed; 130 interrupted.",
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a run.")]
Earlier = Annotated[
    Path | None,
    typer.Option(metavar="PAYLOAD", help="An earlier payload.json; the report says what moved."),
]


def _say_version(asked: bool) -> None:
    if asked:
        from calib import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command(cls=Command)
def init(
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT.yaml]", help="File to write; else stdout.")
    ] = None,
    calibration: Annotated[str | None, typer.Option(help="Its name.")] = None,
    resonance: Annotated[
        str | None, typer.Option(help="jpsi, upsilon, z or h; by default what it takes, Z first.")
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Files to look at: format, resonance, simulation and triggers are filled in from"
            " the first of them. May be given again, for a simulation beside the data.",
        ),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Write a page of all settings, OUT.md, instead.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON schema, which editors use, instead.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write a commented configuration.

    Example: [bold]calib init z-2018.yaml --resonance z[/bold], or
    [bold]calib init mine.yaml --files data/*.root --files mc/*.root[/bold], which looks at them, or
    [bold]calib init settings.md --table[/bold], or
    [bold]calib init calib-schema.json --schema[/bold]: editors that know YAML check and complete
    the keys of a configuration by it.
    """
    own = console(quiet, verbose, json)
    from jobs.config.template import commented, write_configuration

    if schema:
        from jobs.config.template import json_schema, write_json_schema

        if out is not None:
            write_json_schema(out)
            own.say(f"{out}: written")
            own.result({"path": str(out)})
        else:
            import json as documents

            typer.echo(documents.dumps(json_schema(), indent=1))
        return

    if table:
        from jobs.config import settings_table

        if out is None:
            typer.echo(settings_table.table(), nl=False)
        else:
            settings_table.write_table(out)
        return
    if out is None:
        text = commented(calibration, resonance, files or ())
        if own.json:
            own.result({"configuration": text})
        else:
            typer.echo(text, nl=False)
        return
    write_configuration(out, calibration, resonance, files or ())
    then = "" if files else "name your files in it, then "
    own.say(f"{out}: written; {then}[bold]calib run {out} --out DIR[/bold]")
    own.result({"path": str(out)})


@app.command(cls=Command)
def toys(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make.")],
    resonance: Annotated[str, typer.Option(help="jpsi, upsilon, z or h.")],
    events: Annotated[int, typer.Option(min=1, help="Number of pairs.")],
    truth: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="What is put in. default: a momentum scale (A, e, M, resolution in 48 eta bins)"
            " for jpsi and upsilon, a resolution per |eta| ring for z and h; momentum-scale: the"
            " same scale for any resonance; impact-parameter: the default, with d0 and z0 of known"
            " resolution; or a JSON file with keys as in truth.json.",
        ),
    ] = "default",
    format: Annotated[str, typer.Option(help="nanoaod or stage1.")] = "nanoaod",
    files: Annotated[int, typer.Option(min=1, help="Number of files.")] = 1,
    simulation: Annotated[
        bool,
        typer.Option(
            "--simulation",
            help="With generated muons and without background; a momentum scale that is put in"
            " is then another one, with a better resolution.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 1,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write simulated events with known truth, and truth.json.

    Example: [bold]calib toys toys/ --resonance z --events 100000 --files 4[/bold]

    For a momentum scale from two resonances:
    [bold]calib toys jpsi/ --resonance jpsi --events 1000000[/bold] and
    [bold]calib toys z/ --resonance z --truth momentum-scale --events 300000[/bold]
    """
    own = console(quiet, verbose, json)
    from calib.errors import InputError
    from calib.physics.constants import RESONANCES
    from calib.toys.generation import generate
    from jobs.events.toys import add_truths, truth_of_toys, write_toys

    if format not in ("nanoaod", "stage1"):
        raise InputError(f"option --format: found {format!r}; give nanoaod or stage1")
    if resonance not in RESONANCES:
        raise InputError(
            f"option --resonance: found {resonance!r}; give one of {', '.join(RESONANCES)}"
        )
    put_in = truth_of_toys(truth, resonance, simulation)
    made = generate(resonance, events, seed=seed, truth=put_in, simulation=simulation)
    write_toys(out, made, format, files)
    add_truths(out, made.pairs)
    own.say(f"{out}: {events} events in {files} files, and truth.json")
    own.result({"path": str(out), "events": events, "files": files})


@app.command(cls=Command)
def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Configuration, or the DIR of a run.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory to make, or to go on in.")
    ] = None,
    earlier: Earlier = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Collect, reduce, test and report; go on where an earlier run stopped.

    Example: [bold]calib run z-2018.yaml --out z-2018[/bold]

    In a directory that exists, what is done is not done again: another selection, or a setting
    that the sums depend on, collects all events again and says why; a setting of the reduction
    alone touches none. Another name, calibration or seed, or other samples, are another run, and
    are refused.

    With the key [bold]chain[/bold], several calibrations run in order, each on the events that
    those before it have corrected.
    """
    own = console(quiet, verbose, json)
    made = _prepared(config, out)
    with made.held(_command()), own.working():
        made.execute(own.progress, earlier)
    _end(own, made.conclude(own))


@app.command(cls=Command)
def collect(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Configuration, or the DIR of a run.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory to make, or to go on in.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Walk over the events and add up the histograms: the first step of a run.

    Example: [bold]calib collect z-2018.yaml --out z-2018[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.run.summary import counts_table

    made = _prepared(config, out, single=True)
    with made.held(_command()), own.working():
        accounting = made.collect(own.progress)
    own.show(counts_table(accounting))
    own.result({"directory": str(made.directory.path), "accounting": accounting})


@app.command(cls=Command)
def skim(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration of a run.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to make, or to go on in.")],
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write the events that a calibration uses as stage1, which is read many times faster.

    Example: [bold]calib skim z-2018.yaml --out skim-2018[/bold], then
    [bold]calib run skim-2018/skimmed.yaml --out z-2018-skimmed[/bold]
    """
    own = console(quiet, verbose, json)
    from rich.markup import escape

    from jobs.events.skim import USE
    from jobs.events.skim import skim as make

    with own.working():
        found = make(config, out, _command(), own.progress)
    for name, sample in found["samples"].items():
        size = sum(file["size"] for file in sample["files"])
        own.say(
            f"{name}: {sample['selected']} of {sample['events']} events in"
            f" {len(sample['files'])} files, {size / 1e6:.1f} MB"
        )
    own.say(f"use it by [bold]calib run {out / USE} --out DIR[/bold], or by these keys:")
    own.say(escape(found["configuration"].rstrip()))
    own.result({"directory": str(out), **found})


@app.command(cls=Command)
def reduce(
    directory: Directory,
    category: Annotated[str | None, typer.Option(help="Refit this one.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="For this category.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Take its earlier settings back first.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Fit the sums again and rebuild everything after them, without touching events.

    Example: [bold]calib reduce z-2018 --category 30-45_EE --set fit.range=[82,98][/bold]

    In the directory of a chain a category is [bold]STEP/NAME[/bold].
    """
    own = console(quiet, verbose, json)
    made = _resumed(directory)
    with made.held(_command()), own.working():
        made.refit(category, set_ or (), reset, own.progress)
    _end(own, made.conclude(own))


@app.command(cls=Command)
def closure(
    directory: Directory, quiet: Quiet = False, verbose: Verbose = 0, json: Json = False
) -> None:
    """Test the result on events that took no part in it, and decide again.

    Example: [bold]calib closure z-2018[/bold]
    """
    own = console(quiet, verbose, json)
    made = _resumed(directory, single=True)
    with made.held(_command()), own.working():
        made.close(own.progress)
    _end(own, made.conclude(own))


@app.command(cls=Command)
def report(
    directory: Directory,
    earlier: Earlier = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write the page that people read, report.html, and the figures in plots/.

    Example: [bold]calib report z-2018 --earlier z-2017/payload.json[/bold]
    """
    own = console(quiet, verbose, json)
    made = _resumed(directory)
    with made.held(_command()), own.working():
        made.report(own.progress, earlier)
    _end(own, made.conclude(own))


@app.command(cls=Command)
def apply(
    payload: Annotated[Path, typer.Argument(metavar="PAYLOAD", help="payload.json of a run.")],
    events: Annotated[Path, typer.Argument(metavar="IN", help="stage1 .parquet or NanoAOD .root.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, same format.")],
    simulation: Annotated[
        bool | None,
        typer.Option(
            "--simulation/--data", help="What the events are; by default as the file shows."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Correct muons that were corrected before once more.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write corrected events: all that is in IN, with columns of the payload added or replaced.

    What is replaced is kept in columns that end in _measured; the file says by which payload it
    was corrected, and is not corrected again. What cannot be written again (text, objects) is
    named.

    Example: [bold]calib apply z-2018/payload.json events.parquet corrected.parquet[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.events.apply import apply_payload

    with own.working():
        done = apply_payload(payload, events, out, own.progress, simulation=simulation, again=again)
    own.say(
        f"{out}: {done['events']} events, {done['corrected']} of them corrected,"
        f" new columns {', '.join(done['added']) or 'none'},"
        f" replaced {', '.join(done['replaced']) or 'none'}"
    )
    if "assumed" in done:
        own.say(f"  taken as {done['assumed']}: {done['assumed_because']}")
    for reason, n in done["left_alone"].items():
        own.say(f"  left as it was: {reason} {n}")
    if done["left_out"]:
        own.say(f"  not written again: {', '.join(done['left_out'])}")
    own.result(done)


@app.command(cls=Command)
def export(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Directory of a run, or a payload.json.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .json or .json.gz.")],
    layout: Annotated[
        str | None,
        typer.Option(
            help="muon_scalesmearing: the file of CMS analyses, scale and smearing;"
            " additive_multiplicative: m and a alone."
        ),
    ] = None,
    at: Annotated[
        float | None,
        typer.Option("--at", metavar="PT", help="GeV; what is dropped is absorbed at this pt."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Write a payload in the layout of others, and say what that layout cannot hold.

    Example: [bold]calib export run --layout muon_scalesmearing muon_scalesmearing.json.gz[/bold].
    Of a directory the widths and tails of simulated muons are taken as well, which a payload alone
    does not have.
    """
    own = console(quiet, verbose, json)
    from jobs.run.export import export_payload

    done = export_payload(source, out, layout, at)
    own.say(f"{out}: {', '.join(done['corrections'])}")
    for sentence in done["lost"]:
        own.say(f"  {sentence}")
    own.result(done)


@app.command(cls=Command)
def audit(
    correction: Annotated[
        str,
        typer.Argument(
            metavar="CORRECTION",
            help="A payload, a muon_scalesmearing.json.gz, a column of corrected pt, or none.",
        ),
    ],
    events: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG|FILES", help="Configuration or DIR of a run; or files with events."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to make, or to go on in.")],
    resonance: Annotated[str, typer.Option(help="Of the events, where files are given.")] = "z",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Apply any correction and say what is left of scale and width, data against simulation.

    By eta, phi, pt, run and charge, in residuals.csv and report.html; the verdict fails where a
    correction is wrong for these events: applied twice, of another campaign, with the other sign of
    the charge, smearing on data, the same random number for both muons.

    Example: [bold]calib audit scale/payload.json z-2018.yaml --out audit[/bold]; in place of the
    payload muon_scalesmearing.json.gz, or correctedPt: a branch of the events.
    """
    own = console(quiet, verbose, json)
    from jobs.run.audit import audit_of

    made = audit_of(correction, events, resonance, out)
    with made.held(_command()), own.working():
        made.execute(own.progress)
    _end(own, made.conclude(own))


@app.command(cls=Command)
def validate(
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help="Of the mass resolution, or DIR of its run.")
    ],
    samples: Annotated[
        list[Path],
        typer.Option(
            metavar="CONFIG|FILE",
            help="Configuration with simulated Higgs bosons, DIR of a run, or a file of events.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to make, or to go on in.")],
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Hold a mass resolution against simulated Higgs bosons: predicted beside fitted, bin by bin.

    The mass in bins of the calibrated prediction is fitted with a double-sided Crystal Ball; the
    page shows the predictions in signal region and sidebands too. Exit code 3: they disagree.

    Example: [bold]calib validate z-2018/payload.json --samples h.yaml --out validation[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.run.audit import validation_of

    made = validation_of(payload, samples, out)
    with made.held(_command()), own.working():
        made.execute(own.progress)
    _end(own, made.conclude(own))


@app.command(cls=Command)
def status(
    place: Annotated[
        str, typer.Argument(metavar="DIR|STORE", help="Directory of a run, or a store.")
    ],
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Say what is done, what came out and where the report is; of a store, what needs a person.

    Example: [bold]calib status z-2018[/bold], or [bold]calib status constants[/bold] for what the
    last night did with the constants in that store.
    """
    own = console(quiet, verbose, json)
    from jobs.config.schema import is_chain
    from jobs.storage.files import is_store

    directory = Path(place)
    if is_store(place):
        from jobs.nightly.overview import lines, standing

        found = standing(place)
        for line in lines(found):
            own.say(line)
    elif is_chain(directory):
        from jobs.run import chain

        found = chain.ChainRun.resume(directory).status()
        for line in chain.lines(found):
            own.say(line)
    else:
        from jobs.run.status import lines, state

        found = state(directory)
        for line in lines(found):
            own.say(line)
    own.result(found)
    raise typer.Exit(found["exit_code"])


@app.command(cls=Command)
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to make.")] = Path(
        "calib-demo"
    ),
    events: Annotated[int, typer.Option(min=100, help="Number of simulated pairs.")] = 300_000,
    workers: Annotated[int, typer.Option(min=1, help="Of the local Dask cluster.")] = 2,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Show the whole chain on simulated events, and the result beside the truth.

    Example: [bold]calib demo --out calib-demo --workers 2[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.cli.demo import demonstrate

    with own.working():
        shown = demonstrate(out, events, workers, own.progress)
    _end(own, shown.conclude(own))


app.command(cls=Command)(nightly.nightly)
app.add_typer(catalog.app, name="catalog")
app.add_typer(cluster.app, name="cluster")
app.command(cls=Command)(plugins.plugins)
app.command(cls=Command)(store.publish)
app.command(cls=Command)(store.gain)
app.add_typer(store.app, name="store")
app.command(cls=Command)(serve.serve)


def _prepared(config: Path, out: Path | None, single: bool = False) -> Any:
    """Return the Run, or the ChainRun, of a configuration or of a directory that is gone on in."""
    from calib.errors import InputError

    kind = _kind(config, single)
    if config.is_dir():
        if out is not None and out.resolve() != config.resolve():
            raise InputError(
                f"{config}: the directory of a {kind.word} goes on in itself; leave out --out {out}"
            )
        return kind.resume(config)
    if out is None:
        raise InputError("option --out is missing; name the directory to make or to go on in")
    return kind.prepare(config, out)


def _resumed(directory: Path, single: bool = False) -> Any:
    return _kind(directory, single).resume(directory)


def _kind(path: Path, single: bool) -> Any:
    """Return ChainRun for a chain; Run else, which refuses one in its own words."""
    from jobs.config.schema import is_chain

    if not single and is_chain(path):
        from jobs.run.chain import ChainRun

        return ChainRun
    from jobs.run.run import Run

    return Run


def _command() -> str:
    return shlex.join(["calib", *sys.argv[1:]])[:200]


def _end(own: Console, decided: dict[str, Any]) -> NoReturn:
    own.result(decided)
    raise typer.Exit(PASSED if decided["passed"] else NOT_PASSED)


def main() -> None:
    """Run the command line."""
    app(prog_name="calib")
