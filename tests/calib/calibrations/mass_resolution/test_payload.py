from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import correctionlib
import correctionlib.schemav2 as schema
import numpy as np
import pytest

from calib.calibrations import of_payload
from calib.calibrations.mass_resolution import Calibration, payload
from calib.calibrations.mass_resolution.effects import effects
from calib.calibrations.mass_resolution.settings import Settings
from calib.errors import InputError
from calib.payload.variations import common_part
from calib.physics.kinematics import predicted_mass_resolution
from calib.results import Reduction, Status

from .conftest import DATA, SIMULATION, Run


@pytest.fixture(scope="module")
def published(small: Run, reduced: Reduction) -> tuple[Reduction, dict[str, Any]]:
    return reduced, dict(small.calibration.publish(reduced))


@pytest.fixture(scope="module")
def of_muons(small: Run, reduced: Reduction) -> dict[str, Any]:
    """A payload of which the factors of muons are applied."""
    settings = small.calibration.settings.model_copy(update={"apply": "muon"})
    return payload.document(reduced, settings)


def loaded(document: Any) -> correctionlib.CorrectionSet:
    return correctionlib.CorrectionSet.from_string(json.dumps(document))


def test_it_is_a_valid_document_and_a_drop_in(published, shared_data):
    reduction, document = published
    schema.CorrectionSet.model_validate(document)
    peer = json.loads((shared_data / "peer_2018_mass_resolution.json").read_text())
    ours, theirs = document["corrections"][0], peer["corrections"][0]
    assert ours["name"] == theirs["name"]
    assert ours["data"]["edges"] == theirs["data"]["edges"]
    assert ours["data"]["flow"] == theirs["data"]["flow"]
    assert [i["name"] for i in ours["inputs"]] == [i["name"] for i in theirs["inputs"]]
    assert ours["output"]["name"] == theirs["output"]["name"]
    at = reduction.tables["factors"].set_index("category").loc["45-52_OE", "factor"]
    assert loaded(document)[payload.NAME].evaluate(47.0, 1.2, 2.0) == pytest.approx(at, rel=1e-14)
    assert [c["name"] for c in document["corrections"]] == [
        *payload.NAMES,
        payload.VARIATION,
        *payload.MUON_NAMES,
        payload.APPLY,
    ]


def test_it_says_whose_it_is(reduced):
    for sample, word in ((DATA, "of data"), (SIMULATION, "of simulated events")):
        document = Calibration(Settings(), [sample], seed=1).publish(reduced)
        assert word in document["description"]
        assert word in document["corrections"][0]["description"].replace("resolution ", "")


def _content(document: Any, name: str) -> list[Any]:
    data = next(c["data"] for c in document["corrections"] if c["name"] == name)
    while not isinstance(data["content"][-1], float):
        last = data["content"][-1]
        data = last if "nodetype" in last else last["value"]
        if not isinstance(data, dict):
            break
    return data["content"]


@pytest.mark.parametrize("name", [*payload.NAMES, payload.VARIATION, *payload.MUON_NAMES])
def test_read_back_agrees_and_a_changed_cell_is_noticed(published, small: Run, name: str):
    reduction, document = published
    assert all(c.passed for c in small.calibration.check_payload(document, reduction))
    changed = json.loads(json.dumps(document))
    content = _content(changed, name)
    content[5] = content[5] * (1 + 1e-6) + (1 if "status" in name else 0)
    assert not small.calibration.check_payload(changed, reduction)[0].passed


def test_a_payload_that_says_another_way_to_apply_it_is_noticed(published, of_muons, small: Run):
    reduction, _ = published
    assert not small.calibration.check_payload(of_muons, reduction)[0].passed


# variations ----------------------------------------------------------------------------------
def test_variations_hold_what_the_covariance_says_is_common(published):
    reduction, document = published
    known = reduction.arrays["covariance"]
    factor = reduction.tables["factors"]["factor"].to_numpy()
    read = loaded(document)[payload.VARIATION]
    grid = list(product((40.0, 47.0, 55.0, 90.0), (0.5, 1.2, 2.0), (0.5, 1.2, 2.0)))
    points = [np.array(x) for x in zip(*grid, strict=True)]

    def at(word: str) -> np.ndarray:
        return np.asarray(read.evaluate(word, *points))

    np.testing.assert_allclose(at("nom"), factor, rtol=1e-14)
    words = [c["key"] for c in document["corrections"][3]["data"]["content"]]
    up = {w.removesuffix("_up"): at(w) - factor for w in words if w.endswith("_up")}
    assert len(words) == 1 + 2 * len(up)
    for name, shift in up.items():
        np.testing.assert_allclose(at(f"{name}_down"), factor - shift, rtol=1e-12)
    systematic = [name for name in known if name.startswith("syst_")]
    assert {"syst_fsr", "syst_photon"} <= set(systematic)
    for name in systematic:
        np.testing.assert_allclose(up[name], known[name], atol=1e-12)
    common = np.array([up[name] for name in up if name.startswith("common_")])
    assert 1 <= len(common) <= 5 and set(up) == {*systematic, *(n for n in up if "common_" in n)}
    error = np.sqrt(np.diag(known["statistical"]))
    apart = ~np.eye(len(factor), dtype=bool)
    true = (known["statistical"] / np.outer(error, error))[apart]
    left = true - ((common.T @ common) / np.outer(error, error))[apart]
    assert np.sum(left**2) < 0.1 * np.sum(true**2)
    # what is left for a category alone is not negative
    total = reduction.tables["factors"]["factor_err"].to_numpy() ** 2
    assert np.all(total - np.sum(np.square(list(up.values())), axis=0) > -1e-12)


