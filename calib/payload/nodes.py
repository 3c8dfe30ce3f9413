"""Corrections of correctionlib: made from bins, evaluated without inventing numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import correctionlib
import numpy as np

from calib.events.categories import Axis
from calib.types import AnyArray, Array


def correction(
    name: str,
    description: str,
    inputs: Sequence[tuple[str, str]],
    output: str,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a correction of schema 2.

    Parameters
    ----------
    name, description : str
    inputs : sequence of (name, description)
        Real numbers; one named ``variation``, ``parameter`` or ``factors`` is a word.
    output : str
    data : mapping
        A node, such as `over_bins` returns.
    """
    words = ("variation", "parameter", "factors")
    return {
        "name": name,
        "description": description,
        "version": 1,
        "inputs": [
            {"name": key, "type": "string" if key in words else "real", "description": text}
            for key, text in inputs
        ],
        "output": {"name": output, "type": "real"},
        "data": dict(data),
    }


def over_bins(axes: Sequence[Axis], content: Sequence[Any]) -> dict[str, Any]:
    """Return a node with a number or a node for each bin, the last axis fastest; ends clamp."""
    return {
        "nodetype": "multibinning",
        "inputs": [axis.name for axis in axes],
        "edges": [[float(x) for x in axis.edges] for axis in axes],
        "content": [v if isinstance(v, Mapping) else float(v) for v in content],
        "flow": "clamp",
    }


def by_word(key: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a node that chooses another one by a word."""
    return {
        "nodetype": "category",
        "input": key,
        "content": [{"key": word, "value": dict(node)} for word, node in nodes.items()],
    }


def evaluate(payload: Mapping[str, Any], name: str, *inputs: AnyArray | str) -> Array | None:
    """Return a correction at the inputs, None where the payload has none of this name.

    Inputs that are not numbers give NaN: correctionlib's clamp would give a number.
    """
    found = correctionlib.CorrectionSet.from_string(json.dumps(payload))
    if name not in list(found):
        return None
    numbers = [x for x in inputs if not isinstance(x, str)]
    known = np.all([np.isfinite(x) for x in numbers], axis=0)
    safe = [x if isinstance(x, str) else np.where(known, x, 1.0) for x in inputs]
    return np.where(known, found[name].evaluate(*safe), np.nan)
