"""An audit of any correction: what is left of it in scale and width, data against simulation.

Not a calibration to be published but one that measures residuals: the correction is applied to the
events before (key ``payloads``, or a branch of the file as the pt), and the mass of data and of
simulation is fitted with the same generated shape in bins of eta, phi and pt of the muon of each
charge, of the ratio of both pt, and of run. A right correction leaves 0 everywhere. In simulation,
what is left of both muons of a pair (pt over generated pt) must not hang together: it does where
both were smeared by the same random number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from calib.calibrations.base import Calibration, Needs
from calib.calibrations.capabilities import Closes, Edits
from calib.calibrations.momentum_scale.settings import Settings as ScaleSettings
from calib.calibrations.momentum_scale.sums.grid import WIDE, gen_edges
from calib.distributions import chi2_sf
from calib.edits import require_none
from calib.errors import InputError
from calib.events.histograms import Fill, Sums, add
from calib.events.pairs import Pairs
from calib.fitting.many import fit_categories
from calib.payload import nodes
from calib.physics.constants import LABELS, RESONANCES
from calib.results import MAIN, Check, Closure, Pass, Reduction, Section, Status
from calib.schema import Positive, Probability, Sample, Strict
from calib.types import AnyArray, Array, BoolArray, IntArray

QUANTITIES = ("scale", "width")
LEAST_PT = {"jpsi": 4.0, "upsilon": 4.0, "z": 26.0}
"""GeV, of both muons: those of a Z that files of others leave alone are not looked at."""

PT = {
    "jpsi": (4.0, 6.0, 8.0, 12.0, 200.0),
    "upsilon": (4.0, 6.0, 8.0, 12.0, 200.0),
    "z": (26.0, 34.0, 40.0, 44.0, 48.0, 56.0, 200.0),
}
ETA = tuple(float(x) for x in np.round(np.linspace(-2.4, 2.4, 13), 10))
PHI = tuple(float(x) for x in np.linspace(-np.pi, np.pi, 9))
RATIO = (-3.0, -0.3, -0.1, 0.1, 0.3, 3.0)
"""log(pt plus / pt minus): a shift that is odd in the charge changes with it."""

RUN = "run_"
RUNS = 8
"""Groups of consecutive runs, at most."""

TOGETHER = "together"
"""Sums over simulated pairs: weights, then x, y, x^2, y^2, x y of both muons' residuals."""

LARGE = 0.1
"""Residual of a muon that is not counted there."""


class AuditSettings(Strict):
    """Settings of an audit."""

    scale_tolerance: Positive = Field(
        default=1e-4, description="of the scale, beside its error in each bin"
    )
    width_tolerance: Positive = Field(
        default=0.01, description="of the width, relative, beside its error in each bin"
    )
    probability: Probability = Field(default=1e-4, description="least, of the residuals of an axis")
    min_events: int = Field(default=500, ge=10, description="of data and simulation in a bin")
    correlation: Positive = Field(
        default=0.05, description="most, of the residuals of both simulated muons of a pair"
    )


