"""`calib cluster`: whether a cluster works, and what is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import BAD_INPUT, FAILED, PASSED, Command, Group, Json, Quiet, Verbose, console

if TYPE_CHECKING:
    from jobs.config.schema import Config

app = typer.Typer(
    no_args_is_help=True,
    cls=Group,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Where the work is done: whether it works, and what is asked of it. The key"
    " [bold]cluster[/bold] of the configuration says where.",
)

CONFIGURATION = typer.Argument(metavar="CONFIG", help="Configuration, or the DIR of a run.")
Configuration = Annotated[Path, CONFIGURATION]

MARKS = {
    "ok": "[green]ok[/green]",
    "warning": "[yellow]warning[/yellow]",
    "failed": "[red]failed[/red]",
    "not tried": "not tried",
}


@app.command(cls=Command)
def check(
    config: Configuration, quiet: Quiet = False, verbose: Verbose = 0, json: Json = False
) -> None:
    """Try step by step what a run needs: answer, workers, versions, memory, the first files.

    Example: [bold]calib cluster check z-2018.yaml[/bold]
    """
    own = console(quiet, verbose, json)
    from rich.markup import escape

    from jobs.clusters.check import Trial
    from jobs.clusters.check import check as steps

    found, calibration = _complete(config)
    done: list[Trial] = []
    for step in steps(found, calibration):
        done.append(step)
        seconds = f"{step.seconds:6.1f} s" if step.state != "not tried" else " " * 8
        own.say(f"{step.name:<18} {seconds}  {MARKS[step.state]}  {escape(step.text)}")
    failed = [step for step in done if step.state == "failed"]
    code = PASSED
    if failed:
        code = BAD_INPUT if failed[0].bad_input else FAILED
    own.result(
        {
            "kind": found.cluster.kind,
            "passed": not failed,
            "exit_code": code,
            "steps": [vars(step) for step in done],
        }
    )
    if failed and quiet:
        typer.echo(f"calib: error: {failed[0].name}: {failed[0].text}", err=True)
    raise typer.Exit(code)


@app.command(cls=Command)
def script(
    config: Configuration, quiet: Quiet = False, verbose: Verbose = 0, json: Json = False
) -> None:
    """Print the script of one job, as it is handed to SLURM, HTCondor, PBS, SGE or LSF.

    Example: [bold]calib cluster script z-2018.yaml[/bold]
    """
    own = console(quiet, verbose, json)
    from jobs.clusters.jobqueue import job_script
    from jobs.config.cluster import BATCH

    found = _require(config, BATCH, "a script")
    text = job_script(found.cluster)
    if not json:
        typer.echo(text)
    own.result({"kind": found.cluster.kind, "script": text})


@app.command(cls=Command)
def manifest(
    config: Configuration, quiet: Quiet = False, verbose: Verbose = 0, json: Json = False
) -> None:
    """Print the DaskCluster of Kubernetes, checked against the schema of the Dask operator.

    Example: [bold]calib cluster manifest z-2018.yaml[/bold]
    """
    own = console(quiet, verbose, json)
    from calib.documents import yaml_text
    from jobs.clusters.kubernetes import manifest as of

    found = _require(config, ("kubernetes",), "a manifest")
    values = of(found.cluster, found.name.lower().replace("_", "-").replace(".", "-"))
    if not json:
        typer.echo(yaml_text(values, sort_keys=False), nl=False)
    own.result({"manifest": values})


def _complete(config: Path) -> Any:
    """Return the complete configuration and its calibration."""
    from jobs.config.complete import complete

    return complete(config / "config.yaml" if config.is_dir() else config)


def _require(config: Path, kinds: tuple[str, ...], what: str) -> Config:
    """Return the configuration, if its cluster is one of these kinds."""
    from calib.errors import InputError

    found: Config = _complete(config)[0]
    if found.cluster.kind not in kinds:
        raise InputError(
            f"{config}: key 'cluster.kind': found {found.cluster.kind!r}, which has no {what[2:]};"
            f" {what} belongs to {', '.join(kinds)}"
        )
    return found
