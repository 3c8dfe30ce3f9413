"""The payload of `Parameters`: declared by a calibration, built and read back here.

A calibration says ``payload = {"sigma_{key}": Formula("sqrt(a^2 + b^2 * u)"), ...}``; each entry
becomes a correction of every `Parameters` of its result, with ``{key}`` in place. What is written
can be read without anything else: values, errors and status of each bin, and what they give for
muons of an analysis.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, Literal

import numpy as np

from calib.errors import CalibError
from calib.events.categories import Axis, Categories
from calib.events.pairs import Pairs
from calib.later import pandas as pd
from calib.payload import nodes
from calib.payload.expressions import (
    covariance_name,
    evaluated,
    names_in,
    parsed,
    substituted,
    tformula,
    variance,
)
from calib.payload.values import table as table_of_values
from calib.payload.variations import common_part
from calib.results import Check, Parameters, Status
from calib.types import AnyArray, Array

POINTS = 5_000
"""Of each correction, at which a payload is read back."""

_STATUS = ", ".join(f"{s.code} {s.value}" for s in Status)


@dataclass(frozen=True)
class Term:
    """A part of a formula that is known without the parameters.

    ``expression`` is what the payload has; ``function``, of inputs by their names, is what the
    read-back has in its place, where there is one.
    """

    expression: str
    function: Callable[..., Array] | None = None


@dataclass(frozen=True)
class Formula:
    """A correction that is a formula of the parameters of a bin and of its inputs.

    Parameters
    ----------
    expression : str
        See `calib.payload.expressions`; names are parameters, inputs, terms or constants.
    text : str
        Description, with ``{key}`` and the labels of the parameters in place.
    output, unit : str
    inputs : mapping of name to description
        In the order of the correction's inputs; axes that are not among them come first.
    ranges : mapping of name to (lowest, highest)
        Of the inputs that are no axes: where the payload is read back.
    terms : mapping of name to Term or str
        Or to a mapping of the beginning of a key to these, where they are not the same for all.
    constants : mapping of name to sequence, one number a bin
    variations : tuple
        ``error``: an input ``variation`` chooses ``nom``, ``up`` or ``down`` by one standard
        deviation of the result. ``common``: also ``common_1_up`` ..., what many bins have in
        common (`calib.payload.variations`).
    unusable : float
        What is given in a bin that has no value that may be used.
    outside : float or str
        What is given outside the axes; ``clamp``: that of the nearest bin.
    """

    expression: str
    text: str = ""
    output: str = "value"
    unit: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    terms: Mapping[str, Term | str | Mapping[str, Term | str]] = field(default_factory=dict)
    constants: Mapping[str, Sequence[float]] = field(default_factory=dict)
    variations: tuple[Literal["error", "common"], ...] = ()
    unusable: float = 0.0
    outside: float | Literal["clamp"] = "clamp"

    def terms_of(self, key: str) -> dict[str, Term]:
        """Return the terms of the parameters of a key."""
        found: dict[str, Term] = {}
        for name, term in self.terms.items():
            if isinstance(term, Mapping):
                term = next(t for start, t in term.items() if key.startswith(start))
            found[name] = Term(term) if isinstance(term, str) else term
        return found

    def tree_of(self, key: str) -> ast.expr:
        """Return the expression with its terms written out."""
        terms = {n: parsed(t.expression) for n, t in self.terms_of(key).items()}
        return substituted(parsed(self.expression), terms)


@dataclass(frozen=True)
class Table:
    """A correction that gives the parameters themselves, by a word.

    The words are the names of the parameters, the same with ``_err``, their covariance
    (``covariance`` of two parameters, ``covariance_a_b`` of more) and ``status``.
    """

    text: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StatusTable:
    """A correction that gives the status of each bin, as a number (`calib.results.Status`)."""

    text: str = "Status of the bin"
    inputs: Mapping[str, str] = field(default_factory=dict)


Payload = Mapping[str, Formula | Table | StatusTable]
"""What a payload holds: names, with ``{key}`` in them where there are several parameters."""


# writing -----------------------------------------------------------------------------------------
def document(payload: Payload, found: Mapping[str, Parameters], description: str) -> dict[str, Any]:
    """Return the payload of a result: a correctionlib document of schema 2.

    Parameters
    ----------
    payload : mapping of name to Formula, Table or StatusTable
        As the calibration declares it.
    found : mapping of key to Parameters
        The result.
    description : str
        Of the payload.

    Returns
    -------
    dict
        Plain values.
    """
    made = [
        _correction(name.format(key=key), spec, key, own)
        for key, own in found.items()
        for name, spec in payload.items()
    ]
    return nodes.document(made, description)


def _correction(
    name: str, spec: Formula | Table | StatusTable, key: str, own: Parameters
) -> dict[str, Any]:
    named = {axis.name: axis.name for axis in own.axes} | dict(spec.inputs)
    inputs = [(n, text) for n, text in spec.inputs.items()]
    inputs = [(n, n) for n in named if n not in spec.inputs] + inputs
    whole = [axis.name for axis in own.axes if axis.whole]
    text = spec.text.format(key=key, **own.labels)
    if isinstance(spec, StatusTable):
        data = nodes.over_bins(own.axes, list(own.codes))
        return nodes.correction(name, f"{text}: {_STATUS}", inputs, "status", data, whole=whole)
    if isinstance(spec, Table):
        words = _words(own)
        data = nodes.by_key(
            "parameter", {w: nodes.over_bins(own.axes, list(x)) for w, x in words.items()}
        )
        start = [("parameter", ", ".join(words))]
        text = f"{text}; status: {_STATUS}"
        return nodes.correction(name, text, start + inputs, "value", data, whole=whole)
    data, formulas = _formula_nodes(spec, key, own, [n for n, _ in inputs])
    if spec.variations:
        inputs = [("variation", ", ".join(data)), *inputs]
        data = nodes.by_key("variation", data)
    else:
        data = data["nom"]
    text += f" ({spec.unit})" * bool(spec.unit)
    return nodes.correction(name, text, inputs, spec.output, data, whole=whole, formulas=formulas)


def _words(own: Parameters) -> dict[str, Array]:
    """Return the parameters as a `Table` gives them; 0 where they may not be used."""
    found: dict[str, Array] = {}
    for j, name in enumerate(own.names):
        found |= {name: own.values[:, j], f"{name}_err": own.errors[:, j]}
    blocks = np.array([own.of_bin(i) for i in range(len(own))])
    k = len(own.names)
    for i, j in combinations(range(k), 2):
        word = "covariance" if k == 2 else f"covariance_{own.names[i]}_{own.names[j]}"
        found[word] = blocks[:, i, j]
    found = {word: np.where(own.usable, np.nan_to_num(x), 0.0) for word, x in found.items()}
    return found | {"status": own.codes.astype(np.float64)}


def _formula_nodes(
    spec: Formula, key: str, own: Parameters, inputs: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the nodes of each variation of a formula, and the formulas that they refer to."""
    if spec.expression in own.names and "error" not in spec.variations:
        at = own.names.index(spec.expression)  # a number a bin is a number in the payload
        numbers = {w: list(v[:, at]) for w, v in _varied(spec, own).items()}
        return {w: _over(spec, own, x) for w, x in numbers.items()}, []
    k = len(own.names)
    tree, constants = spec.tree_of(key), tuple(spec.constants)
    of_error = tuple(covariance_name(i, j) for j in range(k) for i in range(j + 1))
    variables = tuple(n for n in inputs if n in names_in(tree))
    nominal = tformula(tree, variables, (*own.names, *constants))
    formulas, texts = [nominal], {"nom": 0}
    if "error" in spec.variations:
        names = (*own.names, *constants, *of_error)
        error = f"sqrt(max({tformula(variance(tree, own.names), variables, names)},0))"
        formulas += [f"{nominal}+{error}", f"{nominal}-{error}"]
        texts |= {"up": 1, "down": 2}
    known = np.array([spec.constants[c] for c in constants], dtype=float).reshape(-1, len(own)).T
    blocks = np.array([own.of_bin(i) for i in range(len(own))])
    covariance = np.array([blocks[:, i, j] for j in range(k) for i in range(j + 1)]).T
    found = {}
    for word, values in _varied(spec, own).items():
        for text, index in texts.items() if word == "nom" else ((word, 0),):
            rows = np.concatenate([values, known, *([covariance] if index else [])], axis=1)
            cells = [nodes.formula_of(index, row) for row in np.nan_to_num(rows)]
            found[text] = _over(spec, own, cells)
    return found, [nodes.formula(text, variables) for text in formulas]