def test_common_part_of_a_covariance_that_is_one():
    random = np.random.default_rng(41)
    shifts = random.normal(0, 0.02, (2, 20))
    own = random.uniform(0.01, 0.03, 20)
    covariance = shifts.T @ shifts + np.diag(own**2)
    found, carried = common_part(covariance, share=1 - 1e-6)
    assert len(found) == 2 and carried > 1 - 1e-6
    np.testing.assert_allclose(found.T @ found, shifts.T @ shifts, atol=3e-6)
    nothing, share = common_part(np.diag(own**2))
    assert len(nothing) == 0 and share == 1


# muons ---------------------------------------------------------------------------------------
def test_factors_of_muons_are_those_of_the_fit(published, small: Run):
    reduction, document = published
    settings = small.calibration.settings
    found = payload.muon_factors_of(reduction, settings)
    assert found is not None
    edges = np.asarray(settings.muons.pt)
    pt, eta = (
        x.ravel()
        for x in np.meshgrid(np.sqrt(edges[1:] * edges[:-1]), [-2.3, -1.0, -0.1, 0.1, 1.0, 2.3])
    )
    read = loaded(document)
    np.testing.assert_allclose(read[payload.MUON].evaluate(pt, eta), found.at(pt, eta), rtol=1e-12)
    error = read[f"{payload.MUON}_uncertainty"].evaluate(pt, eta)
    np.testing.assert_allclose(error, found.error(pt, eta), rtol=1e-12)
    status = read[f"{payload.MUON}_status"].evaluate(pt, eta)
    assert set(status) <= {Status.OK.code, Status.MERGED.code}
    # beyond the ends: the last bin
    assert read[payload.MUON].evaluate(1000.0, 5.0) == read[payload.MUON].evaluate(100.0, 2.3)


def test_without_factors_of_muons_the_payload_says_so(published, small: Run):
    reduction, _ = published
    state = {k: v for k, v in reduction.state.items() if "muons" not in k}
    nothing = replace(reduction, state=state)
    document = small.calibration.publish(nothing)
    found = payload.evaluate_muon(document, np.array([40.0]), np.array([-1.0]))
    assert found is not None
    assert [float(x[0]) for x in found] == [1.0, 1.0, Status.NOT_DETERMINED.code]
    assert all(c.passed for c in small.calibration.check_payload(document, nothing))
    asked = Calibration(Settings(copies=6, compare=(), apply="muon"), [DATA], seed=1)
    checks = asked.check_payload(asked.publish(nothing), nothing)
    assert [c.passed for c in checks] == [True, False]


def test_factors_of_muons_cannot_be_asked_of_a_model_that_has_none():
    with pytest.raises(InputError, match=r"settings\.apply"):
        Calibration(Settings(line_shape="breit_wigner", apply="muon"), [DATA], seed=1).check()


# applied -------------------------------------------------------------------------------------
def test_apply_gives_the_calibrated_resolution(published, small: Run):
    reduction, document = published
    pairs = small.pairs["data"].take(np.arange(500))
    found = Calibration.apply(document, pairs)
    np.testing.assert_allclose(
        found["dimuon_mass_resolution"],
        found["dimuon_mass_resolution_predicted"] * found["dimuon_mass_resolution_factor"],
    )
    assert not any(name.startswith("mu1_") for name in found)
    assert set(np.unique(found["dimuon_mass_resolution_status"])) <= {0, 1, 2}
    assert of_payload(document) is Calibration
    # ptErr of a later calibration: the same prediction
    changed = Calibration.apply_pairs(document, pairs)
    assert _predicted(changed) == pytest.approx(found["dimuon_mass_resolution"], rel=1e-12)


def _predicted(pairs: Any) -> np.ndarray:
    return predicted_mass_resolution(
        pairs.mass, *(m.pt_err / m.pt for m in (pairs.leading, pairs.subleading))
    )