class Audit(Calibration, Closes):
    """See the module."""

    name: ClassVar[str] = "audit"
    Settings: ClassVar[type[BaseModel]] = AuditSettings
    payload_names: ClassVar[tuple[str, ...]] = ("audit_residual",)
    resonances: ClassVar[tuple[str, ...]] = ("jpsi", "upsilon", "z")
    reduction_only: ClassVar[tuple[str, ...]] = tuple(AuditSettings.model_fields)
    settings: AuditSettings

    def check(self) -> None:
        """Refuse data without simulation of the same resonance, and the other way round."""
        super().check()
        for r in {s.resonance for s in self.samples}:
            kinds = {s.simulation for s in self.samples if s.resonance == r}
            if len(kinds) < 2:
                missing = "data" if True in kinds else "simulation"
                raise InputError(
                    f"key 'samples': an audit compares data with simulation, but there is no"
                    f" {missing} of {r!r}; add a sample of it"
                )

    def needs(self, sample: Sample) -> Needs:
        """Return no columns beyond the kinematics."""
        return Needs()

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return cuts on the corrected muons."""
        low, high = _own(sample.resonance).window
        return {
            "leading_pt": LEAST_PT[sample.resonance],
            "subleading_pt": LEAST_PT[sample.resonance],
            "abs_eta": ETA[-1],
            "mass_window": (low * (1 - WIDE), high * (1 + WIDE)),
        }

    # event loop ----------------------------------------------------------------------------------
    def rejects(self, pairs: Pairs, sample: Sample) -> Mapping[str, BoolArray]:
        """Return pairs of the same charge.

        Parameters
        ----------
        pairs : Pairs, length n
        sample : Sample

        Returns
        -------
        mapping of str to bool array, shape (n,)
            ``same_charge``.
        """
        return {"same_charge": pairs.leading.charge == pairs.subleading.charge}

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return masses in all bins; of simulation the generated ones and both residuals.

        Parameters
        ----------
        pairs : Pairs
        sample : Sample
        walk : Pass

        Returns
        -------
        dict of str to Fill or array
            ``mass``, of simulation ``generated`` as well (GeV).

        Raises
        ------
        InputError
            If simulated pairs have no generated mass.
        """
        own, bins = _own(sample.resonance), places(pairs, sample.resonance)
        n, times = len(labels(sample.resonance)), len(bins)
        category, weight = np.concatenate(bins), np.tile(pairs.weight, times)

        def filled(value: Array, edges: Array) -> Fill:
            return Fill(category, n, np.tile(value, times), edges, weight)

        found: dict[str, Fill | AnyArray] = {"mass": filled(pairs.mass, own.mass_edges)}
        if not sample.simulation:
            for run in np.unique(pairs.run):
                at = np.flatnonzero(pairs.run == run)
                zero = np.zeros(len(at), dtype=np.int64)
                found[f"{RUN}{run}"] = Fill(
                    zero, 1, pairs.mass[at], own.mass_edges, pairs.weight[at]
                )
            return found
        if pairs.gen_mass is None:
            raise InputError(
                f"sample {sample.name}: simulation without generated muons or their mass, which an"
                " audit needs; add them"
            )
        found["generated"] = filled(pairs.gen_mass, _gen_edges(sample.resonance))
        found[TOGETHER] = together(pairs)
        return found

    # reduction ---------------------------------------------------------------------------------
    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit data and simulation in every bin, and compare.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
        edits : mapping
            Nothing can be set.
        walk : Pass

        Returns
        -------
        Reduction
            Table ``residuals``, relative.

        Raises
        ------
        InputError
            If there are edits.
        """
        require_none(edits, "an audit")
        tables, fits, checks = [], [], []
        for r in [r for r in self.resonances if any(s.resonance == r for s in self.samples)]:
            kinds = {
                kind: add(
                    sums[s.name]
                    for s in self.samples
                    if s.resonance == r and s.simulation is (kind == "simulation")
                )
                for kind in ("data", "simulation")
            }
            table, of_data = residuals(r, kinds["data"], kinds["simulation"], self.settings)
            tables.append(table)
            fits.append(of_data)
            checks += judged(r, table, self.settings)
            checks.append(not_together(r, kinds["simulation"][TOGETHER], self.settings))
        found = pd.concat(tables, ignore_index=True)
        return Reduction(
            pd.concat(fits, ignore_index=True), {"residuals": found}, checks=tuple(checks)
        )

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Return the residuals as a closure: 0 is expected everywhere.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
            Not looked at.
        reduction : Reduction
            With the table ``residuals``.

        Returns
        -------
        Closure
            One row for each bin and quantity.
        """
        table = reduction.tables["residuals"]
        parts = ("resonance", "axis", "kind", "bin", "quantity")
        names = [" ".join(str(row[p]) for p in parts) for _, row in table.iterrows()]
        return Closure.of(names, 0.0, table["value"], table["error"])

    # out -----------------------------------------------------------------------------------------
    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the residuals; they correct nothing."""
        table = reduction.tables["residuals"]
        table = table[(table["axis"] == "all") & np.isfinite(table["value"])]
        values = {f"{r.resonance} {r.quantity}": float(r.value) for r in table.itertuples()}
        words = "What a correction has left, data over simulation - 1, of all events"
        return nodes.of_measured(self.payload_names[0], words, values, "residual", "An audit")

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return the residuals as tables and figures.

        Parameters
        ----------
        reduction : Reduction
        closure : Closure or None
        earlier : mapping, optional
            Not looked at.

        Returns
        -------
        sequence of Section
            One.
        """
        from calib.plots.residuals import against_axes

        table = reduction.tables["residuals"]
        figures = {
            f"residuals_{r}_{quantity}": against_axes(of_both, quantity)
            for (r, quantity), of_both in table.groupby(["resonance", "quantity"], sort=False)
        }
        text = (
            "What the correction has left: scale and width of the mass, data over simulation - 1,"
            " in bins of the muon of each charge. 0 is right; errors are statistical."
        )
        return (
            Section("What is left", text, {"all events": table[table["axis"] == "all"]}, figures),
        )


# bins -----------------------------------------------------------------------------------------
def _own(resonance: str) -> Any:
    return ScaleSettings().of(resonance)


def _gen_edges(resonance: str) -> Array:
    own = RESONANCES[resonance]
    return gen_edges(_own(resonance), own.masses, own.width)


