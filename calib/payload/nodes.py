"""Corrections of correctionlib: made from bins, evaluated without inventing numbers.

Made with the typed models of `correctionlib.schemav2`, which refuse what is no payload; handed on
as plain values, which is what is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import correctionlib
import numpy as np

from calib.events.categories import Axis
from calib.later import schemav2
from calib.types import AnyArray, Array

WORDS = ("variation", "var", "parameter", "factors")
"""Inputs that are words; all others are numbers."""


def plain(model: Any) -> dict[str, Any]:
    """Return a model as plain values, what was left open left out."""
    found: dict[str, Any] = model.model_dump(exclude_unset=True)
    return found


def correction(
    name: str,
    description: str,
    inputs: Sequence[tuple[str, str]],
    output: str,
    data: Mapping[str, Any],
    *,
    whole: Sequence[str] = (),
    formulas: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return a correction of schema 2.

    Parameters
    ----------
    name, description : str
        Of the correction.
    inputs : sequence of (name, description)
        Real numbers; those of `WORDS` are words.
    output : str
        Name of what it gives.
    data : mapping
        A node, such as `over_bins` returns.
    whole : sequence of str
        Inputs that are whole numbers.
    formulas : sequence of nodes
        Formulas that the nodes refer to by their index.

    Returns
    -------
    dict
        Plain values.
    """
    types = {key: "string" for key in WORDS} | {key: "int" for key in whole}
    more = {"generic_formulas": [dict(f) for f in formulas]} if formulas else {}
    return plain(
        schemav2.Correction(
            name=name,
            description=description,
            version=1,
            inputs=[
                schemav2.Variable(name=key, type=types.get(key, "real"), description=text)
                for key, text in inputs
            ],
            output=schemav2.Variable(name=output, type="real"),
            data=dict(data),
            **more,
        )
    )


def document(corrections: Sequence[Mapping[str, Any]], description: str) -> dict[str, Any]:
    """Return a payload of schema 2.

    Parameters
    ----------
    corrections : sequence of mapping
        Of `correction`.
    description : str
        Of the payload.

    Returns
    -------
    dict
        Plain values.
    """
    made = schemav2.CorrectionSet(
        schema_version=2, corrections=[dict(c) for c in corrections], description=description
    )
    return plain(made)


def over_bins(
    axes: Sequence[Axis], content: Sequence[Any], outside: float | str = "clamp"
) -> dict[str, Any]:
    """Return a node with a number or a node for each bin, the last axis fastest.

    Parameters
    ----------
    axes : sequence of Axis
        Those of whole numbers first; a number that none of their bins has is an error.
    content : sequence of numbers or nodes, one a bin
    outside : float or str
        What is given outside the other axes; ``clamp``: that of the nearest bin.

    Returns
    -------
    dict
        Plain values.
    """
    first, *others = axes
    if first.whole:
        size = len(content) // len(first)
        parts = [content[i * size : (i + 1) * size] for i in range(len(first))]
        nodes = [over_bins(others, part, outside) if others else part[0] for part in parts]
        keys = (int(low) for low, _ in first.bins())
        return by_key(first.name, dict(zip(keys, nodes, strict=True)))
    return plain(
        schemav2.MultiBinning(
            nodetype="multibinning",
            inputs=[axis.name for axis in axes],
            edges=[[float(x) for x in axis.edges] for axis in axes],
            content=[v if isinstance(v, Mapping) else float(v) for v in content],
            flow=outside,
        )
    )


def binning(name: str, edges: AnyArray, content: Sequence[Any], outside: Any) -> dict[str, Any]:
    """Return a node with a number or a node for each bin of one input.

    Parameters
    ----------
    name : str
        Of the input.
    edges : array, shape (bins + 1,)
        Finite, ascending.
    content : sequence of numbers or nodes, one a bin
    outside : number, node or str
        What is given outside; ``clamp``: that of the nearest bin.

    Returns
    -------
    dict
        Plain values.
    """
    return plain(
        schemav2.Binning(
            nodetype="binning",
            input=name,
            edges=[float(x) for x in edges],
            content=[v if isinstance(v, Mapping) else float(v) for v in content],
            flow=outside,
        )
    )