def test_apply_with_factors_of_muons(of_muons, small: Run):
    pairs = small.pairs["data"].take(np.arange(500))
    found = Calibration.apply(of_muons, pairs)
    read = loaded(of_muons)
    muons = (pairs.leading, pairs.subleading)
    factors = [read[payload.MUON].evaluate(m.pt, m.eta) for m in muons]
    for i, factor in enumerate(factors):
        np.testing.assert_allclose(found[f"mu{i + 1}_ptErr_factor"], factor, rtol=1e-12)
    relative = [f * m.pt_err / m.pt for f, m in zip(factors, muons, strict=True)]
    expected = 0.5 * pairs.mass * np.sqrt(relative[0] ** 2 + relative[1] ** 2)
    np.testing.assert_allclose(found["dimuon_mass_resolution"], expected, rtol=1e-12)
    assert np.std(found["dimuon_mass_resolution_factor"]) > 0
    np.testing.assert_allclose(found["dimuon_mass_resolution_predicted"], _predicted(pairs))
    status = [read[f"{payload.MUON}_status"].evaluate(m.pt, m.eta) for m in muons]
    np.testing.assert_array_equal(found["dimuon_mass_resolution_status"], np.maximum(*status))
    # both muons moved by one standard deviation of each, together
    errors = [found[f"mu{i}_ptErr_factor_err"] for i in (1, 2)]
    step = 1e-5
    moved = [
        (f + step * e) * m.pt_err / m.pt for f, e, m in zip(factors, errors, muons, strict=True)
    ]
    change = 0.5 * pairs.mass * np.hypot(*moved) / found["dimuon_mass_resolution_predicted"]
    numeric = (change - found["dimuon_mass_resolution_factor"]) / step
    np.testing.assert_allclose(found["dimuon_mass_resolution_factor_err"], numeric, rtol=1e-3)
    changed = Calibration.apply_pairs(of_muons, pairs)
    assert _predicted(changed) == pytest.approx(expected, rel=1e-12)


def test_an_older_payload_is_one_of_categories(published, small: Run):
    _, document = published
    old = {**document, "corrections": document["corrections"][:3]}
    pairs = small.pairs["data"].take(np.arange(100))
    assert payload.way(old) == "category"
    found, new = (Calibration.apply(d, pairs) for d in (old, document))
    assert list(found) == list(new)
    for name in found:
        np.testing.assert_array_equal(found[name], new[name])
    assert set(Calibration.values(old)["kind"]) == {"factor"}


def test_values_are_those_of_categories_and_of_muons(published):
    reduction, document = published
    table = Calibration.values(document)
    assert dict(table["kind"].value_counts()) == {"factor": 36, "muon_factor": 7 * 8}
    assert table["name"].is_unique
    np.testing.assert_allclose(
        table["value"][:36], reduction.tables["factors"]["factor"], rtol=1e-14
    )


def test_not_a_number_does_not_come_out_as_a_number(published, of_muons):
    factor, _, _ = payload.evaluate(
        published[1], np.array([40.0, np.nan]), np.array([0.1, 0.1]), np.array([-0.2, 0.2])
    )
    assert np.isfinite(factor[0]) and np.isnan(factor[1])
    found = payload.evaluate_muon(
        of_muons, np.array([40.0, np.nan, 30.0]), np.array([0.1, 0.1, np.inf])
    )
    assert found is not None and np.isnan(found[0]).tolist() == [False, True, True]


def test_a_strange_payload_is_refused(of_muons):
    with pytest.raises(InputError, match="belong to no calibration"):
        of_payload({"corrections": [{"name": "jet_energy"}]})
    less = [c for c in of_muons["corrections"] if not c["name"].startswith(payload.MUON)]
    with pytest.raises(InputError, match="no muon_ptErr_factor"):
        payload_of_muons = {**of_muons, "corrections": less}
        Calibration.apply(payload_of_muons, _pair())


def _pair() -> Any:
    from calib.toys.generation import generate

    return generate("z", 10, seed=3).pairs


# moves of a nightly --------------------------------------------------------------------------
def test_effects_are_logarithms_with_the_statistical_covariance(reduced):
    found = effects(reduced.tables, reduced.arrays)
    table, known = reduced.tables["factors"], reduced.arrays["covariance"]
    np.testing.assert_allclose(np.exp(found.values), table["factor"])
    factor = table["factor"].to_numpy()
    np.testing.assert_allclose(
        found.covariance, known["statistical"] / np.outer(factor, factor), rtol=1e-12
    )
    # the systematic part is not in it
    assert np.all(found.errors < table["factor_err"] / factor)
    assert found.own.tolist() == table["status"].isin(["ok", "merged"]).tolist()


def test_effects_of_held_and_unusable_categories(reduced):
    table = reduced.tables["factors"].copy()
    table.loc[0, "status"], table.loc[1, "status"] = "held", "no_template"
    found = effects({"factors": table}, reduced.arrays)
    assert not found.own[0] and np.isfinite(found.values[0])
    assert not found.own[1] and np.isnan(found.values[1])
    assert np.isnan(found.covariance[1, 1]) and np.all(found.covariance[1, 2:] == 0)
    known = found.known()
    assert len(known.names) == 34 and np.isfinite(known.covariance).all()
    # a run of before: no covariance was written
    plain = effects({"factors": table}, {})
    np.testing.assert_allclose(
        plain.errors[2:], (table["factor_err_stat"] / table["factor"])[2:], rtol=1e-12
    )
