"""The payload: what is read back is what was found, and its conventions are those of the page."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import correctionlib
import numpy as np
import pytest
from correctionlib.schemav2 import CorrectionSet

from calib.calibrations.momentum_scale.constants.variations import (
    effect_on_pt,
    gradient,
    variations,
)
from calib.calibrations.momentum_scale.payloads import payload, readback, reading
from calib.errors import InputError
from calib.fitting.scale.model import corrected
from calib.results import Status

from . import synthetic

Document = dict[str, Any]


@pytest.fixture(scope="module")
def reduction():
    return synthetic.reduction()


@pytest.fixture(scope="module")
def document(reduction) -> Document:
    return payload.document(reduction)


def loaded(document: Document) -> Any:
    return correctionlib.CorrectionSet.from_string(json.dumps(document, allow_nan=False))


def correction(document: Document, name: str) -> Document:
    return next(c for c in document["corrections"] if c["name"] == name)


def test_it_is_valid_and_every_look_at_it_passes(reduction, document):
    CorrectionSet.model_validate(document)
    names = [c["name"] for c in document["corrections"]]
    assert names[:5] == list(payload.NAMES) and names[5] == payload.SIMULATION
    checks = {c.name: c for c in readback.check(document, reduction, seed=1)}
    assert {n: c.passed for n, c in checks.items()} == {
        "payload_read_back": True,
        "corrections_composed": True,
        "sign_convention": True,
    }
    assert checks["payload_read_back"].value == 0
    assert 0 < checks["corrections_composed"].value < 1e-6


@pytest.mark.parametrize("charge", [-1, 1])
@pytest.mark.parametrize("pt", [4.0, 45.0, 200.0])
def test_corrected_pt_is_the_formula_of_the_page(reduction, document, charge, pt):
    scale = loaded(document)[payload.NAME]
    A, e, M = (reduction.state[k][7] for k in ("A", "e", "M"))
    eta = 0.5 * (synthetic.EDGES[7] + synthetic.EDGES[8])
    expected = 1 / ((1 + A - e / pt) / pt + charge * M)
    assert scale.evaluate(pt, eta, charge, "nom") == pytest.approx(expected, rel=1e-14)


def test_e_above_zero_adds_about_e_to_pt(reduction):
    """And M above zero lowers the pt of positive muons, raises that of negative ones."""
    n = synthetic.N_ETA
    flat = {"A": np.zeros(n), "e": np.full(n, 5e-3), "M": np.zeros(n)}
    scale = loaded(payload.document(_with(reduction, flat)))[payload.NAME]
    assert scale.evaluate(10.0, 0.1, 1, "nom") - 10 == pytest.approx(5e-3, rel=1e-3)
    flat = {"A": np.zeros(n), "e": np.zeros(n), "M": np.full(n, 1e-4)}
    scale = loaded(payload.document(_with(reduction, flat)))[payload.NAME]
    assert scale.evaluate(10.0, 0.1, 1, "nom") < 10 < scale.evaluate(10.0, 0.1, -1, "nom")


def _with(reduction, values: dict[str, np.ndarray]):
    steps = np.stack([values[k] for k in ("A", "e", "M")])[None]
    return replace(reduction, state={**reduction.state, **values, "steps": steps})


def test_outside_and_in_a_bin_without_a_value_pt_stays(document):
    found = loaded(document)
    for eta in (-2.5, 2.4, 3.0, synthetic.EDGES[synthetic.BAD] + 0.01):
        for charge in (-1, 1):
            assert found[payload.NAME].evaluate(33.0, eta, charge, "nom") == 33.0
            assert found[f"{payload.NAME}_uncertainty"].evaluate(33.0, eta, charge) == 1.0
        assert found[f"{payload.NAME}_status"].evaluate(eta) > Status.HELD.code
        assert found[f"{payload.NAME}_resolution"].evaluate(33.0, eta) == 0.0
        assert found[payload.SMEARING].evaluate(33.0, eta) == 0.0
        assert found[f"{payload.NAME}_parameters"].evaluate(eta, "A") == 0.0
    # the low edge is inside
    assert found[payload.NAME].evaluate(33.0, -2.4, 1, "nom") != 33.0


def test_a_changed_number_is_noticed(reduction, document):
    def all_nodes(node: Any):
        if isinstance(node, dict):
            yield node
            for value in node.values():
                yield from all_nodes(value)
        elif isinstance(node, list):
            for value in node:
                yield from all_nodes(value)

    for name in (payload.NAME, payload.SIMULATION, payload.SMEARING, f"{payload.NAME}_resolution"):
        changed = copy.deepcopy(document)
        nodes = [n for n in all_nodes(correction(changed, name)) if "parameters" in n]
        nodes[3]["parameters"][0] += 1e-9
        assert not readback.check(changed, reduction, seed=1)[0].passed, name
    changed = copy.deepcopy(document)
    status = correction(changed, f"{payload.NAME}_status")["data"]["content"]
    status[5] = 1.0
    assert not readback.check(changed, reduction, seed=1)[0].passed


@pytest.mark.parametrize("name", [payload.NAME, payload.SIMULATION])
@pytest.mark.parametrize("charges", [(1,), (-1,), (1, -1)])
def test_a_wrong_sign_of_M_is_caught(reduction, document, name, charges):
    changed = copy.deepcopy(document)
    nominal = correction(changed, name)["data"]["content"][0]
    assert nominal["key"] == "nom"
    for item in nominal["value"]["content"]:
        if item["key"] in charges:
            for content in item["value"]["content"]:
                content["parameters"][2] *= -1
    sign = readback.check(changed, reduction, seed=1)[2]
    assert sign.name == "sign_convention" and not sign.passed and sign.value > 1e-5
    with pytest.raises(InputError, match=r"the sign of M for a charge.*make it again"):
        reading.constants(changed)


def test_what_is_not_ours_is_refused_in_one_sentence(document):
    changed = copy.deepcopy(document)
    formula = correction(changed, payload.NAME)["generic_formulas"][0]
    formula["expression"] = formula["expression"].replace("+[2]", "-[2]")
    with pytest.raises(InputError, match="not laid out as expected"):
        reading.constants(changed)
    with pytest.raises(InputError, match="not laid out as expected"):
        reading.constants({"corrections": [{"name": payload.NAME, "data": 1.0}]})


def test_steps_that_do_not_make_the_published_correction_are_noticed(reduction, document):
    steps = np.array(reduction.state["steps"])
    steps[0, 0, 3] += 1e-5
    wrong = replace(reduction, state={**reduction.state, "steps": steps})
    check = readback.check(document, wrong, seed=1)[1]
    assert check.name == "corrections_composed" and not check.passed
    assert check.value == pytest.approx(1e-5, rel=0.1)


# variations --------------------------------------------------------------------------------------
def test_all_variations_together_are_the_covariance(reduction):
    data = payload.published(reduction)
    pt_range = np.array([4.0, 60.0])
    every = variations(data.covariance, data.usable, pt_range, 1.0, 1000)
    flat = every.shifts.reshape(len(every), -1)
    scale = np.sqrt(np.maximum(np.diagonal(data.covariance), 1e-30))
    np.testing.assert_allclose(
        (flat.T @ flat) / scale / scale[:, None],
        data.covariance / scale / scale[:, None],
        rtol=0,
        atol=1e-9,
    )


def test_few_variations_carry_the_share_that_is_said(reduction):
    data = payload.published(reduction)
    pt_range = np.array([4.0, 60.0])
    for share, most in ((0.5, 100), (0.99, 100), (0.99, 10)):
        some = variations(data.covariance, data.usable, pt_range, share, most)
        assert len(some) == most or some.covered >= share
        # the share again, from the effect on pt of muons
        pt = np.exp(np.linspace(*np.log(pt_range), 25))
        total = carried = 0.0
        for q in (-1.0, 1.0):
            g = gradient(pt, np.full(25, q))
            total += np.einsum("ip,bij,jp->", g, data.of_bins(), g)
            carried += (np.einsum("ip,vib->vbp", g, some.shifts) ** 2).sum()
        assert carried / total == pytest.approx(some.covered, rel=1e-10)
    one_more = variations(data.covariance, data.usable, pt_range, 0.99, 100)
    assert len(variations(data.covariance, data.usable, pt_range, 0.9899, 100)) <= len(one_more)
    assert one_more.covered - 0.99 < 0.01  # no more than needed


def test_units_do_not_choose_the_variations():
    """One parameter a bin, the second with the larger effect: it comes first."""
    covariance = np.zeros((6, 6))
    covariance[0, 0] = 1e-10  # A of bin 0: 1e-5 of pt
    covariance[5, 5] = 1e-12  # M of bin 1: 1e-6/GeV, 1e-5 of pt at 10 GeV and more above
    some = variations(covariance, np.array([True, True]), np.array([10.0, 60.0]), 0.5, 1)
    assert some.shifts[0, 2, 1] == pytest.approx(1e-6)
    assert np.count_nonzero(np.abs(some.shifts) > 1e-15) == 1


def test_a_single_pt_is_no_reason_to_fail():
    assert np.isfinite(np.linalg.cholesky(effect_on_pt(np.array([10.0, 10.0])))).all()
    nothing = variations(np.zeros((6, 6)), np.zeros(2, dtype=bool), np.array([4.0, 9.0]), 0.99, 9)
    assert len(nothing) == 0 and nothing.covered == 1.0


def test_variation_in_the_payload_moves_pt_by_its_shift(reduction, document):
    data = payload.published(reduction)
    some = variations(data.covariance, data.usable, reduction.state["pt_range"], 0.99, 30)
    scale = loaded(document)[payload.NAME]
    assert len(readback.variations(document, payload.NAME)) == len(some)
    middle = 0.5 * (synthetic.EDGES[1:] + synthetic.EDGES[:-1])
    for sign, word in ((1, "up"), (-1, "down")):
        values = data.values[:3] + sign * some.shifts[4]
        expected = 1 / corrected(np.asarray(1 / 20.0), np.asarray(-1), *values)
        np.testing.assert_allclose(
            scale.evaluate(20.0, middle, -1, f"stat4_{word}"), expected, rtol=1e-13
        )


def test_nothing_is_determined(reduction):
    status = np.full(synthetic.N_ETA, Status.TOO_FEW_EVENTS.code)
    bare = replace(
        reduction,
        state={**reduction.state, "status": status, "covariance": np.full((120, 120), np.nan)},
    )
    document = payload.document(bare)
    assert "24 of 24 eta bins have no usable value" in document["description"]
    assert all(c.passed for c in readback.check(document, bare, seed=1))
    assert loaded(document)[payload.NAME].evaluate(50.0, 0.3, 1, "nom") == 50.0


def test_without_simulation_there_is_nothing_about_it():
    document = payload.document(synthetic.reduction(simulation=False))
    assert [c["name"] for c in document["corrections"]] == list(payload.NAMES)
    assert reading.constants(document).simulation is None
