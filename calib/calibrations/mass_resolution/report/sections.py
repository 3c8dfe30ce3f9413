"""The report's sections of the mass resolution: factors, what moved, the models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib.calibrations.mass_resolution import payload as payloads
from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import REFERENCE_PT
from calib.events.categories import Categories
from calib.later import pandas as pd
from calib.results import Closure, Reduction, Section, Status

MODEL_TEXTS = {
    "embedded": (
        "Made with the embedded model: the events under the peak get a new mass from the line"
        " shape, final-state radiation and the measured resolution, and pass the same cuts and"
        " categories as the data. So the shape of a category carries its own selection."
    ),
    "simulation": (
        "Made with the simulation model: the simulated events of each category with their"
        " residuals stretched until they describe the data; cuts and categories are applied"
        " after the stretching."
    ),
    "kernel": (
        "Made with the kernel model: the generated mass of the events of each category with a"
        " Gaussian relative in mass. The generated shape carries the selection, the Gaussian does"
        " not: categories that cut on the pt of the muons at the peak are biased."
    ),
    "breit_wigner": (
        "Made with the Breit-Wigner model, which knows nothing of the selection: it is wrong"
        " where a cut on the leading pt carves the mass peak. Use it for comparison only."
    ),
}


def sections(
    reduction: Reduction,
    closure: Closure | None,
    earlier: Mapping[str, Any] | None,
    settings: Settings,
    categories: Categories,
) -> Sequence[Section]:
    """Return the sections."""
    found = [_factors(reduction, settings, categories)]
    if "muons" in reduction.state:
        found.append(_muons(reduction, settings))
    if len(reduction.tables.get("line_shape", ())):
        found.append(_line_shape(reduction.tables["line_shape"]))
    if closure is not None and "factors" in closure.table:
        found.append(_inside_rings(closure.table, settings))
    if earlier is not None:
        found.append(_moved(reduction, earlier, settings, categories))
    found.append(_models(reduction, categories))
    return found


def _factors(reduction: Reduction, settings: Settings, categories: Categories) -> Section:
    from calib.plots.category_maps import category_map

    table = reduction.tables["factors"]
    statuses = table["status"].to_list()
    model = str(reduction.state["model"])
    text = (
        f"{MODEL_TEXTS[model]} The factor is the fitted sigma (half of the central 68.27 % of"
        " m - m_gen at the fit) over the median of the predicted resolution; multiply a"
        " predicted mass resolution by it. A category with few events leans on what all have in"
        " common, its rings' factors and a slope in the leading pt (the table rings), and its"
        " error says by how much categories scatter around that; one without a fit of its own has"
        " the value of its rings."
    )
    counts = table["status"].value_counts()
    text += " Categories: " + ", ".join(f"{n} {word}" for word, n in counts.items()) + "."
    figure = category_map(
        table["factor"].to_numpy(dtype=float),
        table["factor_err"].to_numpy(dtype=float),
        statuses,
        categories,
        label="factor",
    )
    shown = table[
        [
            "category",
            "n_events",
            "sigma_fit",
            "sigma_fit_err",
            "median_predicted",
            "factor",
            "factor_err",
            "chi2",
            "ndf",
            "status",
            "own_status",
            "held_at",
            "edited",
        ]
    ]
    rings = reduction.tables["rings"].rename(columns={"error": "value_err"})
    tables = {"factors": shown, "rings": rings}
    return Section("Factors", text, tables, {"factors": figure})


def _muons(reduction: Reduction, settings: Settings) -> Section:
    """Return the factors on ptErr of single muons, beside what the rings' imply."""
    from .muon_figures import muon_figure

    found = payloads.muon_factors_of(reduction, settings)
    assert found is not None
    n, edges = len(found), found.eta_edges
    at = np.full(n, REFERENCE_PT)
    middle = 0.5 * (edges[1:] + edges[:-1])
    values, errors = found.at(at, middle), found.error(at, middle)
    powers, power_errors = found.values[n:], np.sqrt(np.diag(found.covariance)[n:])
    table = pd.DataFrame(
        {
            "abs_eta_low": edges[:-1],
            "abs_eta_high": edges[1:],
            "factor": values,
            "factor_err": errors,
            "power_of_pt": powers[found.ring_of],
            "power_of_pt_err": power_errors[found.ring_of],
            "status": [status.value for status in found.status()],
        }
    )
    used = settings.apply == "muon"
    text = (
        f"A factor on ptErr of each muon, in fine bins of |eta|: F(45 GeV) (pt / 45 GeV)^b, with"
        " one power b in each ring. A resolution that changes inside a ring is in these and"
        " cannot be in the factors of pairs of rings, which are drawn beside them as what they"
        " mean for the muons of a ring."
        f" What calib apply uses are {'these' if used else 'the factors of categories'}"
        f" (settings.apply: {settings.apply})."
    )
    figure = muon_figure(found, reduction.tables["rings"], settings)
    return Section("Factors of muons", text, {"muon_factors": table}, {"muon_factors": figure})


