"""The parameters against the truth that was put in, all of them at once."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from calib.calibrations.momentum_scale.settings import Settings
from calib.fitting.scale.model import KINDS
from calib.results import Pass, Status
from calib.toys.generation import momentum_truth

from .conftest import ETA, calibrate, sample, toys


def truth_vector(simulation=False):
    t = momentum_truth(n_eta=len(ETA) - 1, simulation=simulation)
    return np.concatenate([t.A, t.e, t.M, np.square(t.a), np.square(t.c)])


def distance(state, truth, prefix="", kinds=KINDS):
    """Return (p, chi2) of fitted minus true parameters with their full covariance."""
    n = len(ETA) - 1
    at = np.concatenate([np.arange(n) + KINDS.index(k) * n for k in kinds])
    values = np.concatenate([state[prefix + k] for k in KINDS])
    d = (values - truth)[at]
    cov = state[prefix + "covariance"][np.ix_(at, at)]
    found = float(d @ np.linalg.solve(cov, d))
    return float(chi2.sf(found, len(at))), found


def test_converges_in_few_passes(jpsi):
    assert [w.name for w in jpsi.walks] == ["main", "2", "3", "4", "5"][: len(jpsi.walks)]
    assert bool(jpsi.reduction.state["converged"])
    moves = jpsi.reduction.tables["iterations"].query("kind == 'data'")["max_move"].to_numpy()
    assert moves[0] > 10  # the first reference has the wrong resolution
    assert moves[-1] < 0.1


@pytest.mark.parametrize("kinds", [("A", "e", "M"), ("a2", "c2")])
@pytest.mark.parametrize("prefix", ["", "simulation_"])
def test_data_and_simulation_agree_with_their_truth(jpsi, prefix, kinds):
    p, found = distance(jpsi.reduction.state, truth_vector(bool(prefix)), prefix, kinds)
    assert 1e-3 < p < 1 - 1e-5, found


def test_biases_were_there_to_be_found(jpsi):
    state = dict(jpsi.reduction.state)
    for k in KINDS[:3]:
        state[k] = np.zeros_like(state[k])
    assert distance(state, truth_vector(), kinds=KINDS[:3])[1] > 200


def test_both_extractions_are_kept(jpsi):
    tables = jpsi.reduction.tables
    for k in ("A", "e", "M"):
        pull = (tables["parameters_likelihood"][k] - tables["parameters_chi2"][k]) / tables[
            "parameters_chi2"
        ][f"{k}_err"]
        assert np.abs(pull).max() < 0.5
    assert set(tables["extraction"]["method"]) == {"chi2", "likelihood"}


def test_all_checks_pass(jpsi):
    assert [c.name for c in jpsi.reduction.checks if not c.passed] == []


def test_a_small_change_needs_no_walk_over_the_events(jpsi):
    """Corrections that move by two errors give the same total, with the events or without."""
    last = jpsi.walks[-1]
    state = jpsi.reduction.state
    n = len(ETA) - 1
    errors = np.sqrt(np.diagonal(state["covariance"]))[: 3 * n].reshape(3, n)
    signs = np.where(np.arange(3 * n).reshape(3, n) % 2, 1.0, -1.0)
    steps = np.concatenate([last.values["data_steps"], (2 * signs * errors)[None]])
    moved = Pass(last.name, {**last.values, "data_steps": steps})
    again = jpsi.calibration.reduce(jpsi.walk(moved), {}, moved)
    for i, k in enumerate(KINDS[:3]):
        assert np.abs((again.state[k] - state[k]) / errors[i]).max() < 0.2, k


def test_closure_passes_and_sees_what_the_correction_does(jpsi):
    walk = jpsi.calibration.closure_pass(jpsi.reduction)
    closure = jpsi.calibration.closure(jpsi.walk(walk), jpsi.reduction)
    assert [c.name for c in closure.checks if not c.passed] == []
    own = closure.table.query("kind == 'axis' and variable == 'eta'")
    before = ((own["before"] - 1) / own["before_err"]).to_numpy()
    assert np.sum(before**2) > 5 * np.sum(own["pull"] ** 2)
    again = closure.table.query("kind == 'again'")["pull"].abs()
    assert again.max() < 0.2


def test_closure_fails_where_the_correction_is_wrong(jpsi):
    state = dict(jpsi.reduction.state)
    wrong = state["A"].copy()
    wrong[3] += 1e-3
    reduction = replace(jpsi.reduction, state={**state, "A": wrong})
    walk = jpsi.calibration.closure_pass(reduction)
    closure = jpsi.calibration.closure(jpsi.walk(walk), reduction)
    failed = {c.name for c in closure.checks if not c.passed}
    assert {"closure_second_run", "closure_axes_jpsi"} <= failed


def test_without_simulation_the_muons_are_made_from_the_data():
    run = calibrate(Settings(eta=ETA), [(sample("jpsi"), toys("jpsi", 200_000, 41))])
    state = run.reduction.state
    assert state["made"].tolist() == ["embedded"]
    assert bool(state["converged"])
    p, found = distance(state, truth_vector(), kinds=KINDS[:3])
    assert p > 1e-3, found


def test_eta_bins_without_data_are_said_and_change_nothing():
    data = toys("jpsi", 150_000, 51)
    simulated = toys("jpsi", 150_000, 52, simulation=True)
    inside = [p.take(np.maximum(p.leading.eta, p.subleading.eta) < 1.8) for p in (data, simulated)]
    run = calibrate(
        Settings(eta=ETA, calibrate_simulation=False),
        [(sample("jpsi"), inside[0]), (sample("jpsi", True), inside[1])],
    )
    table = run.reduction.tables["parameters"]
    assert table["status"].tolist() == ["ok"] * 7 + [Status.TOO_FEW_EVENTS.value]
    assert table.iloc[-1][["A", "e", "M", "A_err"]].isna().all()
    assert np.isfinite(run.reduction.state["steps"]).all()
    check = next(c for c in run.reduction.checks if c.name == "eta_bins_not_determined")
    assert not check.passed
    assert "[1.8, 2.4)" in check.text


def test_jpsi_and_z_know_the_sagitta_better():
    events = [
        (sample("jpsi"), toys("jpsi", 80_000, 61)),
        (sample("jpsi", True), toys("jpsi", 80_000, 62, simulation=True)),
    ]
    settings = Settings(eta=ETA, calibrate_simulation=False, method="chi2", copies=2, max_passes=3)
    alone = calibrate(settings, events).reduction
    both = calibrate(
        settings,
        [
            *events,
            (sample("z"), toys("z", 400_000, 63)),
            (sample("z", True), toys("z", 400_000, 64, simulation=True)),
        ],
    ).reduction
    ratio = alone.tables["parameters"]["M_err"] / both.tables["parameters"]["M_err"]
    assert ratio.median() > 2
    p, found = distance(both.state, truth_vector(), kinds=KINDS[:3])
    assert p > 1e-3, found