def _axes(resonance: str) -> list[tuple[str, str, tuple[float, ...]]]:
    """Return axis, charge (or pair) and edges, in the order of the rows; first all events."""
    found: list[tuple[str, str, tuple[float, ...]]] = [("all", "pair", (0.0, 1.0))]
    for axis, edges in (("eta", ETA), ("phi", PHI), ("pt", PT[resonance])):
        found += [(axis, charge, edges) for charge in ("plus", "minus")]
    return [*found, ("pt_ratio", "pair", RATIO)]


def labels(resonance: str) -> list[tuple[str, str, str]]:
    """Return axis, charge and bin of each row."""
    return [
        (axis, charge, "" if axis == "all" else f"{low:.4g} {high:.4g}")
        for axis, charge, edges in _axes(resonance)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]


def places(pairs: Pairs, resonance: str) -> list[IntArray]:
    """Return the row of each pair on each axis, -1 outside.

    Parameters
    ----------
    pairs : Pairs, length n
        GeV.
    resonance : str
        ``jpsi``, ``upsilon`` or ``z``.

    Returns
    -------
    list of int array, shape (n,)
        One of each axis.
    """
    plus, minus = pairs.plus, pairs.minus
    values = [np.zeros(len(pairs))]
    values += [
        x for name in ("eta", "phi", "pt") for x in (getattr(plus, name), getattr(minus, name))
    ]
    values.append(np.log(plus.pt / minus.pt))
    found, start = [], 0
    for (_, _, edges), value in zip(_axes(resonance), values, strict=True):
        at = np.searchsorted(np.asarray(edges), value, side="right") - 1
        found.append(np.where((at >= 0) & (at < len(edges) - 1), at + start, -1))
        start += len(edges) - 1
    return found


def together(pairs: Pairs) -> Array:
    """Return the sums of `TOGETHER` over simulated pairs."""
    if pairs.leading.gen_pt is None or pairs.subleading.gen_pt is None:
        return np.zeros(7)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (m.pt / m.gen_pt - 1 for m in (pairs.leading, pairs.subleading))  # type: ignore[operator]
        good = (np.abs(x) < LARGE) & (np.abs(y) < LARGE)
    x, y, w = x[good], y[good], pairs.weight[good]
    return np.array([(w * v).sum() for v in (1 + 0 * x, x, y, x * x, y * y, x * y, w)])


