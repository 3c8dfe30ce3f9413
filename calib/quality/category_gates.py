"""What a category must pass before its own value is published; what it falls back on.

One mechanism for all calibrations: a calibration gives numbers and neighbours, the gate gives a
status. The order is that of severity; the first gate that fails names the status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.distributions import chi2_sf
from calib.results import Status


@dataclass(frozen=True)
class GateLimits:
    """Thresholds of the gates."""

    min_events: float
    relative_error: float
    chi2_probability: float
    neighbours: float
    neighbour_spread: float
    value_range: tuple[float, float]


@dataclass(frozen=True)
class CategoryValue:
    """A category's own value, as its fit gave it. ``value`` is NaN where there is none."""

    name: str
    n_events: float
    value: float
    error: float
    chi2: float
    ndf: int
    fit: Status
    at_limit: bool


def probability(chi2: float, ndf: int) -> float:
    """Return the probability of a chi2 at least as large (1 without degrees of freedom).

    Parameters
    ----------
    chi2 : float
        Of a fit.
    ndf : int
        Its degrees of freedom.

    Returns
    -------
    float
        From 0 to 1.
    """
    return float(chi2_sf(chi2, ndf)) if ndf > 0 else 1.0


def own_status(candidate: CategoryValue, limits: GateLimits) -> tuple[Status, str]:
    """Return the status of a category by itself, and the sentence that explains it.

    Parameters
    ----------
    candidate : CategoryValue
        Its value and fit.
    limits : GateLimits
        Thresholds of the gates.

    Returns
    -------
    Status
        That of the first gate that fails, else ``ok``.
    str
        What was found and what is needed; empty for ``ok``.
    """
    c = candidate
    if c.n_events < limits.min_events:
        return Status.TOO_FEW_EVENTS, (
            f"category {c.name}: {c.n_events:.0f} events, {limits.min_events:.0f} needed"
        )
    if c.fit is not Status.OK:
        return c.fit, f"category {c.name}: the fit ended as {c.fit.value}"
    if not (np.isfinite(c.value) and np.isfinite(c.error) and c.error > 0):
        return Status.NOT_POSITIVE_DEFINITE, f"category {c.name}: no finite value with an error"
    if c.at_limit:
        return Status.AT_LIMIT, f"category {c.name}: a parameter is at its limit"
    if c.error > limits.relative_error * abs(c.value):
        return Status.TOO_FEW_EVENTS, (
            f"category {c.name}: {c.n_events:.0f} events give an uncertainty of"
            f" {100 * c.error / abs(c.value):.0f} %, at most {100 * limits.relative_error:.0f} %"
        )
    p = probability(c.chi2, c.ndf)
    if p < limits.chi2_probability:
        return Status.BAD_CHI2, (
            f"category {c.name}: chi2/ndf {c.chi2:.1f}/{c.ndf}, probability {p:.1e},"
            f" at least {limits.chi2_probability:.0e} needed"
        )
    low, high = limits.value_range
    if not low <= c.value <= high:
        return Status.OUT_OF_RANGE, (
            f"category {c.name}: value {c.value:.4g} outside [{low:g}, {high:g}]"
        )
    return Status.OK, ""


def neighbour_status(
    candidate: CategoryValue, neighbours: Sequence[CategoryValue], limits: GateLimits
) -> tuple[Status, str]:
    """Return ``off_neighbours`` where a value is too far from the median of its neighbours.

    The median, since a neighbour may be wrong itself; the distance is measured in the errors of
    both, and the spread that true values have among neighbours.

    Parameters
    ----------
    candidate : CategoryValue
        The category.
    neighbours : sequence of CategoryValue
        Those without a finite value do not count; with fewer than two it passes.
    limits : GateLimits
        Thresholds of the gates.

    Returns
    -------
    Status
        ``off_neighbours`` or ``ok``.
    str
        What was found and what is allowed; empty for ``ok``.
    """
    values = np.array([n.value for n in neighbours if np.isfinite(n.value)])
    errors = np.array([n.error for n in neighbours if np.isfinite(n.value)])
    if len(values) < 2:
        return Status.OK, ""
    median = float(np.median(values))
    median_error = 1.2533 * float(np.median(errors)) / np.sqrt(len(values))
    sigma = float(
        np.sqrt(candidate.error**2 + median_error**2 + (limits.neighbour_spread * median) ** 2)
    )
    pull = (candidate.value - median) / sigma
    if abs(pull) >= limits.neighbours:
        return Status.OFF_NEIGHBOURS, (
            f"category {candidate.name}: value {candidate.value:.4g} is {abs(pull):.1f} standard"
            f" deviations from the {median:.4g} of its neighbours, at most {limits.neighbours:g}"
        )
    return Status.OK, ""


def judge(
    candidates: Sequence[CategoryValue], neighbours: Sequence[Sequence[int]], limits: GateLimits
) -> list[tuple[Status, str]]:
    """Return status and sentence of each category.

    Parameters
    ----------
    candidates : sequence of CategoryValue
        All categories.
    neighbours : sequence of sequences of int
        Indices of the neighbours of each. Only those that pass by themselves are compared with,
        if at least two do.
    limits : GateLimits
        Thresholds of the gates.

    Returns
    -------
    list of (Status, str)
        One of each candidate.
    """
    own = [own_status(c, limits) for c in candidates]
    found: list[tuple[Status, str]] = []
    for i, (status, text) in enumerate(own):
        if status is not Status.OK:
            found.append((status, text))
            continue
        good = [candidates[j] for j in neighbours[i] if own[j][0] is Status.OK]
        found.append(neighbour_status(candidates[i], good, limits))
    return found
