from __future__ import annotations

import numpy as np
import pytest

from calib.calibrations.mass_resolution import Calibration
from calib.calibrations.mass_resolution.settings import Settings
from calib.config import Sample, validated
from calib.errors import InputError
from calib.results import Status

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


def test_a_category_that_is_not_its_own_says_where_its_value_is_from(reduced):
    reduction = reduced
    table, merged = reduction.tables["factors"], reduction.tables["merged"]
    merged = merged.set_index("category")
    few = table[table["own_status"] == "too_few_events"]
    assert len(few) > 5
    assert set(few["status"]) == {"merged"}
    for _, row in few.iterrows():
        assert row["factor"] == merged.loc[row["held_at"], "factor"]
        assert merged.loc[row["held_at"], "status"] == "ok"
    codes = np.asarray(reduction.state["status"])
    assert [Status(s).code for s in table["status"]] == codes.tolist()


def test_covariance_of_the_factors_knows_who_shares_a_parent(reduced):
    found, table = reduced.arrays["covariance"], reduced.tables["factors"]
    assert list(found["names"]) == list(table["category"])
    np.testing.assert_array_equal(found["values"], table["factor"])
    np.testing.assert_allclose(np.sqrt(np.diag(found["covariance"])), table["factor_err"])
    held = table["held_at"].to_numpy()
    i, j = np.argwhere((held[:, None] == held) & (held != "") & ~np.eye(36, dtype=bool))[0]
    assert found["covariance"][i, j] == found["covariance"][i, i]
    own = np.flatnonzero(held == "")
    assert found["covariance"][own[0], own[1]] == 0
    assert np.linalg.eigvalsh(found["covariance"]).min() > -1e-12


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
    from calib.toys import generate

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
