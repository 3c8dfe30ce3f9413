"""YAML and JSON that others wrote: read without running anything, and without filling memory.

A key that stands twice is refused, in both: readers take the last one without a word. Plain words
of YAML mean what they say: ``on``, ``yes``, ``02:00:00``, ``2018-05-01`` and ``0644`` are text, and
``1e-3`` is a number (as in YAML 1.2; PyYAML knows 1.1, where they are not).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

MAX_YAML = 1024**2
"""Bytes of a configuration."""

MAX_JSON = 64 * 1024**2
"""Bytes of a payload: parsed, it takes some twenty times as much."""

MAX_NODES = 200_000
"""Values in a YAML document, each alias counted as what it stands for."""

MAX_DEPTH = 50


class _Loader(yaml.SafeLoader):
    """The safe loader, with the plain values of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class _Dumper(yaml.SafeDumper):
    """The safe dumper, with quotes around what either version of YAML takes for no text."""


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
        )


# alone, these words are true and false to other readers (that of Kubernetes)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))


def yaml_values(text: str) -> Any:
    """Return the values in a YAML document, by the safe loader.

    Raises
    ------
    ValueError
        If it is not YAML, too long, too deep, its aliases multiply beyond reason, or a key stands
        twice; names the key and the lines.
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


def yaml_text(values: Any, **options: Any) -> str:
    """Return plain values as YAML, which `yaml_values` and older readers take back as they were.

    Parameters
    ----------
    values : object
        Mappings, sequences, text, numbers.
    **options : Any
        Of `yaml.dump`.

    Returns
    -------
    str
        YAML.
    """
    return str(yaml.dump(values, Dumper=_Dumper, **{"sort_keys": False, **options}))


def _constructed(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        size = _size(node, {}, 0)
        if size > MAX_NODES:
            raise ValueError(f"{size} values with all aliases, more than {MAX_NODES}")
        _require_keys_once(node, loader, set())
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


def _require_keys_once(node: yaml.Node, loader: _Loader, known: set[int]) -> None:
    """Raise ValueError where a mapping names a key twice; what ``<<`` brings in may be replaced."""
    if id(node) in known or isinstance(node, yaml.ScalarNode):
        return
    known.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _require_keys_once(part, loader, known)
        return
    lines: dict[Any, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            is_merge = key.tag == "tag:yaml.org,2002:merge"
            # as the dictionary will have it: 1 and 1.0 are one key
            name = "<<" if is_merge else loader.construct_object(key)
            if name in lines:
                raise ValueError(
                    f"key {key.value!r} in line {line} stands in line {lines[name]} already;"
                    " make one of the two"
                )
            lines[name] = line
        _require_keys_once(value, loader, known)


class _Marked(ValueError):
    """Something that a second look at the text finds the place of."""


def json_values(text: str) -> Any:
    """Return the values in a JSON document.

    Raises
    ------
    ValueError
        If it is not JSON (which has neither NaN nor infinity), too long, too deep, or a key
        stands twice; names the key and the line.
    """
    if len(text) > MAX_JSON:
        raise ValueError(f"{len(text)} characters, more than {MAX_JSON}")
    try:
        return json.loads(
            text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except _Marked as error:
        raise ValueError(_where_wrong(text) or str(error)) from None


def _refuse(constant: str) -> Any:
    raise _Marked(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Marked("a key stands twice")
    return found


_MARKS = re.compile(r'("(?:[^"\\]|\\.)*")\s*(:?)|[{}\[\]]|NaN|-?Infinity')


def _where_wrong(text: str) -> str:
    """Return which key of a JSON document stands twice or is no number; empty where none is."""
    open_objects: list[dict[str, int]] = []
    key = ""
    for mark in _MARKS.finditer(text):
        if mark.group() in ("{", "["):
            open_objects.append({})
        elif mark.group() in ("}", "]"):
            open_objects.pop()
        elif mark.group(1) is None:
            where = f"key {key!r} in line {_line(text, mark.start())}"
            return f"{where} is {mark.group().lower()}, which JSON has not"
        elif mark.group(2):
            key = json.loads(mark.group(1))
            first = open_objects[-1].setdefault(key, mark.start())
            if first != mark.start():
                return (
                    f"key {key!r} in line {_line(text, mark.start())} stands in line"
                    f" {_line(text, first)} already; make one of the two"
                )
    return ""


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
