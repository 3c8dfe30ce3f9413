"""The sections of the report: what they say, and that every figure shows what it should."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from calib.calibrations.momentum_scale.payloads import payload
from calib.calibrations.momentum_scale.report import figures, sections
from calib.results import Closure, Section

from . import synthetic


@pytest.fixture(scope="module")
def reduction():
    return synthetic.reduction()


@pytest.fixture(scope="module")
def closure() -> Closure:
    return synthetic.closure()


@pytest.fixture(scope="module")
def made(reduction, closure) -> dict[str, Section]:
    earlier = payload.document(synthetic.reduction(seed=9))
    return {s.title: s for s in sections.sections(reduction, closure, earlier)}


def png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=40, metadata={"Software": None})
    return out.getvalue()


def labels(figure: Figure) -> set[str]:
    return {text for a in figure.axes for text in (a.get_xlabel(), a.get_ylabel()) if text}


def test_everything_is_there_and_drawn_once(made):
    main = [s.title for s in made.values() if s.place == "main"]
    assert main == [
        "Scale and resolution of the muons",
        "Quality of the extraction",
        "Categories against the model",
        "Mass scale before and after",
        "Iteration",
        "What moved",
        "Categories left out",
    ]
    drawn = {name: f for s in made.values() for name, f in s.figures.items()}
    assert set(drawn) == {
        "parameters",
        "likelihood_minus_chi2",
        "residuals",
        "maps",
        "quality_of_fits",
        "scale_along_axes_jpsi",
        "scale_along_axes_upsilon",
        "scale_along_axes_z",
        "iteration",
        "moved",
        "correlation",
    }
    for name, figure in drawn.items():
        assert len(png(figure)) > 3000, name
        assert labels(figure), name


def test_parameters_are_drawn_with_their_units_and_all_three_sets(made, reduction):
    section = made["Scale and resolution of the muons"]
    figure = section.figures["parameters"]
    assert {r"$A$ [10$^{-3}$]", r"$e$ [MeV]", r"$M$ [10$^{-5}$/GeV]", r"$\eta$"} <= labels(figure)
    legend = [t.get_text() for t in figure.axes[-1].get_legend().get_texts()]
    assert legend == ["data, likelihood (published)", "data, chi2", "simulation"]
    table = reduction.tables["parameters"]
    y = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    expected = 1e3 * table["A"].dropna().to_numpy()
    assert set(np.round(expected, 9)) <= set(np.round(np.asarray(y, dtype=float), 9))
    assert "Not determined" in section.text and "[2.2, 2.4)" in section.text
    assert "e > 0 adds about e to every pt" in section.text


def test_extraction_says_what_is_not_determined(made, reduction):
    section = made["Quality of the extraction"]
    assert "2 combinations of parameters leave no trace" in section.text
    found = sections.differences(
        reduction.tables["parameters_likelihood"], reduction.tables["parameters_chi2"]
    )
    worst = np.nanmax(np.abs(np.array(list(found.values()))))
    assert f"is {worst:.2f} standard deviations" in section.text
    assert 0.3 < worst < 1.2  # a fifth of the errors, drawn 24 x 5 times


def test_scale_before_and_after(made, closure):
    text = made["Mass scale before and after"].text
    own = closure.table[closure.table["sample"] == "data-jpsi"]
    weight = own["error"].to_numpy() ** -2.0
    rms = np.sqrt(np.average((own["fitted"].to_numpy() - 1) ** 2, weights=weight))
    assert f"{rms:.1e} after" in text and rms < 3e-5


def test_moved_against_itself_and_against_a_shift(reduction):
    same = payload.document(reduction)
    text = sections._moved(reduction, same).text
    assert text.count("furthest by +0.0") == 3
    state = dict(reduction.state)
    state["A"] = np.array(state["A"])
    state["A"][3] -= 10 * np.sqrt(2) * np.sqrt(state["covariance"][3, 3])
    shifted = payload.document(replace(reduction, state=state))
    section = sections._moved(reduction, shifted)
    assert section.title == "What moved"
    assert "A: 1 of 23 eta bins by more than 3" in section.text
    assert "by +10.0 at eta [-1.8, -1.6)" in section.text


def test_moved_with_other_bins_compares_at_the_centres(reduction):
    wide = synthetic.reduction(seed=9, n_eta=12)
    found = sections.at_bins(payload.document(wide), reduction.tables["parameters"])
    assert np.array_equal(found["A"][0::2], found["A"][1::2])
    np.testing.assert_allclose(found["A"][0::2], wide.state["A"], rtol=1e-14)


def test_dropped_are_counted_by_reason(made, reduction):
    table = made["Categories left out"].tables["dropped_by_reason"]
    dropped = reduction.tables["dropped"]
    assert table["categories"].sum() == len(dropped)
    assert table["events"].sum() == dropped["n_events"].sum()
    assert {"too_few_events", "off_neighbours"} == set(table["reason"])


def test_residuals_of_the_data_alone(reduction):
    """The simulation's fits come after those of the data, and are another matter."""
    simulated = reduction.fits.copy()
    simulated["sample"] = "mc-" + simulated["resonance"]
    simulated["residual"] = 3.0
    both = replace(reduction, fits=pd.concat([reduction.fits, simulated], ignore_index=True))
    assert set(sections.of_data(both.fits)["sample"]) == set(reduction.fits["sample"])
    assert len(sections.of_data(both.fits)) == len(reduction.fits)


def test_a_pattern_shows_in_the_maps(reduction):
    fits = sections.of_data(reduction.fits)
    fits = fits[fits["resonance"] == "z"].copy()
    where = (fits["eta_plus"] > 1.0) & (fits["eta_plus"] < 1.2)
    fits["mu_ratio"] = np.where(where, 1.01, 1.0)
    found = figures._mean(fits, fits["mu_ratio"].to_numpy(), fits["n_events"], synthetic.EDGES)
    row = np.searchsorted(synthetic.EDGES, 1.1, side="right") - 1
    assert np.nanmin(found[row]) == pytest.approx(1.01)
    assert np.nanmax(np.delete(found, row, 0)) == pytest.approx(1.0)


def test_bare_results_make_a_page_as_well():
    """No simulation, one extraction, no closure, nothing dropped, no fit at all."""
    bare = synthetic.reduction(simulation=False)
    tables = {k: v for k, v in bare.tables.items() if k != "parameters_likelihood"}
    tables["dropped"] = tables["dropped"].iloc[:0]
    tables["undetermined"] = tables["undetermined"].iloc[:0]
    tables["parameters"] = tables["parameters"].assign(
        **{c: np.nan for c in ("A", "A_err", "e", "e_err", "M", "M_err")}
    )
    bare = replace(bare, tables=tables, fits=bare.fits.iloc[:0])
    made = sections.sections(bare, None, None)
    assert "A is not determined" in made[0].text
    assert any("No category" in s.text for s in made)
    for section in made:
        for figure in section.figures.values():
            assert png(figure)
