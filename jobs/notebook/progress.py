"""Progress of a run in a notebook: below the cell, or as bars on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs.progress import Progress, silent

EVERY_S = 0.2
"""Seconds between two pictures of the progress."""

Bars = dict[str, tuple[int, int]]


@contextmanager
def shown(progress: bool) -> Iterator[Progress]:
    """Yield a function that shows progress: in a notebook as a cell's output, else as bars."""
    if not progress:
        yield silent
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