def _over(spec: Formula, own: Parameters, cells: Sequence[Any]) -> dict[str, Any]:
    content = [c if u else spec.unusable for c, u in zip(cells, own.usable, strict=True)]
    return nodes.over_bins(own.axes, content, spec.outside)


def _varied(spec: Formula, own: Parameters) -> dict[str, Array]:
    """Return the values under each variation of the parameters, ``nom`` first."""
    found = {"nom": own.values}
    if "common" not in spec.variations:
        return found
    known = np.repeat(own.usable, len(own.names))
    covariance = np.where(np.outer(known, known), own.covariance, 0.0)
    for i, shift in enumerate(common_part(covariance)[0]):
        moved = shift.reshape(own.values.shape)
        found[f"common_{i + 1}_up"] = own.values + moved
        found[f"common_{i + 1}_down"] = own.values - moved
    return found


# reading back ------------------------------------------------------------------------------------
def read_back(
    written: Mapping[str, Any], payload: Payload, found: Mapping[str, Parameters], seed: int
) -> Check:
    """Return whether a written payload gives the result, at `POINTS` points of each correction.

    A quarter of the points are on edges of bins.

    Parameters
    ----------
    written : mapping
        The document, as read from the file.
    payload : mapping of name to Formula, Table or StatusTable
        As in `document`.
    found : mapping of key to Parameters
        As in `document`.
    seed : int
        Of the points.

    Returns
    -------
    Check
        ``payload_read_back``: how many points differ, at most 0.
    """
    random, wrong = np.random.default_rng([seed, 44]), 0
    for key, own in found.items():
        for name, spec in payload.items():
            wrong += _differ(written, name.format(key=key), spec, key, own, random)
    text = "points at which the payload differs from the result"
    return Check.at_most(
        "payload_read_back",
        wrong,
        0,
        text,
        title="Payload read back",
        advice="do not publish it: the formula of the payload is not that of the result",
    )