def _line_shape(table: pd.DataFrame) -> Section:
    from .muon_figures import line_figure

    text = (
        "How much of each variation of the line shape the data ask for, in the whole window: 0 is"
        " the shape of the templates, 1 all of the variation, and what was known before is 0 ± 1."
        " The factors are corrected by the effect, and what is not known of it is in their"
        " uncertainties (syst_...)."
    )
    shown = table.drop(columns="prior", errors="ignore").rename(columns={"error": "value_err"})
    return Section("Line shape", text, {"line_shape": shown}, {"line_shape": line_figure(table)})


def _inside_rings(table: pd.DataFrame, settings: Settings) -> Section:
    """Return the closure in fine |eta| of both muons, for both kinds of factors."""
    from .muon_figures import closure_map

    figures = {"closure_abs_eta": closure_map(table, settings)}
    used = "muons" if settings.apply == "muon" else "categories"
    text = (
        "Fitted over expected resolution in fine bins of |eta| of both muons, mean of both halves"
        " by their errors: with the factors of categories, and with those of muons. Where the"
        " resolution changes inside a ring the first is off and the second is not. The verdict is"
        f" on the factors of {used}."
    )
    return Section("Resolution inside the rings", text, {}, figures)


def _moved(
    reduction: Reduction, earlier: Mapping[str, Any], settings: Settings, categories: Categories
) -> Section:
    from calib.plots import figures as plots

    centres = [
        tuple(
            0.5 * (a.edges[i] + a.edges[i + 1]) for a, i in zip(categories.axes, bins, strict=True)
        )
        for bins in (categories.bins(c) for c in range(len(categories)))
    ]
    old, old_err, _ = payloads.evaluate(earlier, *(np.array(x) for x in zip(*centres, strict=True)))
    new = np.asarray(reduction.state["factor"], dtype=float)
    new_err = np.asarray(reduction.state["factor_err"], dtype=float)
    moved = plots.moves(old, old_err, new, new_err)
    table = pd.DataFrame(
        {
            "category": categories.names,
            "earlier": old,
            "earlier_err": old_err,
            "this": new,
            "this_err": new_err,
            "move_percent": 100 * (new / old - 1),
            "move_sigma": moved,
        }
    )
    finite = moved[np.isfinite(moved)]
    text = "No category can be compared."
    if finite.size:
        worst = int(np.nanargmax(np.abs(moved)))
        text = (
            f"Against the earlier payload, {int((np.abs(finite) > 3).sum())} of {finite.size}"
            f" categories moved by more than 3 standard deviations; the furthest is"
            f" {categories.names[worst]}, by {moved[worst]:+.1f}."
        )
    figure = plots.comparison(categories.names, old, old_err, new, new_err, label="factor")
    return Section("What moved", text, {"moved": table}, {"moved": figure})


def _models(reduction: Reduction, categories: Categories) -> Section:
    from calib.plots import figures as plots
    from calib.plots.category_maps import category_map

    table = reduction.tables["models"]
    main, *others = [c for c in table.columns[1:] if not c.endswith("_err")]
    figures = {
        f"{main}_and_{other}": plots.comparison(
            list(table["category"]),
            *(table[c].to_numpy(dtype=float) for c in (other, f"{other}_err", main, f"{main}_err")),
            label="factor",
            legend=(other.replace("_", " "), main.replace("_", " ")),
        )
        for other in others
    }
    tables = {"models": table}
    text = "Factors of each model from its own fits, good or not."
    bias = reduction.tables.get("breit_wigner_bias")
    if bias is not None and len(bias):
        tables["breit_wigner_bias"] = bias
        by_name = bias.set_index("category")["bias_percent"].reindex(categories.names)
        values = by_name.to_numpy(dtype=float)
        figures["breit_wigner_bias"] = category_map(
            values,
            np.full(len(values), np.nan),
            [Status.OK if np.isfinite(v) else Status.TOO_FEW_EVENTS for v in values],
            categories,
            label="bias of the Breit-Wigner fit",
            unit="%",
            center=0.0,
        )
        text += (
            " The Breit-Wigner model fitted to the templates, whose sigma is known, is wrong by"
            f" {bias['bias_percent'].min():+.0f} to {bias['bias_percent'].max():+.0f} %."
        )
    return Section("Models side by side", text, tables, figures, "appendix")
