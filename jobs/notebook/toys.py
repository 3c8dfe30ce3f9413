"""Simulated events with known truth, to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calib.documents import json_values
from calib.errors import InputError
from calib.toys.generation import generate
from jobs.events.toys import add_truths, truth_of_toys
from jobs.events.toys import write_toys as write


def write_toys(
    out: str | Path,
    resonance: str,
    events: int,
    *,
    truth: str = "default",
    format: str = "stage1",
    files: int = 1,
    simulation: bool = False,
    seed: int = 1,
) -> dict[str, Any]:
    """Write simulated events as `calib toys` does; return the truth behind them.

    Toys of as many events that are in ``out`` already stay.

    Parameters
    ----------
    out : path
        Directory.
    resonance : str
        One of ``calib.physics.constants.RESONANCES``.
    events : int
        In all files together.
    truth : str
        A name, or a JSON file.
    format : {"stage1", "nanoaod"}
        Of the files.
    files : int
        Their number.
    simulation : bool
        Whether the events are those of a simulated sample.
    seed : int
        Of all random numbers.

    Returns
    -------
    dict
        As in truth.json.

    Raises
    ------
    InputError
        If something else is in ``out``, or there are no such toys.

    Examples
    --------
    >>> truth = calib.write_toys("toys", "z", 100_000)  # doctest: +SKIP
    """
    path = Path(out) / "truth.json"
    if not path.is_file():
        put_in = truth_of_toys(truth, resonance, simulation)
        made = generate(resonance, events, seed=seed, truth=put_in, simulation=simulation)
        write(Path(out), made, format, files)
        add_truths(Path(out), made.pairs)
    found: dict[str, Any] = json_values(path.read_text(encoding="utf-8"))
    if found.get("events") != events:
        raise InputError(
            f"{out}: holds {found.get('events')} toys, and {events} are asked for; remove it or"
            " choose another name"
        )
    return found
