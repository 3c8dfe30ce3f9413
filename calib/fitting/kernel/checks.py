"""Arrays from the user, checked: one sentence with names and numbers where they do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calib.errors import InputError
from calib.types import Array


@dataclass(frozen=True)
class Data:
    """The input of the fits, in double precision."""

    counts: Array
    variance: Array | None
    edges: Array
    templates: Array
    template_variance: Array | None
    mass: Array


def checked(
    counts: npt.ArrayLike,
    edges: npt.ArrayLike,
    templates: npt.ArrayLike,
    mass: npt.ArrayLike,
    variance: npt.ArrayLike | None,
    template_variance: npt.ArrayLike | None,
) -> Data:
    """Return the input as arrays whose shapes fit; one category may come without its axis.

    Parameters
    ----------
    counts : array_like, shape (n, bins) or (bins,)
        Events, or sums of weights.
    edges : array_like, shape (bins + 1,)
        Ascending and positive, in GeV.
    templates : array_like, shape (n, gen bins), (1, gen bins) or (gen bins,)
        Generated events; a single one serves all categories.
    mass : array_like, shape (gen bins,) or (n, gen bins)
        Means of the gen bins, in GeV.
    variance, template_variance : array_like, optional
        Sums of squared weights, shapes of counts and of templates.

    Returns
    -------
    Data
        In double precision.

    Raises
    ------
    InputError
    """
    n = np.atleast_2d(_numbers("counts", counts, 2))
    x = _numbers("edges", edges, 1)
    t = np.atleast_2d(_numbers("templates", templates, 2))
    m = _numbers("template_mass", mass, 2, finite=False)
    if x.ndim != 1 or len(x) < 3 or np.any(np.diff(x) <= 0) or x[0] <= 0:
        raise InputError(
            f"edges: found shape {x.shape} from {x.min():g} to {x.max():g}; expected at least 3"
            " ascending positive masses in GeV; sort them and drop doubles"
        )
    if n.shape[1] != len(x) - 1:
        raise InputError(
            f"counts: found shape {n.shape}, but edges has {len(x)} values; expected"
            f" (categories, {len(x) - 1}); give one count per bin"
        )
    if len(t) == 1 and len(n) > 1:
        t = np.broadcast_to(t, (len(n), t.shape[1]))
    if len(t) != len(n):
        raise InputError(
            f"templates: found {len(t)} rows for {len(n)} rows of counts; expected one template"
            " per category, or a single one for all"
        )
    if m.shape not in ((t.shape[1],), t.shape):
        raise InputError(
            f"template_mass: found shape {m.shape}, expected ({t.shape[1]},) or {t.shape}, the"
            " mean mass of each gen bin of templates"
        )
    v = _spread("variance", variance, n.shape)
    tv = _spread("template_variance", template_variance, t.shape)
    _not_negative("counts", n, v)
    _not_negative("templates", t, tv)
    return Data(n, v, x, t, tv, _mass(m, t, x))


def _numbers(name: str, values: npt.ArrayLike, most: int, finite: bool = True) -> Array:
    try:
        found = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: found something that is not an array of numbers; expected an array of"
            f" at most {most} dimensions"
        ) from None
    if found.ndim == 0 or found.ndim > most or found.size == 0:
        raise InputError(
            f"{name}: found shape {found.shape}; expected 1 to {most} dimensions, not empty"
        )
    if finite and not np.isfinite(found).all():
        bad = np.argwhere(~np.isfinite(found))
        raise InputError(
            f"{name}: {len(bad)} values are not finite, the first at {_at(bad[0])}; expected"
            " finite numbers; set bins without entries to 0"
        )
    return found


def _spread(name: str, values: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    if values is None:
        return None
    found = np.atleast_2d(_numbers(name, values, 2))
    if found.shape == (1, shape[1]):
        found = np.broadcast_to(found, shape)
    if found.shape != shape or np.any(found < 0):
        raise InputError(
            f"{name}: found shape {found.shape}, smallest value {found.min():g}; expected {shape},"
            " sums of squared weights, not negative"
        )
    return found


def _not_negative(name: str, values: Array, variance: Any) -> None:
    if variance is None and np.any(values < 0):
        bad = np.argwhere(values < 0)
        which = "variance" if name == "counts" else "template_variance"
        raise InputError(
            f"{name}: {len(bad)} negative values, the first {values[tuple(bad[0])]:g} at"
            f" {_at(bad[0])}; expected counts; for weighted events give {which} (sums of squared"
            " weights) too"
        )


def _mass(mass: Array, templates: Array, edges: Array) -> Array:
    """Return the masses; where a bin is empty any mass will do, also none."""
    used = templates != 0 if mass.ndim == 2 else (templates != 0).any(0)
    wrong = used & ~(np.isfinite(mass) & (mass > 0))
    if wrong.any():
        bad = np.argwhere(wrong)
        raise InputError(
            f"template_mass: found {mass[tuple(bad[0])]:g} at {_at(bad[0])}, where templates has"
            " entries; expected the mean mass of the bin in GeV"
        )
    good = np.isfinite(mass) & (mass > 0)
    if mass.ndim == 2:
        counted = (good & used).sum(0)
        centre = np.where(good & used, mass, 0.0).sum(0) / np.maximum(counted, 1)
        centre = np.where(counted > 0, centre, 0.5 * (edges[0] + edges[-1]))
        filled = np.where(good & used, mass, centre)
    else:
        filled = np.where(good & used, mass, 0.5 * (edges[0] + edges[-1]))
    if used.any():
        low, high = float(mass[used].min()), float(mass[used].max())
        if low >= edges[-1] or high <= edges[0]:
            raise InputError(
                f"edges: the window [{edges[0]:g}, {edges[-1]:g}] is outside the template"
                f" [{low:g}, {high:g}] (template_mass, GeV); expected them to overlap"
            )
    return np.asarray(filled)


def _at(index: Any) -> str:
    return "(" + ", ".join(str(int(i)) for i in index) + ")"
