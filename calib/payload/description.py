"""What a payload says of itself in its description: of what it is, and for which pt of muons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from calib.schema import Sample

Origin = Literal["data", "simulation"]

MADE_OF = "Made of {}."
"""Sentence of a payload's description: whether its numbers are of data or of simulation."""


def origin(samples: Sequence[Sample]) -> Origin:
    """Return what a result is of: data, or simulation where that is alone."""
    return "simulation" if all(s.simulation for s in samples) else "data"


def with_origin(document: Mapping[str, Any], of: Origin) -> Mapping[str, Any]:
    """Return a payload that says whether it is of data or of simulation.

    Parameters
    ----------
    document : mapping
        The payload.
    of : {"data", "simulation"}
        What it is of.

    Returns
    -------
    mapping
        With a sentence more in its description.
    """
    text = f"{document.get('description') or ''} {MADE_OF.format(of)}".strip()
    return {**document, "description": text}


def origin_of(document: Mapping[str, Any]) -> Origin | None:
    """Return what a payload is of, None where it does not say: older ones."""
    text = str(document.get("description") or "")
    said: tuple[Origin, ...] = ("data", "simulation")
    return next((of for of in said if MADE_OF.format(of) in text), None)


MUON_PT = "Muon pt: "
"""Begins the sentence of a payload's description that says which pt it is for, if not ``pt``."""


def with_muon_pt(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a payload that says which column is the pt of the muons that it corrects.

    Parameters
    ----------
    document : mapping
        The payload.
    name : str
        Column; ``pt`` is not said.

    Returns
    -------
    mapping
        With a sentence more in its description.
    """
    if name == "pt":
        return document
    text = f"{document.get('description') or ''} {MUON_PT}{name}.".strip()
    return {**document, "description": text}


def muon_pt_of(document: Mapping[str, Any]) -> str:
    """Return the column that is the pt of the muons of a payload."""
    _, found, rest = str(document.get("description") or "").rpartition(MUON_PT)
    return rest.removesuffix(".") if found else "pt"
