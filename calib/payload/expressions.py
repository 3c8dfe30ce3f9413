"""Expressions of a payload: read once, evaluated with numpy, derived, written for correctionlib.

A calibration writes ``sqrt(a^2 + b^2 * u)``. From it follow the numbers of the read-back, the
error of the result (its derivatives with the covariance of the parameters) and the formula in the
payload, so that none of them is written by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache

import numpy as np

from calib.types import AnyArray, Array

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^"}

_DERIVATIVES = {
    "sqrt": "0.5/sqrt(x)",
    "exp": "exp(x)",
    "log": "1/x",
    "sin": "cos(x)",
    "cos": "-sin(x)",
    "tan": "1+tan(x)^2",
    "sinh": "cosh(x)",
    "cosh": "sinh(x)",
    "tanh": "1-tanh(x)^2",
}
"""Functions of one argument that correctionlib's formulas know, with their derivatives."""

_FUNCTIONS = {name: getattr(np, name) for name in _DERIVATIVES} | {
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
}


@cache
def parsed(text: str) -> ast.expr:
    """Return the tree of an expression, ``^`` for powers.

    Parameters
    ----------
    text : str
        Numbers, names, ``+ - * / ^`` and the functions that correctionlib's formulas know.

    Raises
    ------
    ValueError
        If there is anything else in it.
    """
    try:
        tree = ast.parse(text.replace("^", "**"), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"formula {text!r}: {error.msg}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
            if not known or node.keywords:
                raise ValueError(
                    f"formula {text!r}: found {ast.unparse(node)!r}, expected one of"
                    f" {', '.join(_FUNCTIONS)}"
                )
        elif isinstance(node, ast.BinOp):
            if type(node.op) not in _BINARY:
                raise ValueError(f"formula {text!r}: only + - * / ^ are known")
        elif isinstance(node, ast.UnaryOp):
            if not isinstance(node.op, ast.USub):
                raise ValueError(f"formula {text!r}: the only sign before a term is -")
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
                raise ValueError(f"formula {text!r}: {node.value!r} is no number")
        elif not isinstance(node, (ast.Name, ast.operator, ast.unaryop, ast.expr_context)):
            raise ValueError(f"formula {text!r}: {ast.unparse(node)!r} is no part of a formula")
    return tree


def names_in(tree: ast.expr) -> set[str]:
    """Return the names in an expression, those of functions aside."""
    functions = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in functions}


def substituted(tree: ast.expr, terms: Mapping[str, ast.expr]) -> ast.expr:
    """Return an expression with other expressions in place of some of its names.

    Parameters
    ----------
    tree : ast.expr
        Read by `parsed`.
    terms : mapping of name to ast.expr
        What stands in their places.

    Returns
    -------
    ast.expr
        A new expression.
    """
    if isinstance(tree, ast.Name):
        return terms.get(tree.id, tree)
    if isinstance(tree, ast.BinOp):
        left, right = (substituted(x, terms) for x in (tree.left, tree.right))
        return ast.BinOp(left, tree.op, right)
    if isinstance(tree, ast.UnaryOp):
        return ast.UnaryOp(tree.op, substituted(tree.operand, terms))
    if isinstance(tree, ast.Call):
        return ast.Call(tree.func, [substituted(x, terms) for x in tree.args], [])
    return tree


def evaluated(tree: ast.expr, values: Mapping[str, AnyArray | float]) -> Array:
    """Return an expression at values of its names.

    Parameters
    ----------
    tree : ast.expr
        Read by `parsed`.
    values : mapping of name to number or array
        Of any shapes that broadcast.

    Returns
    -------
    array
        In the common shape of the values.
    """
    if isinstance(tree, ast.Constant):
        return np.asarray(tree.value, dtype=np.float64)
    if isinstance(tree, ast.Name):
        return np.asarray(values[tree.id], dtype=np.float64)
    if isinstance(tree, ast.UnaryOp):
        return -evaluated(tree.operand, values)
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name)
        return np.asarray(_FUNCTIONS[tree.func.id](*(evaluated(x, values) for x in tree.args)))
    assert isinstance(tree, ast.BinOp)
    left, right = evaluated(tree.left, values), evaluated(tree.right, values)
    operations = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power}
    return np.asarray(operations[_BINARY[type(tree.op)]](left, right))


