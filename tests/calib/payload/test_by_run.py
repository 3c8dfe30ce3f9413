"""One document for all runs: to the bit what the payload of each run says, and errors elsewhere."""

from __future__ import annotations

import json
from typing import Any

import correctionlib
import numpy as np
import pytest

from calib.calibrations import name_of_payload
from calib.errors import InputError
from calib.payload.by_run import joined
from calib.payload.payload import validate
from calib.payload.validity import LAST, Validity

RANDOM = np.random.default_rng(7)
N = 4000
ETA, PT = RANDOM.uniform(-3, 3, N), RANDOM.uniform(3, 200, N)


def binned(name: str, seed: int, edges: tuple[float, ...] = (-2.4, 0.0, 2.4)) -> dict[str, Any]:
    values = np.random.default_rng(seed).normal(1, 0.1, len(edges) - 1)
    return {
        "name": name,
        "version": 1,
        "inputs": [{"name": "eta", "type": "real"}],
        "output": {"name": "factor", "type": "real"},
        "data": {
            "nodetype": "binning",
            "input": "eta",
            "edges": list(edges),
            "content": values.tolist(),
            "flow": "clamp",
        },
    }


def formulas(name: str, seed: int, expressions: tuple[str, ...]) -> dict[str, Any]:
    """A correction whose bins share formulas, each with parameters of its own."""
    edges = np.linspace(-2.4, 2.4, 2 * len(expressions) + 1)
    numbers = np.random.default_rng(seed).normal(0, 1e-3, (len(edges) - 1, 2))
    content = [
        {"nodetype": "formularef", "index": i % len(expressions), "parameters": p.tolist()}
        for i, p in enumerate(numbers)
    ]
    up = [{**c, "parameters": [2 * p for p in c["parameters"]]} for c in content]
    variations = [
        {
            "key": key,
            "value": {
                "nodetype": "binning",
                "input": "eta",
                "edges": edges.tolist(),
                "content": nodes,
                "flow": 1.0,
            },
        }
        for key, nodes in (("nom", content), ("up", up))
    ]
    return {
        "name": name,
        "version": 2,
        "inputs": [
            {"name": "pt", "type": "real"},
            {"name": "eta", "type": "real"},
            {"name": "variation", "type": "string"},
        ],
        "output": {"name": "pt_corr", "type": "real"},
        "generic_formulas": [
            {"nodetype": "formula", "expression": e, "parser": "TFormula", "variables": ["pt"]}
            for e in expressions
        ],
        "data": {"nodetype": "category", "input": "variation", "content": variations},
    }


def document(*corrections: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schema_version": 2, "corrections": list(corrections), **more}


def loaded(values: dict[str, Any]) -> correctionlib.CorrectionSet:
    text = json.dumps(values)
    validate(values, text)
    return correctionlib.CorrectionSet.from_string(text)


FIRST = document(binned("factor", 1), formulas("pt_corr", 1, ("x*(1+[0])", "x+[1]*x*x")))
SECOND = document(
    formulas("pt_corr", 2, ("x+[1]*x*x", "x/(1+[0])", "x*(1+[0])+[1]")),
    binned("factor", 2, (-2.4, -1.0, 0.0, 1.0, 2.4)),
    binned("uncertainty", 3),
)
PIECES = [(Validity(10, 19), FIRST), (Validity(40), FIRST), (Validity(20, 29), SECOND)]


def test_every_run_has_its_own_payload_to_the_bit() -> None:
    whole = loaded(joined(PIECES))
    runs = RANDOM.choice([10, 15, 19, 20, 25, 29, 40, 99999, LAST], N)
    second = (runs >= 20) & (runs < 30)
    for name, arguments in (
        ("factor", (ETA,)),
        ("pt_corr", (PT, ETA, "nom")),
        ("pt_corr", (PT, ETA, "up")),
    ):
        one, other = (loaded(d)[name].evaluate(*arguments) for d in (FIRST, SECOND))
        expected = np.where(second, other, one)
        assert np.array_equal(whole[name].evaluate(runs, *arguments), expected)
    found = whole["uncertainty"].evaluate(np.full(N, 25), ETA)
    assert np.array_equal(found, loaded(SECOND)["uncertainty"].evaluate(ETA))


@pytest.mark.parametrize("run", [0, 9, 30, 39, LAST + 1])
def test_a_run_without_constants_is_an_error(run: int) -> None:
    with pytest.raises((RuntimeError, IndexError)):
        loaded(joined(PIECES))["factor"].evaluate(run, 0.5)


def test_a_correction_that_one_payload_lacks() -> None:
    with pytest.raises((RuntimeError, IndexError)):
        loaded(joined(PIECES))["uncertainty"].evaluate(15, 0.5)


def test_a_file_for_all_runs_is_refused_where_one_run_is_expected() -> None:
    with pytest.raises(InputError, match="a file for all runs"):
        name_of_payload(joined(PIECES))
    with pytest.raises(InputError, match="belong to no calibration"):
        name_of_payload(FIRST)


def test_what_is_joined_is_left_as_it_was() -> None:
    before = json.dumps([FIRST, SECOND])
    joined(PIECES)
    assert json.dumps([FIRST, SECOND]) == before


def compound(seed: int, op: str = "*") -> dict[str, Any]:
    parts = [binned("one", seed), binned("two", seed + 10)]
    stack = {
        "name": "both",
        "inputs": [{"name": "eta", "type": "real"}],
        "output": {"name": "factor", "type": "real"},
        "inputs_update": [],
        "input_op": "*",
        "output_op": op,
        "stack": ["one", "two"],
    }
    return document(*parts, compound_corrections=[stack])


def test_compound_corrections() -> None:
    whole = loaded(joined([(Validity(1, 5), compound(1)), (Validity(6), compound(2))]))
    for run, seed in ((5, 1), (6, 2)):
        expected = loaded(compound(seed)).compound["both"].evaluate(ETA)
        assert np.array_equal(whole.compound["both"].evaluate(run, ETA), expected)


def test_what_cannot_be_joined() -> None:
    with pytest.raises(InputError, match="compound corrections: not the same"):
        joined([(Validity(1, 5), compound(1)), (Validity(6), compound(2, "+"))])
    with pytest.raises(InputError, match="compound corrections: not the same"):
        joined([(Validity(1, 5), compound(1)), (Validity(6), FIRST)])
    run = binned("factor", 1)
    run["inputs"].append({"name": "run", "type": "int"})
    with pytest.raises(InputError, match="depends on the run already"):
        joined([(Validity(1), document(run))])
    other = binned("factor", 1)
    other["inputs"] = [{"name": "eta", "type": "int"}]
    with pytest.raises(InputError, match="'eta' is"):
        joined([(Validity(1, 2), FIRST), (Validity(3), document(other))])
