"""What a person or a machine sees of a command: words, progress bars, JSON, exit codes."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from calib.errors import CalibError, InputError, Interrupted

PASSED, FAILED, BAD_INPUT, NOT_PASSED, INTERRUPTED = 0, 1, 2, 3, 130

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; tracebacks. Twice: all.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


@dataclass
class Console:
    """Where a command speaks: results on stdout, everything else on stderr."""

    quiet: bool = False
    verbose: int = 0
    json: bool = False
    bars: Any = field(default=None, repr=False)

    def say(self, text: str = "") -> None:
        """Print a line, markup allowed; nothing if quiet or JSON."""
        if not (self.quiet or self.json):
            from rich.console import Console as Rich

            Rich(highlight=False, soft_wrap=True).print(text)

    def show(self, item: Any) -> None:
        """Print a rich renderable (a table)."""
        if not (self.quiet or self.json):
            from rich.console import Console as Rich

            wide = None if sys.stdout.isatty() else 110
            Rich(highlight=False, width=wide).print(item)

    def result(self, values: Mapping[str, Any]) -> None:
        """Print the one JSON object, if that was asked for."""
        if self.json:
            typer.echo(json.dumps(_finite(dict(values)), default=str))

    def complain(self, sentence: str, code: int) -> NoReturn:
        """End the command with one sentence on stderr, and this exit code."""
        if self.verbose and code == FAILED:
            traceback.print_exc(file=sys.stderr)
        typer.echo(f"calib: {'' if code == INTERRUPTED else 'error: '}{sentence}", err=True)
        self.result({"error": sentence, "exit_code": code})
        raise typer.Exit(code)

    def progress(self, text: str, done: int, total: int) -> None:
        """Show how far something is, on a terminal."""
        if self.bars is None:
            return
        known = {task.description: task.id for task in self.bars.tasks}
        if text not in known:
            known[text] = self.bars.add_task(text, total=total)
        self.bars.update(known[text], completed=done, total=total)

    def compiling(self) -> None:
        """Say that functions are compiled, which is done at the first use alone."""
        from jobs import compiling

        self.progress(compiling.TEXT, 0, 1)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Show progress bars for as long as the block lasts, where stderr is a terminal."""
        if self.quiet or self.json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as Rich
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        from jobs import compiling

        with (
            Progress(*columns, console=Rich(stderr=True)) as self.bars,
            compiling.told(self.compiling),
        ):
            try:
                yield
            finally:
                self.bars = None


def _finite(value: Any) -> Any:
    """Return the value with numbers that JSON does not have as None."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def console(quiet: bool, verbose: int, json: bool) -> Console:
    """Return the console of a command, and set up logging for it."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    for name in ("calib", "processors", "jobs"):
        # not the root: Dask would tell there of every worker that comes and goes
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR if quiet else level)
        logger.handlers = [h for h in logger.handlers if not isinstance(h, _Stderr)] + [_Stderr()]
    return Console(quiet, verbose, json)


class _Stderr(logging.Handler):
    """Write to the stderr of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"{record.levelname.lower()}: {self.format(record)}", err=True)


class _Plain:
    """Help without rich, which takes longer to load than the whole command line.

    Its texts have the marks ``[bold]`` all the same; where no terminal reads them, they go.
    """

    help: str | None
    epilog: str | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help, self.epilog = _marked(self.help), _marked(self.epilog)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, whole, for the list of commands."""
        return " ".join((self.help or "").split("\n\n")[0].split())


def _marked(text: str | None) -> str | None:
    return text and text.replace("[bold]", "\x1b[1m").replace("[/bold]", "\x1b[0m")


class Group(_Plain, TyperGroup):
    """Commands that belong together."""


class Command(_Plain, TyperCommand):
    """A command whose errors become exit codes; no traceback for what the user can mend."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command."""
        own = Console(ctx.params["quiet"], ctx.params["verbose"], ctx.params["json"])
        before = _terminate_as_interrupt()
        try:
            return super().invoke(ctx)
        except InputError as error:
            return own.complain(str(error), BAD_INPUT)
        except (KeyboardInterrupt, Interrupted):
            return own.complain(
                "interrupted; what was done is kept, the same command goes on", INTERRUPTED
            )
        except CalibError as error:
            return own.complain(str(error), FAILED)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if _is_usage_error(error):
                raise
            text = " ".join(str(error).split()) or "no message"
            hint = "" if own.verbose else "; -v shows where"
            return own.complain(f"{type(error).__name__}: {text}{hint}", FAILED)
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)


def _is_usage_error(error: Exception) -> bool:
    return hasattr(error, "exit_code") and hasattr(error, "show")


def _terminate_as_interrupt() -> Any:
    """Treat SIGTERM as Ctrl-C; return the handler that was there."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        return signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        return None
