"""Expressions: numpy, correctionlib and differences agree."""

from __future__ import annotations

import correctionlib
import numpy as np
import pytest
from correctionlib import schemav2

from calib.payload.expressions import (
    covariance_name,
    derivative,
    evaluated,
    names_in,
    parsed,
    substituted,
    tformula,
    variance,
)

TEXTS = (
    "sqrt(a^2 + b^2 * cosh(eta)^3 / pt^2)",
    "a + b*log(pt) - exp(-pt/(10*b))",
    "(a*sin(eta) + b*cos(eta)) * tanh(pt/50) / (1 + a^2)",
    "max(a, 0.1) * min(pt, 40) - abs(b)",
    "-a^3 + 2*b^0.5 / sinh(pt/20)",
)


@pytest.mark.parametrize("text", TEXTS)
def test_correctionlib_gives_what_numpy_gives(text: str) -> None:
    tree = parsed(text)
    assert names_in(tree) <= {"a", "b", "eta", "pt"}
    formula = schemav2.Correction(
        name="f",
        version=1,
        inputs=[{"name": n, "type": "real"} for n in ("eta", "pt")],
        output={"name": "out", "type": "real"},
        data={
            "nodetype": "formula",
            "parser": "TFormula",
            "variables": ["eta", "pt"],
            "expression": tformula(tree, ("eta", "pt"), ("a", "b")),
            "parameters": [1.3, 2.7],
        },
    )
    made = correctionlib.schemav2.CorrectionSet(schema_version=2, corrections=[formula])
    own = made.to_evaluator()["f"]
    random = np.random.default_rng(1)
    eta, pt = random.uniform(-2.4, 2.4, 500), random.uniform(3.0, 100.0, 500)
    expected = evaluated(tree, {"a": 1.3, "b": 2.7, "eta": eta, "pt": pt})
    np.testing.assert_allclose(own.evaluate(eta, pt), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("text", [t for t in TEXTS if "abs" not in t])
@pytest.mark.parametrize("name", ["a", "b"])
def test_derivatives_are_differences(text: str, name: str) -> None:
    at = {"a": 1.3, "b": 2.7, "eta": 0.8, "pt": 12.0}
    tree, step = parsed(text), 1e-5
    up, down = ({**at, name: at[name] + s} for s in (step, -step))
    expected = (evaluated(tree, up) - evaluated(tree, down)) / (2 * step)
    assert float(evaluated(derivative(tree, name), at)) == pytest.approx(float(expected), rel=1e-7)


def test_variance_is_that_of_the_gradient() -> None:
    covariance = np.array([[0.04, -0.01], [-0.01, 0.09]])
    at = {"a": 12.0, "b": 60.0, "u": 0.03}
    known = {covariance_name(i, j): covariance[i, j] for i, j in ((0, 0), (0, 1), (1, 1))}
    found = float(evaluated(variance(parsed("sqrt(a^2+b^2*u)"), ("a", "b")), {**at, **known}))
    sigma = np.sqrt(144 + 3600 * 0.03)
    slope = np.array([12.0, 60.0 * 0.03]) / sigma
    assert found == pytest.approx(slope @ covariance @ slope, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a +", "invalid syntax"),
        ("__import__('os')", "expected one of"),
        ("a.real", "no part of a formula"),
        ("a // b", r"only \+ - \* / \^"),
        ("+a", "the only sign"),
        ("'a'", "no number"),
        ("gamma(a)", "expected one of"),
        ("a if b else 1", "no part of a formula"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed(text)


def test_what_cannot_be_written_or_derived_is_said() -> None:
    with pytest.raises(ValueError, match="has no derivative"):
        derivative(parsed("abs(a)"), "a")
    with pytest.raises(ValueError, match="in the exponent"):
        derivative(parsed("2^a"), "a")
    with pytest.raises(ValueError, match="'c' is neither an input nor a parameter"):
        tformula(parsed("a*c"), (), ("a",))
    with pytest.raises(ValueError, match="at most 4"):
        tformula(parsed("a"), tuple("vwxyz"), ("a",))
    inner = substituted(parsed("a*u"), {"u": parsed("pt^2")})
    assert tformula(inner, ("pt",), ("a",)) == "([0]*(x^2))"
