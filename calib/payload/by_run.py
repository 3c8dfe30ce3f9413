"""One correctionlib document for all runs, from payloads with intervals of validity.

Each correction gets ``run`` as its first input and a binning in it; below that stand the nodes
of the payloads, untouched, so that the numbers are the same to the bit. A run for which nothing
holds is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calib.errors import InputError
from calib.payload.validity import Validity

RUN = {"name": "run", "type": "int", "description": "Run number"}

Piece = tuple[Validity, Mapping[str, Any]]


def is_joined(document: Mapping[str, Any]) -> bool:
    """Return whether a document is one for all runs, as `joined` makes it."""
    firsts = [(c.get("inputs") or [{}])[0] for c in document.get("corrections", ())]
    return bool(firsts) and all(first == RUN for first in firsts)


_NOBODY = -1
"""A run that does not exist: where only this one is known, every other is an error."""


def joined(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return the document that holds the payload of each interval.

    Parameters
    ----------
    pieces : sequence of (Validity, document)
        Intervals that do not overlap, each with its payload (correctionlib, schema 2).

    Raises
    ------
    InputError
        If the payloads do not fit together: a correction that depends on the run already, inputs
        of one name with different types, or compound corrections that are not the same.
    """
    pieces = sorted(pieces, key=lambda p: p[0])
    names = dict.fromkeys(c["name"] for _, d in pieces for c in d["corrections"])
    out: dict[str, Any] = {
        "schema_version": 2,
        "description": _description(pieces),
        "corrections": [_correction(name, pieces) for name in names],
    }
    compounds = [d.get("compound_corrections") or [] for _, d in pieces]
    if any(compounds):
        out["compound_corrections"] = _compounds(compounds)
    return out


def _description(pieces: Sequence[Piece]) -> str:
    runs = "; ".join(str(v) for v, _ in pieces)
    last = pieces[-1][1].get("description") or ""
    return f"By run, both ends included: {runs}. Of the last: {last}"


def _correction(name: str, pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return one correction of all payloads, binned in the run."""
    found = [(v, c) for v, d in pieces for c in d["corrections"] if c["name"] == name]
    formulas: list[Any] = []
    edges: list[float] = [float(found[0][0].since)]
    content: list[Any] = []
    for validity, correction in found:
        if validity.since > edges[-1]:
            content.append(_nothing())
            edges.append(float(validity.since))
        content.append(_renumbered(correction, formulas))
        edges.append(float(validity.last + 1))
    newest = found[-1][1]
    out = {
        "name": name,
        "description": newest.get("description"),
        "version": max(c["version"] for _, c in found),
        "inputs": [RUN, *_inputs(name, [c for _, c in found])],
        "output": newest["output"],
        "data": {
            "nodetype": "binning",
            "input": "run",
            "edges": edges,
            "content": content,
            "flow": "error",
        },
    }
    if formulas:
        out["generic_formulas"] = formulas
    return {key: value for key, value in out.items() if value is not None}


def _nothing() -> dict[str, Any]:
    """Return a node that is an error for every run."""
    item = {"key": _NOBODY, "value": 0.0}
    return {"nodetype": "category", "input": "run", "content": [item]}


def _renumbered(correction: Mapping[str, Any], formulas: list[Any]) -> Any:
    """Return the nodes of a correction; its formulas join those of the others."""
    place = {}
    for i, formula in enumerate(correction.get("generic_formulas") or ()):
        if formula not in formulas:
            formulas.append(formula)
        place[i] = formulas.index(formula)

    def walked(node: Any) -> Any:
        if isinstance(node, list):
            return [walked(part) for part in node]
        if not isinstance(node, Mapping):
            return node
        if node.get("nodetype") == "formularef":
            return {**node, "index": place[node["index"]]}
        return {key: walked(value) for key, value in node.items()}

    data: Any = correction["data"]
    return walked(data) if place else data


def _inputs(name: str, corrections: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the inputs of all, in the order of the newest; nodes find them by name."""
    found: dict[str, Any] = {}
    for correction in reversed(corrections):
        for given in correction["inputs"]:
            if given["name"] == RUN["name"]:
                raise InputError(
                    f"correction {name!r}: depends on the run already, so payloads cannot be"
                    " joined by run; take that of each run (--run R)"
                )
            known = found.setdefault(given["name"], given)
            if known["type"] != given["type"]:
                raise InputError(
                    f"correction {name!r}: input {given['name']!r} is {known['type']} in one"
                    f" payload and {given['type']} in another; take that of each run (--run R)"
                )
    return list(found.values())


def _compounds(found: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the compound corrections, with the run; they must be the same in all payloads."""
    first = {c["name"]: c for c in found[-1]}
    for others in found:
        if {c["name"]: _stack(c) for c in others} != {n: _stack(c) for n, c in first.items()}:
            raise InputError(
                "compound corrections: not the same in all payloads, so they cannot be joined by"
                " run; take that of each run (--run R)"
            )
    return [{**c, "inputs": [RUN, *c["inputs"]]} for c in first.values()]


def _stack(compound: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a compound correction does, without its descriptions."""
    inputs = [(given["name"], given["type"]) for given in compound["inputs"]]
    return {**compound, "inputs": inputs, "description": None, "output": None}
