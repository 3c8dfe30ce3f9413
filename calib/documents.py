"""YAML and JSON that others wrote: read without running anything, and without filling memory."""

from __future__ import annotations

import json
from typing import Any

import yaml

MAX_YAML = 1024**2
"""Bytes of a configuration."""

MAX_JSON = 64 * 1024**2
"""Bytes of a payload: parsed, it takes some twenty times as much."""

MAX_NODES = 200_000
"""Values in a YAML document, each alias counted as what it stands for."""

MAX_DEPTH = 50


def yaml_values(text: str) -> Any:
    """Return the values in a YAML document, by the safe loader.

    Raises
    ------
    ValueError
        If it is not YAML, too long, too deep, or its aliases multiply beyond reason.
    """
    if len(text) > MAX_YAML:
        raise ValueError(f"{len(text)} characters, more than {MAX_YAML}")
    try:
        return _constructed(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise
    except Exception as error:  # the loader has many kinds for what it does not understand
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _constructed(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        size = _size(node, {}, 0)
        if size > MAX_NODES:
            raise ValueError(f"{size} values with all aliases, more than {MAX_NODES}")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return the number of values below a node, its aliases written out."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}, or an alias that holds itself")
    if id(node) in known:
        return known[id(node)]
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_size(part, known, depth + 1) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_size(part, known, depth + 1) for part in node.value)
    known[id(node)] = size
    return size


def json_values(text: str) -> Any:
    """Return the values in a JSON document.

    Raises
    ------
    ValueError
        If it is not JSON (which has neither NaN nor infinity), too long or too deep.
    """
    if len(text) > MAX_JSON:
        raise ValueError(f"{len(text)} characters, more than {MAX_JSON}")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
