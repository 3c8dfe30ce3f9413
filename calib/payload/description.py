"""What a payload says of itself in its description: of what it is, and for which pt of muons."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from calib.schema import MappedColumn, Sample

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


COLUMNS = "Columns: "
"""Begins the sentence that says which branches were ours, by the kind of the samples."""


def _kind(format: str, simulation: bool) -> str:
    return f"{format} {'simulation' if simulation else 'data'}"


def with_columns(document: Mapping[str, Any], samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Return a payload that says which branches were the columns that it is of.

    Parameters
    ----------
    document : mapping
        The payload.
    samples : sequence of Sample
        It is made of; where those of a kind have other branches than each other, none is said.

    Returns
    -------
    mapping
        With a sentence more in its description, where a sample has a key ``columns``.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        own = {n: c.model_dump(exclude_defaults=True) for n, c in sample.columns.items()}
        found.setdefault(_kind(sample.format, sample.simulation), []).append(own)
    said = {kind: own[0] for kind, own in found.items() if own[0] and all(o == own[0] for o in own)}
    if not said:
        return document
    text = f"{document.get('description') or ''} {COLUMNS}{json.dumps(said)}.".strip()
    return {**document, "description": text}


def columns_of(
    document: Mapping[str, Any], format: str, simulation: bool
) -> dict[str, MappedColumn]:
    """Return the branches that the columns of such events are, as the payload says.

    Parameters
    ----------
    document : mapping
        The payload.
    format : {"nanoaod", "stage1"}
        Of the events.
    simulation : bool
        Whether they are simulated.

    Returns
    -------
    dict of str to MappedColumn
        Empty where they have our names.
    """
    text = str(document.get("description") or "")
    found = re.search(rf"{COLUMNS}(?=\{{)", text)
    if found is None:
        return {}
    said, _ = json.JSONDecoder().raw_decode(text[found.end() :])
    own = said.get(_kind(format, simulation), {})
    return {name: MappedColumn.model_validate(column) for name, column in own.items()}
