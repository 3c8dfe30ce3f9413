"""Figures: drawn without a warning, whatever the statuses, and leaving no state behind."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from calib.events.categories import Axis, Categories
from calib.plots import figures
from calib.plots.category_maps import category_map
from calib.results import Curve, Status

CATEGORIES = Categories.of(
    [
        Axis("leading_pt", (30.0, 45.0, 200.0), unit="GeV"),
        Axis("leading_abs_eta", (0.0, 0.9, 2.4), ("B", "E")),
        Axis("subleading_abs_eta", (0.0, 0.9, 1.8, 2.4), ("B", "O", "E")),
    ]
)


def texts(figure: Figure) -> str:
    """Return every word on a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def drawn(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    assert out.getvalue().startswith(b"\x89PNG")
    return out.getvalue()


def curve(weight: float = 1.0, n: int = 4000) -> Curve:
    rng = np.random.default_rng(1)
    edges = np.linspace(80.0, 100.0, 41)
    middle = 0.5 * (edges[1:] + edges[:-1])
    model = n * 0.5 * np.exp(-0.5 * ((middle - 91) / 2) ** 2) / (2 * np.sqrt(2 * np.pi)) + 5.0
    counts = rng.poisson(model) * weight
    return Curve(
        "30-45_BB", edges, counts, counts * weight, model * weight, np.full(40, 5.0 * weight)
    )


def closure_table(tested: bool = True) -> pd.DataFrame:
    rows = [
        {
            "bin": name,
            "expected": 1.1,
            "fitted": 1.12 if tested else np.nan,
            "error": 0.03 if tested else np.nan,
            "pull": 0.67 if tested else np.nan,
            "status": "ok" if tested else "too_few_events",
            "kind": kind,
            "half": half,
        }
        for kind, names in (("resolution", ("0.6-0.7", "0.7-0.8")), ("category", ("a", "b")))
        for half in (0, 1)
        for name in names
    ]
    return pd.DataFrame(rows)


def test_a_map_writes_values_and_marks_what_is_not_good():
    values, errors = np.full(12, 1.0432), np.full(12, 0.0123)
    statuses = [Status.OK] * 12
    statuses[1], statuses[2], statuses[3] = Status.MERGED, Status.HELD, Status.FIT_FAILED
    values[3] = np.nan
    figure = category_map(values, errors, statuses, CATEGORIES, label="factor")
    found = texts(figure)
    assert found.count("1.043\n± 0.012") == 11
    for word in ("merged", "held", "fit failed", "factor", r"leading $p_T$ 30–45 GeV"):
        assert word in found
    drawn(figure)


def test_a_map_without_a_single_value():
    nothing = np.full(12, np.nan)
    figure = category_map(nothing, nothing, ["too_few_events"] * 12, CATEGORIES)
    assert "too few events" in texts(figure)
    drawn(figure)


@pytest.mark.parametrize("n_axes", [1, 2])
def test_a_map_of_fewer_axes(n_axes):
    categories = Categories.of(CATEGORIES.axes[:n_axes])
    n = len(categories)
    drawn(category_map(np.arange(n) * 1.0, np.ones(n), ["ok"] * n, categories, center=None))


@pytest.mark.parametrize("tested", [True, False])
def test_closure_has_a_block_for_each_kind(tested):
    figure = figures.closure_figure(closure_table(tested), label="sigma")
    found = texts(figure)
    assert "bin of resolution" in found and "bin of category" in found
    assert "sigma: fitted / expected" in found and "half 1" in found
    drawn(figure)


def test_closure_of_two_kinds_of_factors_is_side_by_side():
    rows = closure_table()
    both = pd.concat([rows.assign(factors=k) for k in ("category", "muon")])
    both = both[(both["kind"] == "resolution") | (both["factors"] == "category")]
    figure = figures.closure_figure(both)
    found = texts(figure)
    for title in (
        "bin of resolution, factors of category",
        "bin of resolution, factors of muon",
        "bin of category",
    ):
        assert title in found
    left, right = (
        next(a for a in figure.axes if a.get_xlabel() == f"bin of resolution, factors of {k}")
        for k in ("category", "muon")
    )
    places = [a.get_window_extent() for a in (left, right)]
    assert places[0].x1 < places[1].x0 and abs(places[0].y0 - places[1].y0) < 1
    drawn(figure)


def test_closure_with_the_columns_of_the_contract_alone():
    table = closure_table()[["bin", "expected", "fitted", "error", "pull", "status"]]
    drawn(figures.closure_figure(table))
    assert "no closure bin" in texts(figures.closure_figure(table.iloc[:0]))


def test_pulls_are_unit_gaussians_for_weighted_events_too():
    for weight in (1.0, 0.2):
        pulls = figures.pulls_of(curve(weight, n=40_000))
        assert abs(pulls.mean()) < 4 / np.sqrt(len(pulls))
        assert abs(pulls.std() - 1) < 4 / np.sqrt(2 * len(pulls))


def test_a_bin_where_nothing_is_expected_has_no_pull():
    one = curve()
    one = Curve(one.name, one.edges, one.counts, one.variance, one.model * 0, one.background * 0)
    assert np.isnan(figures.pulls_of(one)).all()
    drawn(figures.fit_figure(one))


def test_histograms_say_how_many_and_survive_none():
    rng = np.random.default_rng(2)
    pulls = rng.normal(size=500)
    found = texts(figures.pull_histogram(np.append(pulls, np.nan)))
    assert "n = 500" in found and f"width {pulls.std():.3f}" in found
    assert "40 fits" in texts(figures.probability_histogram(rng.uniform(size=40)))
    assert "no pull" in texts(figures.pull_histogram(np.array([])))
    assert "no fit" in texts(figures.probability_histogram(np.array([np.nan])))


def test_a_move_is_counted_in_the_errors_of_both():
    move = figures.moves(
        np.array([1.0, 1.0, np.nan]),
        np.array([0.3, np.nan, 0.1]),
        np.array([1.5, 1.5, 1.0]),
        np.array([0.4, 0.5, 0.1]),
    )
    assert move[:2] == pytest.approx([1.0, 1.0])
    assert np.isnan(move[2])


def test_a_comparison_has_both_names_and_the_unit():
    n = np.ones(3)
    figure = figures.comparison(
        ["a", "b", "c"],
        n,
        0.1 * n,
        n * np.nan,
        n * np.nan,
        label="sigma",
        unit="GeV",
        legend=("2017", "2018"),
    )
    found = texts(figure)
    assert "sigma [GeV]" in found and "2017" in found and "2018" in found
    drawn(figure)


def test_the_picture_of_a_fit_has_units():
    found = texts(figures.fit_figure(curve()))
    assert "mass [GeV]" in found and "events / 0.5 GeV" in found and "30-45_BB" in found


def test_drawing_leaves_no_style_behind_and_needs_none():
    before = dict(matplotlib.rcParams)
    figure = figures.fit_figure(curve())
    assert dict(matplotlib.rcParams) == before
    first = drawn(figure)
    with matplotlib.rc_context({"font.family": ["DejaVu Sans"], "xtick.direction": "out"}):
        assert drawn(figure) == first


def test_closure_of_many_bins_and_of_zeros_is_a_histogram_of_pulls():
    """Differences have nothing to be divided by, and no one reads 240 names on an axis."""
    random = np.random.default_rng(3)
    pull = random.normal(size=150)
    zero = pd.DataFrame(
        {
            "bin": [f"A_{i}" for i in range(150)],
            "expected": 0.0,
            "fitted": 1e-4 * pull,
            "error": 1e-4,
            "pull": pull,
            "status": "ok",
            "kind": "half",
        }
    )
    many = zero.assign(expected=1.0, fitted=1 + 1e-4 * pull, kind="axis")
    one = many[:1].assign(kind="held_out")
    figure = figures.closure_figure(pd.concat([zero, many, one]))
    drawn(figure)
    found = texts(figure)
    assert found.count(f"n = 150\nmean {pull.mean():+.3f}\nwidth {pull.std():.3f}") == 2
    assert {"pull of half", "pull of axis", "bin of held_out"} <= {
        a.get_xlabel() for a in figure.axes
    }
    # the one bin is seen: the axis is not wider than some errors
    assert figure.axes[0].get_ylim()[1] < 1.002
