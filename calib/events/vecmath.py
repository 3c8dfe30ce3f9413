"""exp, log and angles in double precision for compiled loops, written to run on many at once.

numba calls the C library for one number at a time; these are plain arithmetic, which the compiler
turns into vector instructions. Additions and multiplications alone, never contracted: the same
number to the bit wherever an event stands in an array.
"""

from __future__ import annotations

import math
from typing import Any

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

_ROUND = 6755399441055744.0
"""1.5 x 2^52: what is added to it is rounded to an integer, in its last bits."""
_LOG2_E, _PER_PI = 1 / math.log(2), 1 / math.pi
# ln 2 and pi in two parts, the first with zeros at its end
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_PI_HIGH, _PI_LOW = 2 * 1.57079632673412561417, 2 * 6.07710050650619224932e-11

_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13 = (
    1 / math.factorial(n) for n in range(2, 14)
)
_S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9, _S10 = (
    (-1) ** n / math.factorial(2 * n + 1) for n in range(1, 11)
)
_C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11 = (
    (-1) ** n / math.factorial(2 * n) for n in range(1, 12)
)


@intrinsic  # type: ignore[untyped-decorator]
def _bits(context: Any, x: Any) -> Any:
    """Return the bits of a number."""

    def build(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), build


@intrinsic  # type: ignore[untyped-decorator]
def _from_bits(context: Any, x: Any) -> Any:
    """Return the number of these bits."""

    def build(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), build


@numba.njit(inline="always", error_model="numpy")
def exp(x):  # type: ignore[no-untyped-def]
    """Return exp(x), for |x| up to 700 (that of 700 beyond)."""
    x = 700.0 if x > 700.0 else x
    x = -700.0 if x < -700.0 else x
    rounded = x * _LOG2_E + _ROUND
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = (((((_E13 * r + _E12) * r + _E11) * r + _E10) * r + _E9) * r + _E8) * r + _E7
    p = (((((((p * r + _E6) * r + _E5) * r + _E4) * r + _E3) * r + _E2) * r + 1.0) * r) + 1.0
    return p * _from_bits((_bits(rounded) + 1023) << 52)


@numba.njit(inline="always", error_model="numpy")
def sin_squared(x):  # type: ignore[no-untyped-def]
    """Return sin(x)^2; for |x| up to thousands."""
    n = (x * _PER_PI + _ROUND) - _ROUND
    r = (x - n * _PI_HIGH) - n * _PI_LOW
    z = r * r
    p = (((((_S10 * z + _S9) * z + _S8) * z + _S7) * z + _S6) * z + _S5) * z + _S4
    p = ((((p * z + _S3) * z + _S2) * z + _S1) * z + 1.0) * r
    return p * p


@numba.njit(inline="always", error_model="numpy")
def log(x):  # type: ignore[no-untyped-def]
    """Return ln(x) of a positive, normal number, to 2e-16 of 1 + |ln(x)|."""
    # x = 2^n m, m between sqrt(1/2) and sqrt(2)
    raised = _bits(x) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    n = _from_bits((raised >> 52) + 0x4330000000000000) - (4503599627370496.0 + 1023.0)
    m = _from_bits((raised & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)
    f = (m - 1.0) / (m + 1.0)
    z = f * f
    p = ((((z / 21.0 + 1.0 / 19.0) * z + 1.0 / 17.0) * z + 1.0 / 15.0) * z + 1.0 / 13.0) * z
    p = ((((p + 1.0 / 11.0) * z + 1.0 / 9.0) * z + 1.0 / 7.0) * z + 1.0 / 5.0) * z + 1.0 / 3.0
    return n * _LN2_HIGH + (n * _LN2_LOW + (2.0 * f + 2.0 * f * z * p))


@numba.njit(inline="always", error_model="numpy")
def sin_cos(x):  # type: ignore[no-untyped-def]
    """Return sin(x) and cos(x), from those of x/2; for |x| up to thousands."""
    half = 0.5 * x
    n = (half * _PER_PI + _ROUND) - _ROUND
    r = (half - n * _PI_HIGH) - n * _PI_LOW
    z = r * r
    p = (((((_S10 * z + _S9) * z + _S8) * z + _S7) * z + _S6) * z + _S5) * z + _S4
    s = ((((p * z + _S3) * z + _S2) * z + _S1) * z + 1.0) * r
    p = (((((_C11 * z + _C10) * z + _C9) * z + _C8) * z + _C7) * z + _C6) * z + _C5
    c = ((((p * z + _C4) * z + _C3) * z + _C2) * z + _C1) * z + 1.0
    return 2.0 * s * c, (c - s) * (c + s)


@numba.njit(inline="always", error_model="numpy")
def atan2(y, x):  # type: ignore[no-untyped-def]
    """Return the angle of (x, y), not both 0, from an eighth of it.

    Parameters
    ----------
    y, x : float
        In any unit.

    Returns
    -------
    float
        In rad, in [-pi, pi].
    """
    t = y / (math.sqrt(x * x + y * y) + abs(x))
    t = t / (1.0 + math.sqrt(1.0 + t * t))
    t = t / (1.0 + math.sqrt(1.0 + t * t))
    z = t * t
    p = ((((z / 25.0 - 1.0 / 23.0) * z + 1.0 / 21.0) * z - 1.0 / 19.0) * z + 1.0 / 17.0) * z
    p = ((((p - 1.0 / 15.0) * z + 1.0 / 13.0) * z - 1.0 / 11.0) * z + 1.0 / 9.0) * z
    angle = 8.0 * (t + t * (((p - 1.0 / 7.0) * z + 1.0 / 5.0) * z - 1.0 / 3.0) * z)
    beyond = math.pi if y >= 0.0 else -math.pi
    return angle if x >= 0.0 else beyond - angle
