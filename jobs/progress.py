"""How the steps of a run tell how far they are: a function that is called, whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def silent(text: str, done: int, total: int) -> None:
    """Show no progress.

    Parameters
    ----------
    text : str
        What is done.
    done, total : int
        How much of it.
    """