def derivative(tree: ast.expr, name: str) -> ast.expr:
    """Return the derivative of an expression with respect to one of its names.

    Parameters
    ----------
    tree : ast.expr
        Read by `parsed`.
    name : str
        What is differentiated by.

    Returns
    -------
    ast.expr
        Simplified where a factor is 0 or 1.

    Raises
    ------
    ValueError
        If the name stands in an ``abs``, ``min`` or ``max``, or in an exponent.
    """
    if name not in names_in(tree):
        return _number(0)
    if isinstance(tree, ast.Name):
        return _number(1)
    if isinstance(tree, ast.UnaryOp):
        return _negative(derivative(tree.operand, name))
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name)
        if tree.func.id not in _DERIVATIVES:
            raise ValueError(f"formula: {ast.unparse(tree)!r} has no derivative")
        outer = substituted(parsed(_DERIVATIVES[tree.func.id]), {"x": tree.args[0]})
        return _product(outer, derivative(tree.args[0], name))
    assert isinstance(tree, ast.BinOp)
    left, right = derivative(tree.left, name), derivative(tree.right, name)
    if isinstance(tree.op, ast.Add):
        return _sum(left, right)
    if isinstance(tree.op, ast.Sub):
        return _sum(left, _negative(right))
    if isinstance(tree.op, ast.Mult):
        return _sum(_product(left, tree.right), _product(tree.left, right))
    if isinstance(tree.op, ast.Div):
        below = ast.BinOp(_product(tree.left, right), ast.Div(), _power(tree.right, _number(2)))
        return _sum(ast.BinOp(left, ast.Div(), tree.right), _negative(below))
    if name in names_in(tree.right):
        raise ValueError(f"formula: {name!r} in the exponent of {ast.unparse(tree)!r}")
    lowered = _power(tree.left, _sum(tree.right, _number(-1)))
    return _product(_product(tree.right, lowered), left)


def _number(value: float) -> ast.expr:
    return ast.Constant(value)


def _is(tree: ast.expr, value: float) -> bool:
    return isinstance(tree, ast.Constant) and tree.value == value


def _sum(left: ast.expr, right: ast.expr) -> ast.expr:
    if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
        return _number(float(left.value) + float(right.value))  # type: ignore[arg-type]
    if _is(left, 0):
        return right
    return left if _is(right, 0) else ast.BinOp(left, ast.Add(), right)


def _product(left: ast.expr, right: ast.expr) -> ast.expr:
    if _is(left, 0) or _is(right, 0):
        return _number(0)
    if _is(left, 1):
        return right
    return left if _is(right, 1) else ast.BinOp(left, ast.Mult(), right)


def _power(base: ast.expr, exponent: ast.expr) -> ast.expr:
    if _is(exponent, 0):
        return _number(1)
    return base if _is(exponent, 1) else ast.BinOp(base, ast.Pow(), exponent)


def _negative(tree: ast.expr) -> ast.expr:
    return _number(0) if _is(tree, 0) else ast.UnaryOp(ast.USub(), tree)


def variance(tree: ast.expr, names: tuple[str, ...]) -> ast.expr:
    """Return the variance of an expression, to first order in the errors of some names.

    Parameters
    ----------
    tree : expression
    names : tuple of str, length k
        Their covariance goes by `covariance_name`.

    Returns
    -------
    expression
        Below zero by rounding at most; `derivative` has the errors it raises.
    """
    slopes = [derivative(tree, name) for name in names]
    total = _number(0)
    for i, one in enumerate(slopes):
        for j, other in enumerate(slopes[: i + 1]):
            term = _product(_product(one, other), ast.Name(covariance_name(j, i)))
            total = _sum(total, term if i == j else _product(_number(2), term))
    return total


def covariance_name(i: int, j: int) -> str:
    """Return what the covariance of the i-th and the j-th name is called.

    Parameters
    ----------
    i, j : int
        Positions of the names, i <= j.

    Returns
    -------
    str
        ``covariance_0_1``.
    """
    return f"covariance_{i}_{j}"


def tformula(tree: ast.expr, variables: tuple[str, ...], parameters: tuple[str, ...]) -> str:
    """Return an expression as correctionlib's formulas write it.

    Parameters
    ----------
    tree : ast.expr
        Read by `parsed`.
    variables : tuple of str
        Names that become x, y, z, t; at most four.
    parameters : tuple of str
        Names that become [0], [1], ...

    Returns
    -------
    str
        In the language of ROOT's TFormula.

    Raises
    ------
    ValueError
        If a name is neither, or there are more than four variables.
    """
    if len(variables) > 4:
        raise ValueError(f"formula: {len(variables)} variables, a formula has at most 4")
    written = dict(zip(variables, "xyzt", strict=False))
    written |= {name: f"[{i}]" for i, name in enumerate(parameters)}

    def text(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return f"({node.value!r})" if float(node.value) < 0 else repr(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            if node.id not in written:
                raise ValueError(f"formula: {node.id!r} is neither an input nor a parameter")
            return written[node.id]
        if isinstance(node, ast.UnaryOp):
            return f"(-{text(node.operand)})"
        if isinstance(node, ast.Call):
            return f"{ast.unparse(node.func)}({','.join(map(text, node.args))})"
        assert isinstance(node, ast.BinOp)
        return f"({text(node.left)}{_BINARY[type(node.op)]}{text(node.right)})"

    return text(tree)
