"""Fits of the categories of one resonance: the data and the reference, with the same template.

The reference has the background of the data put under it, so that both are fitted alike.

The template of a category is pooled: the generated mass of all categories in the same bins of pt
ratio and angle, whatever their eta. The noise of a template of its own would be taken for
information by the fit of the data (the width of a Z comes out wrong by several errors), while a
shape that is slightly that of others drops out between data and reference. What the generated
events of the category fluctuate is then in the fit of the reference, and in its error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.collect import MEANS
from calib.calibrations.momentum_scale.sums.grid import Grid
from calib.distributions import chi2_sf
from calib.events.histograms import Sums
from calib.fitting.kernel.problem import SLOPE_ERROR
from calib.fitting.kernel.result import CategoryFits
from calib.fitting.many import Background, fit_categories
from calib.fitting.scale.model import Means, sigma2
from calib.physics.constants import RESONANCES
from calib.results import Status
from calib.types import AnyArray, Array, BoolArray, IntArray

from .merging import groups, joined

WIDE = 0.1
"""GeV of natural width above which single categories hardly know their resolution."""

TOGETHER = 50
"""Categories whose reference knows it together."""


@dataclass(frozen=True)
class Source:
    """Where the categories of one resonance come from: sums of the data and of the reference.

    ``copies`` is how many entries of the reference share one generated event, 0 where those are
    the data's own.
    """

    sample: str
    grid: Grid
    data: Sums
    reference: Sums
    prefix: str
    copies: int
    made: str
    background: Background


@dataclass(frozen=True)
class Peaks:
    """Categories of one resonance after merging; arrays of shape (n, ...).

    ``log_mu, v`` and their ``covariance`` (n, 2, 2) are those of the data over the reference:
    ln(mu_data / mu_reference) and v_data - v_reference, v = (sigma/mu)^2. ``reference_*`` are of
    the reference alone. ``status`` says which may be used.
    """

    source: Source
    group: IntArray
    first: IntArray
    n_events: Array
    counts: Array
    variance: Array | None
    templates: Array
    template_mass: Array
    means: Means
    background: Background
    usual_slope: float
    data: CategoryFits
    reference: CategoryFits | None
    reference_log_mu: Array
    reference_v: Array
    reference_covariance: Array
    log_mu: Array
    v: Array
    covariance: Array
    status: AnyArray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def resonance(self) -> str:
        """Name of the resonance."""
        return self.source.grid.resonance

    @property
    def ok(self) -> BoolArray:
        """Which categories may be used."""
        return np.asarray(self.status == Status.OK.value)

    def names(self) -> list[str]:
        """Return the name of each: that of its first category."""
        names = self.source.grid.names()
        return [names[i] for i in self.first]

    def without(self, at: BoolArray, status: Status) -> Peaks:
        """Return the same with some categories marked.

        Parameters
        ----------
        at : bool array, shape (n,)
            Categories; only usable ones are marked.
        status : Status
            Why.

        Returns
        -------
        Peaks
            Of as many categories.
        """
        marked = self.status.copy()
        marked[at & self.ok] = status.value
        return replace(self, status=marked)


def sums_of(sums: Sums, name: str) -> tuple[Array, Array | None]:
    """Return sums of weights and of squared weights.

    Parameters
    ----------
    sums : mapping of str to array
        Of one sample.
    name : str
        Beginning of the names.

    Returns
    -------
    array
        Sums of weights.
    array or None
        Sums of squared weights; None where all weights are 1.
    """
    counts, sumw, sumw2 = (sums.get(f"{name}/{kind}") for kind in ("counts", "sumw", "sumw2"))
    if sumw is None or sumw2 is None:
        assert counts is not None
        return counts.astype(float), None
    if counts is None:
        return sumw, sumw2
    return counts + sumw, counts + sumw2


def template_mass(reference: Sums, prefix: str, edges: Array) -> Array:
    """Return the mean generated mass of each bin, its centre where it is empty.

    Parameters
    ----------
    reference : mapping of str to array
        Sums of the reference.
    prefix : str
        Beginning of the names.
    edges : array, shape (gen bins + 1,)
        In GeV.

    Returns
    -------
    array, shape (gen bins,)
        In GeV.
    """
    weight, total = reference[f"{prefix}/gen_weight"], reference[f"{prefix}/gen_mass"]
    centre = 0.5 * (edges[1:] + edges[:-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(weight > 0, total / weight, centre)
    return np.clip(mean, edges[:-1], edges[1:])


def resonance_peaks(
    source: Source,
    settings: Settings,
    a2: Array,
    c2: Array,
    halves: tuple[int, ...] = (0, 1),
    drop: frozenset[str] = frozenset(),
    group: IntArray | None = None,
) -> Peaks:
    """Merge, fit the data and the reference, and compare them.

    Parameters
    ----------
    source : Source
        Sums of the data and of the reference.
    settings : Settings
        ScaleGates and background.
    a2, c2 : array, shape (n_eta,)
        Resolution that the reference was made with.
    halves : tuple of int
        Halves of the data that take part.
    drop : set of str
        Names of categories left out by hand.
    group : int array, optional
        Merging to be used instead of its own.

    Returns
    -------
    Peaks
        Of the categories after merging.
    """
    grid, n_all = source.grid, len(source.grid)
    all_counts, all_variance = sums_of(source.data, "mass")
    rows = [slice(h * n_all, (h + 1) * n_all) for h in halves]

    def of_halves(values: Array) -> Array:
        return np.asarray(sum(values[r] for r in rows))

    counts = of_halves(all_counts)
    variance = None if all_variance is None else of_halves(all_variance)
    found, found_variance = sums_of(source.reference, f"{source.prefix}/mass")
    template, _ = sums_of(source.reference, f"{source.prefix}/template")
    if group is None:
        least = np.minimum(counts.sum(1), found.sum(1))
        group = groups(least, grid, settings.gates.merge_below)
    n = int(group.max()) + 1 if len(group) else 0
    first = np.full(n, n_all)
    np.minimum.at(first, group, np.arange(n_all))

    def together(values: Array | None) -> Array | None:
        return None if values is None else joined(values, group, n)

    template = joined(pooled(template, grid), group, n)
    counts, found = (joined(v, group, n) for v in (counts, found))
    variance, found_variance = (together(v) for v in (variance, found_variance))
    means = _means(source, of_halves, group, n, first, counts)
    mass = template_mass(source.reference, source.prefix, grid.gen_edges)

    def fit_data(usual_slope: float) -> CategoryFits:
        return fit_categories(
            counts,
            grid.mass_edges,
            template,
            mass,
            variance=variance,
            background=source.background,
            template_errors=False,
            usual_slope=usual_slope,
        )

    data, slope = fit_data(0.0), 0.0
    if source.background != "none":
        slope = common_slope(data)
        data = fit_data(slope)
    reference = None
    found, found_variance = with_background(found, found_variance, data, grid.mass_edges)
    if settings.reference:
        reference = fit_categories(
            found,
            grid.mass_edges,
            template,
            mass,
            variance=found_variance,
            background=source.background,
            usual_slope=slope,
            template_errors=source.copies > 1,
            template_variance=shared_variance(template, source.copies),
        )
    ref_log_mu, ref_v, ref_cov = _log_mu_and_v(reference, means, a2, c2)
    if RESONANCES[grid.resonance].width > WIDE and reference is not None:
        many = joint_groups(means, settings.n_eta, cells(grid)[first])
        together_fit = fit_categories(
            joined(found, many, many.max() + 1),
            grid.mass_edges,
            joined(template, many, many.max() + 1),
            mass,
            background=source.background,
            usual_slope=slope,
            template_errors=False,
        )
        ref_v = predicted_v(together_fit, many, sigma2(means, a2, c2), template.sum(1))
        ref_cov[:, 1, :] = ref_cov[:, :, 1] = 0.0
    log_mu, v, cov = _log_mu_and_v(data, means, a2, c2)
    names = grid.names()
    by_hand = np.array([names[i] in drop for i in first], dtype=bool)
    return Peaks(
        source,
        group,
        first,
        counts.sum(1),
        counts,
        variance,
        template,
        mass,
        means,
        source.background,
        slope,
        data,
        reference,
        ref_log_mu,
        ref_v,
        ref_cov,
        log_mu - ref_log_mu,
        v - ref_v,
        cov + ref_cov,
        _status(data, reference, counts, settings, by_hand),
    )


def pooled(template: Array, grid: Grid) -> Array:
    """Return templates of the shape that all categories of the same ratio and angle have.

    Parameters
    ----------
    template : array, shape (n, gen bins)
        Entries of each category.
    grid : Grid
        Of the categories.

    Returns
    -------
    array, shape (n, gen bins)
        With as many entries in each category.
    """
    cell = cells(grid)
    total = np.zeros((cell.max() + 1, template.shape[1]))
    np.add.at(total, cell, template)
    shape = total / np.maximum(total.sum(1, keepdims=True), 1e-300)
    return np.asarray(template.sum(1)[:, None] * shape[cell])


def cells(grid: Grid) -> IntArray:
    """Return the number of the bin in pt ratio and angle of each category."""
    _, _, ratio, angle = grid.bins()
    _, cell = np.unique(ratio * grid.full.shape[3] + angle, return_inverse=True)
    return np.asarray(cell, dtype=np.int64)


def joint_groups(means: Means, n_eta: int, cell: IntArray) -> IntArray:
    """Return groups of categories of the same cell and of like eta, the same in every pass.

    Parameters
    ----------
    means : Means
        Of n categories.
    n_eta : int
        Number of eta bins.
    cell : int array, shape (n,)
        Bin of pt ratio and angle.

    Returns
    -------
    int array, shape (n,)
        Numbers of the groups.
    """
    middle = 0.5 * (n_eta - 1)
    outward = np.abs(means.eta_plus - middle) + np.abs(means.eta_minus - middle)
    order = np.lexsort((outward, cell))
    begins = np.flatnonzero(np.diff(cell[order], prepend=-1))
    place = np.arange(len(cell)) - begins[np.cumsum(np.diff(cell[order], prepend=-1) != 0) - 1]
    _, numbered = np.unique(np.stack([cell[order], place // TOGETHER]), axis=1, return_inverse=True)
    group = np.empty(len(cell), dtype=np.int64)
    group[order] = numbered.ravel()
    return group


def predicted_v(fits: CategoryFits, group: IntArray, predicted: Array, entries: Array) -> Array:
    """Return v of the reference as what it was smeared with, times one factor a group.

    The natural width hides the resolution of a Z: a few hundred events do not know it, though
    what they were smeared with is known. The factor is what cuts and the shape of the peak do;
    it comes from fits of many entries.

    Parameters
    ----------
    fits : CategoryFits
        Of the groups.
    group : int array, shape (categories,)
        Group of each category.
    predicted : array, shape (categories,)
        (sigma/m)^2 that it was smeared with.
    entries : array, shape (categories,)
        Of the reference.

    Returns
    -------
    array, shape (categories,)
        (sigma/mu)^2.
    """
    n = len(fits)
    weight = np.bincount(group, entries, minlength=n)
    mean = np.bincount(group, entries * predicted, minlength=n) / np.maximum(weight, 1e-300)
    v = (fits.sigma / fits.mu) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(fits.ok & (mean > 0), v / mean, 1.0)
    return np.asarray(np.clip(factor, 0.5, 2.0)[group] * predicted)


def with_background(
    made: Array, variance: Array | None, fits: CategoryFits, edges: Array
) -> tuple[Array, Array | None]:
    """Return the reference with the background of the data under it, and its variance.

    So both are fitted with the same model, and what the fit does to a peak on a background it
    does to both. The background is what is expected, without noise; its variance is counted as if
    it had some, which makes the errors of the reference larger by a per cent.

    Parameters
    ----------
    made : array, shape (n, bins)
        Entries of the reference.
    variance : array, shape (n, bins), optional
        Sums of squared weights.
    fits : CategoryFits
        Of the data.
    edges : array, shape (bins + 1,)
        GeV.

    Returns
    -------
    array, shape (n, bins)
        Entries.
    array, shape (n, bins), or None
        Sums of squared weights; None where all weights are 1.
    """
    t = (0.5 * (edges[1:] + edges[:-1]) - edges[0]) / (edges[-1] - edges[0])
    slope, curvature = np.nan_to_num(fits.slope), np.nan_to_num(fits.curvature)
    shape = np.exp(-slope[:, None] * t - curvature[:, None] * t**2) * np.diff(edges)
    share = np.nan_to_num(np.clip(fits.background, 0.0, 0.9))
    size = np.maximum(made.sum(1), 0.0) * share / (1 - share)
    under = size[:, None] * shape / shape.sum(1, keepdims=True)
    if variance is not None:
        weight = variance.sum(1) / np.where(made.sum(1) > 0, made.sum(1), 1.0)
        variance = variance + np.maximum(weight, 0.0)[:, None] * under
    return made + under, variance


def shared_variance(template: Array, copies: int) -> Array:
    """Return what the copies of an event share, as a variance of the bins of generated mass.

    The error of a fit counts entries as independent. Copies of an event are smeared anew, but
    have one generated mass: with s copies of weight w the variance of its bin is (s w)^2, of
    which s w^2 is counted already. The rest is that of a template with this variance.

    Parameters
    ----------
    template : array, shape (n, gen bins)
        Entries.
    copies : int
        Of an event; 0 where the data are the reference's own events.

    Returns
    -------
    array, shape (n, gen bins)
        Entries squared.
    """
    return np.asarray(max(copies - 1, 0) * np.maximum(template, 0.0))


def common_slope(fits: CategoryFits) -> float:
    """Return the slope of the background that all categories have in common.

    The weighted mean, with what the constraint about 0 has added to each taken out. A category
    that does not know its slope would otherwise have 0, and its mass be wrong by the asymmetry
    of the background that is left.
    """
    known = fits.ok & (fits.background > 0) & (fits.slope_err > 0)
    weight = 1 / fits.slope_err[known] ** 2
    own = weight.sum() - known.sum() / SLOPE_ERROR**2
    if not own > 0.1:
        return 0.0
    return float(np.clip((weight * fits.slope[known]).sum() / own, -10, 10))


def _means(
    source: Source, of_halves: object, group: IntArray, n: int, first: IntArray, counts: Array
) -> Means:
    total = np.maximum(counts.sum(1), 1e-300)
    column = {
        name: joined(of_halves(source.data[f"mean/{name}"]), group, n) / total  # type: ignore[operator]
        for name in MEANS
    }
    plus, minus, _, _ = source.grid.bins()
    return Means(
        plus[first],
        minus[first],
        column["k_plus"],
        column["k_minus"],
        column["pt_plus"],
        column["pt_minus"],
        column["pt2_plus"],
        column["pt2_minus"],
    )


def _log_mu_and_v(
    fits: CategoryFits | None, means: Means, a2: Array, c2: Array
) -> tuple[Array, Array, Array]:
    """Return ln mu, (sigma/mu)^2 and their covariance; without a fit what the model says."""
    n = len(means)
    if fits is None:
        return np.zeros(n), sigma2(means, a2, c2), np.zeros((n, 2, 2))
    s = fits.sigma / fits.mu
    jacobian = np.zeros((n, 2, 2))
    jacobian[:, 0, 0] = 1 / fits.mu
    jacobian[:, 1, 0], jacobian[:, 1, 1] = -2 * s * s / fits.mu, 2 * s / fits.mu
    covariance = jacobian @ fits.covariance[:, :2, :2] @ jacobian.transpose(0, 2, 1)
    return np.log(fits.mu), s * s, covariance


def sound(fits: CategoryFits) -> BoolArray:
    """Return whose mu and sigma may be used: a background at its limit leaves them sound."""
    at_background = (fits.status == Status.AT_LIMIT.value) & ~fits.at_limit[:, :2].any(1)
    return np.asarray(fits.ok | at_background)


def _status(
    data: CategoryFits,
    reference: CategoryFits | None,
    counts: Array,
    settings: Settings,
    by_hand: BoolArray,
) -> AnyArray:
    """Return the status of each category; the first gate that fails names it."""
    gates = settings.gates
    status = data.status.copy()
    status[sound(data)] = Status.OK.value
    if reference is not None:
        status[(status == Status.OK.value) & ~sound(reference)] = Status.NO_TEMPLATE.value
    p = chi2_sf(np.nan_to_num(data.chi2), np.maximum(data.ndf, 1))
    bad = (data.ndf > 0) & (p < gates.chi2_probability)
    status[(status == Status.OK.value) & bad] = Status.BAD_CHI2.value
    status[counts.sum(1) < gates.min_events] = Status.TOO_FEW_EVENTS.value
    status[by_hand & (status == Status.OK.value)] = Status.LEFT_OUT.value
    return np.asarray(status)