def by_key(name: str, nodes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a node that chooses a number or another node by a word or a whole number.

    Parameters
    ----------
    name : str
        Of the input.
    nodes : mapping of str or int to number or node
        What each word gives.

    Returns
    -------
    dict
        Plain values.
    """
    content = [schemav2.CategoryItem(key=key, value=value) for key, value in nodes.items()]
    return plain(schemav2.Category(nodetype="category", input=name, content=content))


def of_measured(
    name: str, description: str, values: Mapping[str, float], unit: str, about: str
) -> dict[str, Any]:
    """Return the payload of something that was measured and corrects nothing.

    Parameters
    ----------
    name : str
        Of its correction.
    description : str
        What was measured.
    values : mapping of word to number
        May be empty.
    unit : str
        Name of the output.
    about : str
        What the whole is: ``An audit``.

    Returns
    -------
    dict
        A correctionlib document.
    """
    chosen = by_key("parameter", values or {"none": 0.0})
    made = correction(name, description, [("parameter", ", ".join(values) or "none")], unit, chosen)
    return document([made], f"{about} (dimucal); corrects nothing.")


def formula(expression: str, variables: Sequence[str]) -> dict[str, Any]:
    """Return a formula of some inputs, for `formula_of` to refer to.

    Parameters
    ----------
    expression : str
        In the language of TFormula: x, y ... are the variables, [0] ... parameters.
    variables : sequence of str
        Names of the inputs.

    Returns
    -------
    dict
        Plain values.
    """
    return plain(
        schemav2.Formula(
            nodetype="formula", parser="TFormula", variables=list(variables), expression=expression
        )
    )


def formula_of(index: int, parameters: Sequence[float] | Array) -> dict[str, Any]:
    """Return a formula of the correction with numbers in place of its parameters.

    Parameters
    ----------
    index : int
        Which formula of the correction.
    parameters : sequence of float
        In place of [0], [1] ...

    Returns
    -------
    dict
        Plain values.
    """
    numbers = [float(x) for x in parameters]
    return plain(schemav2.FormulaRef(nodetype="formularef", index=index, parameters=numbers))


def edges_of(node: Any, key: str) -> list[tuple[float, float]]:
    """Return the bins of an input below a node, lower and upper edge; without any, none.

    Whole numbers are bins of width 1.

    Parameters
    ----------
    node : mapping
        Of a correction.
    key : str
        Name of the input.

    Returns
    -------
    list of (float, float)
        In the unit of the input.
    """
    for inner in _nodes(node):
        if inner.get("input") == key and inner["nodetype"] == "category":
            return [(float(item["key"]), item["key"] + 1.0) for item in inner["content"]]
        inputs = inner.get("inputs", [inner.get("input")])
        if key in inputs and "edges" in inner:
            own = inner["edges"] if "input" in inner else inner["edges"][inputs.index(key)]
            return list(zip(own[:-1], own[1:], strict=True))
    return []


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a node and those below it."""
    if isinstance(node, Mapping) and "nodetype" in node:
        yield node
        for part in node.get("content", ()):
            yield from _nodes(part.get("value", part) if isinstance(part, Mapping) else part)


def evaluate(payload: Mapping[str, Any], name: str, *inputs: AnyArray | str) -> Array | None:
    """Return a correction at the inputs, None where the payload has none of this name.

    Inputs that are not numbers give NaN: correctionlib's clamp would give a number.

    Parameters
    ----------
    payload : mapping
        The document.
    name : str
        Of the correction.
    *inputs : array, shape (n,), or word
        In the order of the correction.

    Returns
    -------
    array, shape (n,), or None
        NaN where an input is.
    """
    found = correctionlib.CorrectionSet.from_string(json.dumps(payload))
    if name not in list(found):
        return None
    numbers = [x for x in inputs if not isinstance(x, str)]
    known = np.all([np.isfinite(x) for x in numbers], axis=0)
    safe = [x if isinstance(x, str) else _where(known, x) for x in inputs]
    return np.where(known, found[name].evaluate(*safe), np.nan)


def _where(known: AnyArray, values: AnyArray) -> AnyArray:
    """Return whole numbers as they are, others with 1 where they are not to be looked at."""
    return values if np.asarray(values).dtype.kind in "iu" else np.where(known, values, 1.0)


def evaluate_at(
    payload: Mapping[str, Any], name: str, inputs: Mapping[str, AnyArray | str]
) -> Array | None:
    """Return a correction at inputs by their names, None where the payload has none of this name.

    Parameters
    ----------
    payload : mapping
        The document.
    name : str
        Of the correction.
    inputs : mapping of name to array, shape (n,), or word
        More than it takes may be there.

    Returns
    -------
    array, shape (n,), or None
        NaN where an input is.

    Raises
    ------
    KeyError
        If it takes an input that is not among them.
    """
    made = next((c for c in payload["corrections"] if c["name"] == name), None)
    if made is None:
        return None
    return evaluate(payload, name, *(inputs[own["name"]] for own in made["inputs"]))
