"""A run from a notebook: the steps of `calib run`, with progress where it is seen."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config.complete import Work, adopt, in_directory
from jobs.config.schema import is_chain
from jobs.event_loop.collection import Progress
from jobs.notebook.configurations import Source, completed
from jobs.notebook.opening import result_of
from jobs.notebook.result import Result
from jobs.run import steps

if TYPE_CHECKING:
    from jobs.notebook.chains import ChainResult

EVERY_S = 0.2
"""Seconds between two pictures of the progress."""

Bars = dict[str, tuple[int, int]]


def run(
    config: Source, out: str | Path, *, progress: bool = True, earlier: str | Path | None = None
) -> Result | ChainResult:
    """Collect, reduce, test and report, as `calib run` does; return the result.

    Parameters
    ----------
    config : path, dict or Config
        Files in a dictionary are relative to the working directory.
    out : path
        Directory to make, or to go on in: what is done there is not done again.
    progress : bool
        Show how far it is.
    earlier : path, optional
        An earlier payload.json; the report says what moved.

    Returns
    -------
    Result
        Also where the verdict is not passed: look at ``passed``. Of a file with the key ``chain``
        the results of its steps, by name.

    Raises
    ------
    InputError
        If something about the configuration or the files is wrong, in one sentence.

    Examples
    --------
    >>> z = calib.run("z-2018.yaml", out="z-2018")  # doctest: +SKIP
    """
    before = None if earlier is None else Path(earlier)
    if isinstance(config, (str, Path)) and is_chain(Path(config)):
        from jobs.notebook.chains import run_chain

        with shown(progress) as tell:
            return run_chain(Path(config), Path(out), tell, before)
    values, calibration, where = completed(config)
    work = in_directory((values, calibration), Path(where), Path(out))
    with work.directory.lock("calib.run"), shown(progress) as tell:
        adopt(work)
        steps.run(work, tell, before)
    return result_of(work)


def again(work: Work, edits: steps.Edits, progress: bool) -> Result:
    """Reduce with these edits, as `calib reduce` does, and write everything after it."""
    with work.directory.lock("calib.reduce"), shown(progress) as tell:
        steps.reduce(work, edits, tell)
    return result_of(work)


@contextmanager
def shown(progress: bool) -> Iterator[Progress]:
    """Yield a function that shows progress: in a notebook as a cell's output, else as bars."""
    if not progress:
        yield steps.silent
    elif in_notebook():
        with _in_cell() as tell:
            yield tell
    else:
        from jobs.console import Console

        console = Console()
        with console.working():
            yield console.progress


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _in_cell() -> Iterator[Progress]:
    """Show lines below the cell, replaced as they change."""
    from IPython.display import HTML, display

    bars: Bars = {}
    handle: Any = display(HTML(picture(bars)), display_id=True)
    last = 0.0

    def tell(text: str, done: int, total: int) -> None:
        nonlocal last
        bars[text] = (done, total)
        if time.monotonic() - last > EVERY_S or done >= total:
            last = time.monotonic()
            handle.update(HTML(picture(bars)))

    yield tell
    handle.update(HTML(picture(bars)))


def picture(bars: Bars) -> str:
    """Return the progress as HTML: no widgets, no scripts."""
    from html import escape

    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(text)}</td>"
        f"<td><progress value='{done}' max='{max(total, 1)}'></progress></td>"
        f"<td style='text-align:right'>{100 * done / max(total, 1):.0f}&nbsp;%</td></tr>"
        for text, (done, total) in bars.items()
    )
    return f"<table>{rows}</table>"
