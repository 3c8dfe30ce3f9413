"""The order of calibrations that need each other's payloads: that of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calib.errors import InputError
from jobs.config import chain

if TYPE_CHECKING:
    from jobs.nightly.settings import Task


def ordered(tasks: Sequence[Task], where: str) -> tuple[Task, ...]:
    """Return the calibrations so that each comes after those that it needs.

    Raises
    ------
    InputError
        If one needs what is not there, or they need each other in a circle.
    """
    steps: Any = tasks
    try:
        return chain.order(steps)  # type: ignore[return-value]
    except InputError as error:
        text = str(error).replace("key 'chain", "key 'calibrations").replace("step", "calibration")
        raise InputError(f"{where}: {text}") from None


def before(tasks: Sequence[Task], name: str) -> tuple[Task, ...]:
    """Return everything that a calibration comes after, in the order of the payloads."""
    steps: Any = tasks
    return chain.before(steps, name)  # type: ignore[return-value]