# what is left ------------------------------------------------------------------------------------
def residuals(
    resonance: str, data: Sums, simulation: Sums, settings: AuditSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what is left in each bin, and the fits of the data.

    Parameters
    ----------
    resonance : str
    data, simulation : Sums
    settings : AuditSettings

    Returns
    -------
    residuals : DataFrame
        ``resonance, kind, axis, bin, quantity, value, error, pull, status``.
    fits : DataFrame
    """
    rows, run_rows = labels(resonance), _runs(data)
    own, edges = _own(resonance), _gen_edges(resonance)
    template = simulation["generated/sumw"]
    many = np.concatenate([np.arange(len(rows)), np.zeros(len(run_rows), dtype=np.int64)])

    def counts(kind: str) -> Array:
        more = [sum(data[f"{name}/{kind}"] for name in names) for _, names in run_rows]
        return np.concatenate([data[f"mass/{kind}"], *more]) if more else data[f"mass/{kind}"]

    centre = 0.5 * (edges[1:] + edges[:-1])
    seen, made = counts("sumw"), simulation["mass/sumw"]
    of_data = fit_categories(seen, own.mass_edges, template[many], centre, variance=counts("sumw2"))
    of_simulation = fit_categories(
        made,
        own.mass_edges,
        template,
        centre,
        variance=simulation["mass/sumw2"],
        background="none",
        template_errors=False,
    )
    enough = (seen.sum(1) >= settings.min_events) & (made.sum(1)[many] >= settings.min_events)
    good = of_data.ok & of_simulation.ok[many] & enough
    status = np.where(enough, np.where(good, "ok", Status.FIT_FAILED.value), "too_few_events")
    rows = [*rows, *(("run", "pair", name) for name, _ in run_rows)]
    found = []
    for quantity in QUANTITIES:
        name = "mu" if quantity == "scale" else "sigma"
        one, other = getattr(of_data, name), getattr(of_simulation, name)[many]
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.where(good, one / other - 1, np.nan)
            error = (1 + value) * np.hypot(
                getattr(of_data, f"{name}_err") / one,
                getattr(of_simulation, f"{name}_err")[many] / other,
            )
        for (axis, kind, label), v, e, s in zip(rows, value, error, status, strict=True):
            found.append((resonance, kind, axis, label, quantity, v, e, v / e, s))
    columns = ["resonance", "kind", "axis", "bin", "quantity", "value", "error", "pull", "status"]
    fits = pd.DataFrame(
        {
            "sample": resonance,
            "category": [" ".join(x for x in row if x) for row in rows],
            "n_events": of_data.n_events,
            "mu": of_data.mu,
            "mu_err": of_data.mu_err,
            "sigma": of_data.sigma,
            "sigma_err": of_data.sigma_err,
            "chi2": of_data.chi2,
            "ndf": of_data.ndf,
            "status": of_data.status,
        }
    )
    return pd.DataFrame(found, columns=columns), fits


def _runs(data: Sums) -> list[tuple[str, list[str]]]:
    """Return groups of consecutive runs of about the same number of events, none where one."""
    names = sorted(
        {name.partition("/")[0] for name in data if name.startswith(RUN)},
        key=lambda name: int(name.removeprefix(RUN)),
    )
    if len(names) < 2:
        return []
    n = np.array([data[f"{name}/sumw"].sum() for name in names])
    group = np.minimum(
        (RUNS * (np.cumsum(n) - 0.5 * n) / max(n.sum(), 1e-300)).astype(int), RUNS - 1
    )
    found = []
    for g in np.unique(group):
        own = [name for name, at in zip(names, group, strict=True) if at == g]
        ends = [name.removeprefix(RUN) for name in (own[0], own[-1])]
        found.append((" ".join(dict.fromkeys(ends)), own))
    return found


# the verdict -------------------------------------------------------------------------------------
def judged(resonance: str, table: pd.DataFrame, settings: AuditSettings) -> list[Check]:
    """Return a check of each axis and quantity: the chi2 of what is left.

    Parameters
    ----------
    resonance : str
        In the names of the checks.
    table : DataFrame
        As `residuals` gives it.
    settings : AuditSettings
        Tolerances.

    Returns
    -------
    list of Check
        Probabilities.
    """
    found = []
    for (quantity, axis), own in table.groupby(["quantity", "axis"], sort=False):
        tolerance = getattr(settings, f"{quantity}_tolerance")
        good = own[own["status"] == "ok"]
        name = f"{resonance}_{quantity}_{axis}"
        of = "all events" if axis == "all" else f"in {axis.replace('_', ' ')}"
        title = f"{LABELS[resonance]} {quantity}, {of}"
        if good.empty:
            text = f"no bin of {axis} has enough events of data and simulation to be tested"
            found.append(
                Check(
                    name,
                    float("nan"),
                    settings.probability,
                    axis != "all",
                    text,
                    ">=",
                    title,
                    "take more events of data and of simulation",
                )
            )
            continue
        value, error = good["value"].to_numpy(), np.hypot(good["error"], tolerance).to_numpy()
        probability = float(chi2_sf(float(((value / error) ** 2).sum()), len(good)))
        i = int(np.argmax(np.abs(value / error)))
        worst = good.iloc[i]
        text = (
            f"{quantity} of data over simulation - 1, p-value of {len(good)} bins; the worst:"
            f" {value[i]:+.2e} ± {worst['error']:.1e} in {worst['kind']} {worst['bin']}"
        ).rstrip()
        found.append(
            Check.at_least(
                name,
                probability,
                settings.probability,
                text,
                title=title,
                advice=f"look for {_suspect(quantity, axis, value[i])}",
            )
        )
    return found


def _suspect(quantity: str, axis: str, value: float) -> str:
    """Return what such a residual is known from."""
    if quantity == "width":
        if value > 0:
            return "data that were smeared, or a simulation that was not: the data are wider"
        return "a simulation smeared twice, or both muons alike: it is wider than the data"
    if axis == "pt_ratio":
        return "a shift that is odd in the charge: its sign, or a file of another campaign"
    return "a file of another campaign, one that was applied twice, or the other sign of the charge"


def not_together(resonance: str, sums: AnyArray, settings: AuditSettings) -> Check:
    """Return whether what is left of both muons of simulated pairs is independent.

    Parameters
    ----------
    resonance : str
        In the name of the check.
    sums : array, shape (7,)
        See `TOGETHER`.
    settings : AuditSettings
        Largest correlation.

    Returns
    -------
    Check
        The correlation.
    """
    w, x, y, xx, yy, xy, w2 = (float(v) for v in sums)
    name = f"{resonance}_muons_independent"
    title = f"{LABELS[resonance]} muons smeared independently"
    if not (w > 0 and xx > 0 and yy > 0):
        text = "simulation without generated muons: not tested"
        return Check(name, float("nan"), settings.correlation, True, text, "<=", title)
    variance = (xx / w - (x / w) ** 2) * (yy / w - (y / w) ** 2)
    value = (xy / w - x * y / w**2) / np.sqrt(max(variance, 1e-300))
    limit = settings.correlation + 4 * np.sqrt(w2) / w
    return Check.at_most(
        name,
        abs(value),
        limit,
        "correlation of pt over generated pt between the muons of simulated pairs",
        title=title,
        advice="smear the two muons with different random numbers: both had the same",
    )
