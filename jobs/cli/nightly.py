"""`calib nightly`: new runs, a cheap test, a calibration where it fails, publication."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.console import Console, Json, Quiet, Verbose, console


def nightly(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Configuration of the nightly.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and why; touch nothing.")
    ] = False,
    retry: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Try a calibration again that is held or not converged."),
    ] = None,
    recalibrate: Annotated[
        int | None,
        typer.Option(
            metavar="RUN",
            help="Calibrate the bucket of a judged run again, with files that came late, and"
            " nothing else; what the gate lets through is a new revision.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Print a schedule: systemd, cron or kubernetes."),
    ] = None,
    at: Annotated[str, typer.Option(metavar="HH:MM", help="When, in a schedule (UTC).")] = "04:30",
    image: Annotated[
        str, typer.Option(help="Container image, in a schedule of Kubernetes.")
    ] = "dimucal:latest",
    example: Annotated[
        bool, typer.Option("--example", help="Print a commented configuration.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Test the constants in force on new runs; calibrate and publish where they fail.

    Example: [bold]calib nightly --example > nightly.yaml[/bold], then
    [bold]calib nightly nightly.yaml --dry-run[/bold], [bold]calib nightly nightly.yaml[/bold], and
    [bold]calib nightly nightly.yaml --schedule systemd[/bold]

    New files are watched for, or come from a catalogue. A fraction of the new events, corrected by
    the constants in force, shows what is left of the scale or the resolution: within the limit
    their validity is extended, outside it a whole calibration follows, which is published if its
    verdict is passed and the gate lets it through. Killed at any point, the next start goes on.

    Exit codes: 0 all is well; 3 constants are bad, something is held or not converged, or there is
    trouble with files: a person must look; 1 a calibration failed, or a database does not answer:
    the next start tries again; 2 bad configuration.
    [bold]calib status STORE[/bold] tells what the last night did.
    """
    own = console(quiet, verbose, json)
    from calib.errors import InputError

    if example:
        _show_example(own)
        return
    if config is None:
        raise InputError("CONFIG is missing; `calib nightly --example` prints one")
    from jobs.nightly import settings as settings_module

    settings = settings_module.load(config)
    _require_known(settings, retry or [])
    if schedule is not None:
        _show_schedule(own, settings, config, schedule, at, image)
    elif dry_run:
        _show_plans(own, settings)
    else:
        _do(own, settings, retry or [], recalibrate)


def _require_known(settings: Any, names: list[str]) -> None:
    from calib.errors import InputError

    known = [c.name for c in settings.calibrations]
    for name in names:
        if name not in known:
            raise InputError(f"option --retry: found {name!r}; calibrations: {', '.join(known)}")


def _show_example(own: Console) -> None:
    from importlib.resources import files

    text = (files("jobs") / "pages" / "templates" / "nightly.yaml").read_text(encoding="utf-8")
    if own.json:
        own.result({"configuration": text})
    else:
        typer.echo(text, nl=False)


def _show_schedule(
    own: Console, settings: Any, config: Path, kind: str, at: str, image: str
) -> None:
    from jobs.nightly.schedules import schedule_of

    found = schedule_of(kind, settings, config.resolve(), at, image)
    if own.json:
        own.result({"schedule": kind, "files": found})
        return
    for text in found.values():
        typer.echo(text)


def _show_plans(own: Console, settings: Any) -> None:
    from rich.markup import escape

    from jobs.nightly.dry_run import as_dict, plans

    with own.working():
        found = plans(settings)
    own.say(f"dry run: {found.arrived.files} new files; nothing is touched")
    for path in found.arrived.not_whole[:5]:
        own.say(f"  not whole yet: {escape(path)}")
    for plan in found.calibrations:
        own.say(f"[bold]{plan.calibration}[/bold] ({plan.state}): would {plan.would}")
        for sentence in plan.sentences:
            own.say(f"  {escape(sentence)}")
    own.result(as_dict(found))


def _do(own: Console, settings: Any, retry: list[str], recalibrate: int | None) -> None:
    from rich.markup import escape

    from jobs.nightly.night import nightly as night

    command = shlex.join(["calib", *sys.argv[1:]])[:200]
    with own.working():
        found = night(settings, command, own.progress, retry, recalibrate)
    goes_on = ", which went on where it was stopped" if found.resumed else ""
    own.say(f"night {found.number}{goes_on}: {found.arrived.files} new files")
    for one in found.calibrations:
        colour = "red" if one.state.needs_person else "bold"
        state = one.state.value.replace("_", " ")
        own.say(f"[bold]{one.calibration}[/bold]: [{colour}]{state}[/{colour}]: {escape(one.why)}")
    for name, runs in found.late.items():
        own.say(f"{name}: files came late for runs {', '.join(map(str, runs))}")
    own.say(f"page: {found.page}")
    own.result(found.as_dict())
    raise typer.Exit(found.exit_code)
