from __future__ import annotations

import numpy as np
import pytest

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.errors import InputError
from calib.results import Status
from calib.schema import Sample, validated

from .conftest import DATA, Run, make

CONTRACT = [
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
]


def test_all_36_categories_in_order_with_the_columns_of_the_contract(small: Run, reduced):
    table = reduced.tables["factors"]
    assert list(table["category"]) == list(small.calibration.categories.names)
    assert list(table.columns[: len(CONTRACT)]) == CONTRACT
    assert table["n_events"].sum() == len(small.pairs["data"])


def test_a_category_that_is_not_its_own_leans_on_the_others(reduced):
    table, rings = reduced.tables["factors"], reduced.tables["rings"].set_index("name")
    few = table[table["own_status"] == "too_few_events"]
    assert len(few) > 5
    assert set(few["status"]) == {"merged"}
    assert set(few["held_at"]) == {"rings"}
    assert set(table.loc[table["status"] == "ok", "held_at"]) == {""}
    # near what the rings say, as the spread among categories allows
    low, high = (f(rings["value"][["ring_B", "ring_O", "ring_E"]]) for f in (np.min, np.max))
    spread = rings.loc["spread", "value"]
    pt = np.abs(rings.loc["slope", "value"]) * np.log(100 / 45)
    margin = 4 * np.hypot(spread, few["factor_err"] / few["factor"]) + pt
    assert np.all(np.log(few["factor"] / high) < margin)
    assert np.all(np.log(low / few["factor"]) < margin)
    # the spread is in the error, and so is what is not known of the rings
    nothing = few[few["n_events"] < 200]
    assert len(nothing) > 2
    assert np.all(nothing["factor_err"] / nothing["factor"] > 0.6 * spread)
    codes = np.asarray(reduced.state["status"])
    assert [Status(s).code for s in table["status"]] == codes.tolist()


def test_leaning_helps_and_is_honest(small: Run, reduced):
    """Published errors are at most those of the category alone, and all pulls are bounded."""
    table = reduced.tables["factors"]
    truth = Calibration.truth(small.pairs["data"])["truth"]
    known = table[table["own_status"] == "ok"]
    assert np.all(known["factor_err_stat"] < 1.1 * known["own_factor_err"])
    true = np.array([truth.get(name, np.nan) for name in table["category"]])
    with_events = (table["n_events"] >= 1000).to_numpy()  # the others do not know their own truth
    pulls = ((table["factor"] - true) / table["factor_err"]).to_numpy()[with_events]
    assert len(pulls) > 12
    assert np.abs(pulls).max() < 4


def test_covariance_of_the_factors_knows_what_they_have_in_common(reduced):
    found, table = reduced.arrays["covariance"], reduced.tables["factors"]
    assert list(found["names"]) == list(table["category"])
    np.testing.assert_array_equal(found["values"], table["factor"])
    np.testing.assert_allclose(np.sqrt(np.diag(found["covariance"])), table["factor_err"])
    np.testing.assert_allclose(np.sqrt(np.diag(found["statistical"])), table["factor_err_stat"])
    shifts = [values for name, values in found.items() if name.startswith("syst_")]
    assert len(shifts) == 3
    together = found["statistical"] + sum(np.outer(s, s) for s in shifts)
    np.testing.assert_allclose(found["covariance"], together, rtol=1e-10)
    correlation = found["covariance"] / np.outer(table["factor_err"], table["factor_err"])
    np.testing.assert_allclose(correlation, correlation.T, atol=1e-12)
    assert np.linalg.eigvalsh(correlation).min() > -1e-9
    # two categories without events of the same rings hang on the same
    merged = table[(table["status"] == "merged") & (table["n_events"] < 300)].index
    own = table[(table["status"] == "ok")].sort_values("factor_err").index[:4]
    among = correlation[np.ix_(merged, merged)][~np.eye(len(merged), dtype=bool)]
    alone = correlation[np.ix_(own, own)][~np.eye(len(own), dtype=bool)]
    assert np.mean(among) > 0.02
    assert np.abs(alone).max() < 0.9


def test_a_category_whose_own_fit_fails_a_gate_is_held_at_the_model(small: Run):
    """Its own likelihood is not used: the value is what the others say."""
    c = small.calibration.categories.names.index("45-52_OB")
    sums = {name: dict(values) for name, values in small.sums.items()}
    bad = {name: sums["data"][name].copy() for name in ("mass/sumw", "mass/sumw2", "mass/counts")}
    n = len(small.calibration.categories)
    for part in (0, 1):  # a second peak, which no template has
        own = bad["mass/sumw"][part * n + c]
        extra = np.zeros_like(own)
        extra[60:66] = round(0.03 * own.sum())
        for name in ("mass/sumw", "mass/sumw2"):
            bad[name][part * n + c] += extra
        bad["mass/counts"][part * n + c] += extra.astype(bad["mass/counts"].dtype)
    sums["data"] |= bad
    table = small.calibration.reduce(sums, {}).tables["factors"].set_index("category")
    row = table.loc["45-52_OB"]
    assert row["own_status"] == "bad_chi2"
    assert row["status"] == "held"
    assert row["held_at"] == "rings"
    assert row["factor"] == pytest.approx(1.1, abs=0.25)
    clean = small.calibration.reduce(small.sums, {}).tables["factors"].set_index("category")
    assert row["factor_err"] > clean.loc["45-52_OB", "factor_err"]


