"""Settings of a single category, changed by hand and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.errors import InputError
from calib.schema import validated

from .settings import Settings

EDITABLE = ("fit.range", "fit.bins", "fit.background")
"""Settings that a single category may have of its own."""


def edited_settings(settings: Settings, category: str, edits: Mapping[str, Any]) -> Settings:
    """Return the settings with the edits of one category.

    Parameters
    ----------
    settings : Settings
        Of the run.
    category : str
        Its name, for the sentence of an error.
    edits : mapping of dotted key to value
        Of this category.

    Returns
    -------
    Settings
        Of the category.

    Raises
    ------
    InputError
        If a value does not fit.
    """
    values = settings.model_dump()
    for key, value in edits.items():
        section, name = key.split(".")
        values[section][name] = value
    return _with_bins(values, settings.step, edits, f"category {category}: settings")


def _with_bins(
    values: dict[str, Any], step: float, edits: Mapping[str, Any], where: str
) -> Settings:
    """Return settings whose fit bins are those that were collected."""
    fit = values["fit"]
    try:
        low, high = (float(x) for x in fit["range"])
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: key 'fit.range': found {fit['range']!r}, expected [low, high] in GeV"
        ) from None
    bins = (high - low) / step
    if "fit.bins" in edits and edits["fit.bins"] != round(bins):
        raise InputError(
            f"{where}: key 'fit.bins': the events were collected in bins of {step:.6g} GeV,"
            f" {round(bins)} in this range; collect again for others"
        )
    if abs(bins - round(bins)) > 1e-6 or round(bins) < 10:
        raise InputError(
            f"{where}: key 'fit.range': [{low:g}, {high:g}] is not a whole number (10 or more)"
            f" of the bins of {step:.6g} GeV that were collected; move an edge"
        )
    values["fit"] = {**fit, "range": (low, high), "bins": round(bins)}
    found: Settings = validated(Settings, values, where.removesuffix(": settings"), "settings")
    return found