def _differ(
    written: Mapping[str, Any],
    name: str,
    spec: Formula | Table | StatusTable,
    key: str,
    own: Parameters,
    random: np.random.Generator,
) -> int:
    """Return at how many points a correction is not what the result is."""
    points: dict[str, AnyArray] = {axis.name: _points_of(axis, random) for axis in own.axes}
    at = Categories.of(own.axes).index(*points.values())
    if isinstance(spec, Formula):
        points |= {n: _between(spec, name, n, random) for n in spec.inputs if n not in points}
        wanted, choice = _expected(spec, key, own, at, points), "variation"
    else:
        only = isinstance(spec, StatusTable)
        words = {"nom": own.codes.astype(float)} if only else _words(own)
        wanted, choice = {w: x[at] for w, x in words.items()}, "parameter"
    wrong = np.zeros(POINTS, dtype=np.bool_)
    for word, expected in wanted.items():
        given = nodes.evaluate_at(written, name, {**points, choice: word})
        if given is None:
            return POINTS
        wrong |= ~(np.abs(given - expected) <= 1e-9 * np.abs(expected) + 1e-12)
    return int(wrong.sum())


def _points_of(axis: Axis, random: np.random.Generator) -> AnyArray:
    if axis.whole:
        return random.choice(np.array([int(low) for low, _ in axis.bins()]), POINTS)
    found = random.uniform(axis.edges[0], axis.edges[-1], POINTS)
    found[: POINTS // 4] = random.choice(axis.edges[:-1], POINTS // 4)
    return found


def _between(spec: Formula, name: str, key: str, random: np.random.Generator) -> AnyArray:
    if key not in spec.ranges:
        raise CalibError(
            f"payload {name!r}: input {key!r} has no range in which it can be read back; give"
            f" ranges={{{key!r}: (lowest, highest)}}"
        )
    return random.uniform(*spec.ranges[key], POINTS)


def _expected(
    spec: Formula, key: str, own: Parameters, at: AnyArray, points: Mapping[str, AnyArray]
) -> dict[str, Array]:
    """Return what a formula gives at points in some bins, by numpy alone."""
    terms: dict[str, AnyArray] = {}
    constants = {n: np.asarray(x)[at] for n, x in spec.constants.items()}
    for name, term in spec.terms_of(key).items():
        if term.function is not None:
            terms[name] = term.function(**points)
        else:
            terms[name] = evaluated(parsed(term.expression), {**points, **constants})
    known = {**points, **constants, **terms}
    tree = parsed(spec.expression)

    def value(values: Array) -> dict[str, AnyArray]:
        return known | {n: values[at, j] for j, n in enumerate(own.names)}

    with np.errstate(invalid="ignore", divide="ignore"):
        found = {w: evaluated(tree, value(v)) for w, v in _varied(spec, own).items()}
        if "error" in spec.variations:
            blocks = np.array([own.of_bin(i) for i in range(len(own))])[at]
            pairs = [(i, j) for j in range(len(own.names)) for i in range(j + 1)]
            covariance = {covariance_name(i, j): blocks[:, i, j] for i, j in pairs}
            squared = evaluated(variance(tree, own.names), value(own.values) | covariance)
            error = np.sqrt(np.maximum(squared, 0.0))
            found |= {"up": found["nom"] + error, "down": found["nom"] - error}
    usable = own.usable[at]
    return {
        w: np.where(usable, np.broadcast_to(x, at.shape), spec.unusable) for w, x in found.items()
    }


# reading what was written ------------------------------------------------------------------------
def with_error(
    written: Mapping[str, Any], name: str, table: str, inputs: Mapping[str, AnyArray]
) -> tuple[Array, Array, Array] | None:
    """Return value, error and status of a formula with ``variations=("error",)``.

    Parameters
    ----------
    written : mapping
        A payload.
    name, table : str
        The formula, and the `Table` that has its status.
    inputs : mapping of name to array, shape (n,)

    Returns
    -------
    three arrays, shape (n,), or None
        NaN where there is no value that may be used; the status is -1 where it is not known.
        None where the payload has no such formula.
    """
    value, up = (
        nodes.evaluate_at(written, name, {**inputs, "variation": word}) for word in ("nom", "up")
    )
    if value is None or up is None:
        return None
    status = nodes.evaluate_at(written, table, {**inputs, "parameter": "status"})
    codes = np.full(len(value), -1.0) if status is None else np.nan_to_num(status, nan=-1.0)
    good = np.isfinite(value) & (codes <= Status.HELD.code) & (value > 0)
    return np.where(good, value, np.nan), np.where(good, up - value, np.nan), codes


def of_muons(
    written: Mapping[str, Any], name: str, table: str, keys: Sequence[str], pairs: Pairs
) -> dict[str, tuple[Array, Array, Array]]:
    """Return value, error and status of both muons of pairs, as `with_error`.

    Parameters
    ----------
    written : mapping
        A payload.
    name, table : str
        The formula and the `Table`, with ``{key}``; their inputs are ``eta, phi, pt``.
    keys : sequence of str
        The first one that the payload has is taken.
    pairs : Pairs

    Returns
    -------
    mapping of ``mu1`` and ``mu2`` to three arrays, shape (n,)
        Empty where the payload has none of them.
    """
    there = {c["name"] for c in written["corrections"]}
    key = next((k for k in keys if name.format(key=k) in there), None)
    found: dict[str, tuple[Array, Array, Array]] = {}
    for mu, muons in (("mu1", pairs.leading), ("mu2", pairs.subleading)):
        inputs = {"eta": muons.eta, "phi": muons.phi, "pt": muons.pt}
        if key is not None:
            made = with_error(written, name.format(key=key), table.format(key=key), inputs)
            assert made is not None
            found[mu] = made
    return found


def values(written: Mapping[str, Any], payload: Payload) -> pd.DataFrame | None:
    """Return the parameters in a payload, one row each.

    Named by their bins: ``d0 eta [-2.4, -2) phi [-3.14, 3.14) a``.

    Parameters
    ----------
    written : mapping
        The document, as read from the file.
    payload : mapping of name to Formula, Table or StatusTable
        As the calibration declares it.

    Returns
    -------
    DataFrame or None
        ``name, kind, value, error, status``; None without a `Table`.
    """
    frames = []
    for own in written["corrections"]:
        if not isinstance(spec_of(payload, own["name"])[1], Table):
            continue
        frames += _values_of(written, own, spec_of(payload, own["name"])[0])
    return pd.concat(frames, ignore_index=True) if frames else None


def _values_of(written: Mapping[str, Any], own: Mapping[str, Any], key: str) -> list[pd.DataFrame]:
    axes = [i["name"] for i in own["inputs"] if i["name"] != "parameter"]
    bins = list(product(*(nodes.edges_of(own["data"], axis) for axis in axes)))
    start = f"{key} " if key else ""
    names = [
        start + " ".join(f"{n} [{a:.3g}, {b:.3g})" for n, (a, b) in zip(axes, one, strict=True))
        for one in bins
    ]
    middle: dict[str, AnyArray] = {
        axis: np.array([0.5 * sum(one[i]) for one in bins]) for i, axis in enumerate(axes)
    }
    whole = {i["name"] for i in own["inputs"] if i["type"] == "int"}
    middle |= {n: np.floor(middle[n]).astype(np.int64) for n in whole}
    words = [item["key"] for item in own["data"]["content"]]
    frames = []
    for word in words:
        if f"{word}_err" not in words:
            continue
        value, error, status = (
            nodes.evaluate_at(written, own["name"], {**middle, "parameter": w})
            for w in (word, f"{word}_err", "status")
        )
        frames.append(table_of_values([f"{n} {word}" for n in names], word, value, error, status))
    return frames


def spec_of(payload: Payload, name: str) -> tuple[str, Formula | Table | StatusTable | None]:
    """Return the key of a correction's name, and what it is declared as.

    Of several that fit, the one with the most letters of its own.

    Parameters
    ----------
    payload : mapping of name to Formula, Table or StatusTable
        Its names may hold ``{key}``.
    name : str
        Of a correction.

    Returns
    -------
    str
        The key, empty for a name without one.
    Formula, Table, StatusTable or None
        None: it is not declared.
    """
    for template in sorted(payload, key=len, reverse=True):
        before, braces, after = template.partition("{key}")
        if not braces:
            if name == template:
                return "", payload[template]
        elif name.startswith(before) and name.endswith(after):
            key = name[len(before) : len(name) - len(after)]
            if key:
                return key, payload[template]
    return "", None


def earlier_values(
    written: Mapping[str, Any], payload: Payload, key: str, own: Parameters, parameter: str
) -> tuple[Array, Array]:
    """Return a parameter and its error in an earlier payload, at the centre of each bin.

    Parameters
    ----------
    written : mapping
        The earlier document, as read from the file.
    payload : mapping of name to Formula, Table or StatusTable
        As the calibration declares it now.
    key : str
        Of the parameters, in the names of the corrections.
    own : Parameters
        Those of now, whose bins are asked for.
    parameter : str
        Which one.

    Returns
    -------
    two arrays, shape (n,)
        NaN where the earlier one has no value.
    """
    edges = list(product(*(axis.bins() for axis in own.axes)))
    inputs: dict[str, AnyArray] = {}
    for i, axis in enumerate(own.axes):
        middle = np.array([0.5 * sum(e[i]) for e in edges])
        inputs[axis.name] = np.floor(middle).astype(np.int64) if axis.whole else middle
    nothing = np.full(len(own), np.nan)
    for name, spec in payload.items():
        if isinstance(spec, Table):
            value, error, status = (
                nodes.evaluate_at(written, name.format(key=key), {**inputs, "parameter": w})
                for w in (parameter, f"{parameter}_err", "status")
            )
            if value is None or error is None or status is None:
                return nothing, nothing
            good = status <= Status.HELD.code
            return np.where(good, value, np.nan), np.where(good, error, np.nan)
        if isinstance(spec, Formula) and spec.expression == parameter:
            found = nodes.evaluate_at(written, name.format(key=key), {**inputs, "variation": "nom"})
            return (nothing if found is None else found), nothing
    return nothing, nothing