def test_an_edit_changes_its_own_row_alone_and_stays_recorded(small: Run, reduced):
    before = reduced
    after = small.calibration.reduce(small.sums, {"30-45_OB": {"fit.range": [82, 98]}})
    name = "30-45_OB"
    for kind in ("fits", "factors"):
        a = (before.fits if kind == "fits" else before.tables[kind]).set_index("category")
        b = (after.fits if kind == "fits" else after.tables[kind]).set_index("category")
        assert a.drop(index=name).to_csv() == b.drop(index=name).to_csv()
        assert b.loc[name, "ndf"] < a.loc[name, "ndf"] - 15
    row = after.tables["factors"].set_index("category").loc[name]
    assert row["edited"] == "fit.range=[82, 98]"
    old = before.tables["factors"].set_index("category").loc[name]
    assert row["factor"] == pytest.approx(old["factor"], abs=2 * old["factor_err"])
    assert row["factor"] != old["factor"]


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"30-45_XX": {"fit.range": [82, 98]}}, "'30-45_XX' does not exist"),
        ({"30-45_OB": {"fit.rnage": [82, 98]}}, "'fit.rnage' cannot be set"),
        ({"30-45_OB": {"fit.range": [82.05, 98]}}, "not a whole number"),
        ({"30-45_OB": {"fit.range": "wide"}}, "expected [low, high]"),
        ({"30-45_OB": {"fit.range": [60, 98]}}, "not inside window"),
        ({"30-45_OB": {"fit.bins": 50}}, "collected in bins"),
    ],
)
def test_an_edit_that_cannot_be_done_is_refused(small: Run, edits, said):
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        small.calibration.reduce(small.sums, edits)


def test_nothing_selected_everywhere_too_few_events():
    from calib.toys.generation import generate

    run = make(Settings(copies=1, compare=("breit_wigner",)), generate("z", 40, seed=2))
    reduction = run.calibration.reduce(run.sums, {})
    assert set(reduction.tables["factors"]["status"]) == {"too_few_events"}
    assert reduction.tables["factors"]["factor"].isna().all()
    assert not {c.name: c for c in reduction.checks}["categories_usable"].passed
    document = run.calibration.publish(reduction)
    status = document["corrections"][2]["data"]["content"]
    assert set(status) == {float(Status.TOO_FEW_EVENTS.code)}
    closure = run.calibration.closure(run.walk(run.calibration.closure_pass(reduction)), reduction)
    assert not closure.checks[0].passed


def test_predicted_resolution_from_the_settings_replaces_pt_err(small: Run):
    parts = [
        {"abs_eta": [0.0, 0.9], "a": 0.0075, "c": 1.1e-4},
        {"abs_eta": [0.9, 1.8], "a": 0.0125, "c": 1.5e-4},
        {"abs_eta": [1.8, 2.4], "a": 0.019, "c": 2.6e-4},
    ]
    settings = validated(
        Settings, {"predicted_resolution": parts, "copies": 2, "compare": []}, "test"
    )
    run = make(settings, small.events["data"])
    assert run.calibration.needs(DATA).muon == ()
    table = run.calibration.reduce(run.sums, {}).tables["factors"]
    good = table[table["status"] == "ok"]
    # the truth that the toys were made with: factors near 1
    pulls = (good["factor"] - 1) / good["factor_err"]
    assert len(good) > 8
    assert np.abs(pulls).max() < 4.5


def test_samples_that_make_no_sense_are_refused():
    jpsi = Sample(name="data", resonance="jpsi", format="stage1", files=("x",))
    with pytest.raises(InputError, match="'resonance'"):
        Calibration(Settings(), [jpsi], 1)
    with pytest.raises(InputError, match="simulation: true"):
        Calibration(Settings(line_shape="simulation"), [DATA], 1)


def test_settings_that_do_not_fit_together_are_refused():
    for values, said in (
        ({"leading_pt": [30, 30]}, "not ascending"),
        ({"window": [75.05, 105]}, "whole number of fit bins"),
        ({"fit": {"range": [70, 100]}}, "not inside window"),
        ({"copys": 3}, "did you mean 'copies'"),
        ({"gates": {"min_event": 3}}, "did you mean 'min_events'"),
    ):
        with pytest.raises(InputError, match=said):
            validated(Settings, values, "config.yaml: settings")
