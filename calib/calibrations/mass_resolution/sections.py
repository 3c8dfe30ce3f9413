"""The report's sections of the mass resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib.categories import Categories
from calib.results import Closure, Reduction, Section

from .settings import Settings


def sections(
    reduction: Reduction,
    closure: Closure | None,
    earlier: Mapping[str, Any] | None,
    settings: Settings,
    categories: Categories,
) -> Sequence[Section]:
    """Return the sections."""
    return ()
