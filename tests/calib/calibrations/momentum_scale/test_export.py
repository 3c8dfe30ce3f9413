"""The layout of others: m and a, and an honest word about e."""

from __future__ import annotations

import json

import correctionlib
import numpy as np
import pytest
from correctionlib.schemav2 import CorrectionSet
from typer.testing import CliRunner

from calib.calibrations.momentum_scale.payloads import export as exporting
from calib.calibrations.momentum_scale.payloads import payload
from calib.errors import InputError
from jobs.cli import app
from jobs.run import payloads

from . import synthetic

MIDDLE = 0.5 * (synthetic.EDGES[1:] + synthetic.EDGES[:-1])
LAYOUT = "additive_multiplicative"


@pytest.fixture(scope="module")
def reduction():
    return synthetic.reduction()


@pytest.fixture(scope="module")
def document(reduction):
    return payload.document(reduction)


def loaded(document):
    CorrectionSet.model_validate(document)
    return correctionlib.CorrectionSet.from_string(json.dumps(document, allow_nan=False))


def pt_of_others(found, label: str, pt: float, charge: int) -> np.ndarray:
    m, a = (found[f"{x}_{label}"].evaluate(MIDDLE, 0.3, "nom") for x in "ma")
    return 1 / (m / pt + charge * a)


@pytest.mark.parametrize("label, name", [("data", payload.NAME), ("mc", payload.SIMULATION)])
@pytest.mark.parametrize("charge", [-1, 1])
def test_it_is_the_correction_without_e(document, label, name, charge):
    own, found = loaded(document), loaded(exporting.export(document, LAYOUT).document)
    e = own[f"{name}_parameters"].evaluate(MIDDLE, "e")
    assert e.max() > 2e-3
    for pt in (6.0, 45.0):
        full = own[name].evaluate(pt, MIDDLE, charge, "nom")
        without = 1 / (1 / full + e / pt**2)
        np.testing.assert_allclose(pt_of_others(found, label, pt, charge), without, rtol=1e-13)


def test_absorbed_at_a_pt_it_is_exact_there(document):
    own, found = loaded(document), loaded(exporting.export(document, LAYOUT, at=45.0).document)
    for charge in (-1, 1):
        full = own[payload.NAME].evaluate(45.0, MIDDLE, charge, "nom")
        np.testing.assert_allclose(pt_of_others(found, "data", 45.0, charge), full, rtol=1e-13)
        full = own[payload.NAME].evaluate(6.0, MIDDLE, charge, "nom")
        assert np.max(np.abs(pt_of_others(found, "data", 6.0, charge) / full - 1)) > 2e-4


def test_the_shift_that_is_said_is_the_shift_that_is_made(document):
    for at in (None, 45.0):
        made = exporting.export(document, LAYOUT, at)
        own, found = loaded(document), loaded(made.document)
        for pt in (6.0, 10.0, 45.0):
            moved = np.concatenate(
                [
                    pt_of_others(found, "data", pt, q)
                    / own[payload.NAME].evaluate(pt, MIDDLE, q, "nom")
                    - 1
                    for q in (-1, 1)
                ]
            )
            moved = moved[np.tile(np.arange(synthetic.N_ETA) != synthetic.BAD, 2)]
            said = made.numbers["data"][f"{pt:g}"]
            assert said["mean"] == pytest.approx(moved.mean(), abs=1e-13)
            assert abs(said["largest"]) == pytest.approx(np.abs(moved).max(), abs=1e-13)
            assert f"at {pt:g} GeV {said['largest']:+.1e} at most" in made.document["description"]
    assert "absorbed in m at a pt of 45 GeV" in made.document["description"]


def test_errors_are_those_of_the_bin(reduction, document):
    made = loaded(exporting.export(document, LAYOUT).document)
    n = synthetic.N_ETA
    good = np.arange(n) != synthetic.BAD
    covariance = np.asarray(reduction.state["covariance"])
    for name, first in (("m", 0), ("a", 2 * n)):
        expected = np.sqrt(np.diagonal(covariance)[first : first + n])
        found = made[f"{name}_data"].evaluate(MIDDLE, 0.0, "stat")
        np.testing.assert_allclose(found[good], expected[good], rtol=1e-12)
        assert found[synthetic.BAD] == 1.0
    # with e absorbed, m has the error of A - e / pt, smaller: A and e hang together
    at = loaded(exporting.export(document, LAYOUT, at=6.0).document)
    i, e = 5, n + 5
    v = covariance[i, i] - 2 * covariance[i, e] / 6 + covariance[e, e] / 36
    assert at["m_data"].evaluate(MIDDLE[i], 0.0, "stat") == pytest.approx(np.sqrt(v), rel=1e-9)
    assert abs(at["m_data"].evaluate(MIDDLE[i], 0.0, "rho_stat")) <= 1


def test_outside_and_without_a_value_nothing_is_corrected(document):
    found = loaded(exporting.export(document, LAYOUT, at=45.0).document)
    for eta in (-2.41, 2.4, 5.0, MIDDLE[synthetic.BAD]):
        assert found["m_data"].evaluate(eta, 0.0, "nom") == 1.0
        assert found["a_data"].evaluate(eta, 0.0, "nom") == 0.0


def test_refused(document):
    with pytest.raises(InputError, match="--layout: found 'rochester'"):
        exporting.export(document, "rochester")
    for at in (0.0, -3.0, float("nan")):
        with pytest.raises(InputError, match="--at"):
            exporting.export(document, LAYOUT, at)


def test_no_simulation_no_mc():
    document = payload.document(synthetic.reduction(simulation=False))
    names = [c["name"] for c in exporting.export(document, LAYOUT).document["corrections"]]
    assert names == ["a_data", "m_data"]


# the command -------------------------------------------------------------------------------------
def command(*arguments: object):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def path(document, tmp_path_factory):
    where = tmp_path_factory.mktemp("payload") / "payload.json"
    payloads.write(where, document)
    return where


def test_command_writes_and_says_what_is_lost(path, document, tmp_path):
    out = tmp_path / "scale.json"
    done = command(path, out, "--layout", LAYOUT)
    assert done.exit_code == 0, done.output
    assert "has no e, the energy loss: it is dropped" in done.output
    made = exporting.export(document, LAYOUT)
    assert all(sentence in done.output for sentence in made.lost)
    assert json.loads(out.read_text()) == json.loads(json.dumps(made.document))
    again = command(path, tmp_path / "at.json", "--at", 45, "--json")  # the one layout is default
    found = json.loads(again.stdout)
    assert found["layout"] == LAYOUT and found["numbers"]["at"] == 45
    assert abs(found["numbers"]["data"]["45"]["largest"]) < 1e-12
    assert abs(found["numbers"]["data"]["6"]["largest"]) > 2e-4


def test_command_refuses_in_one_sentence(path, tmp_path):
    (tmp_path / "there.json").write_text("{}")
    for arguments, said in (
        ((path, tmp_path / "there.json"), "exists already"),
        ((path, tmp_path / "out.txt"), "name it *.json"),
        ((path, tmp_path / "no" / "out.json"), "there is no directory"),
        ((path, tmp_path / "out.json", "--layout", "rochester"), "'rochester'"),
        ((path, tmp_path / "out.json", "--at", -1), "--at"),
        ((tmp_path / "none.json", tmp_path / "out.json"), "none.json"),
    ):
        done = command(*arguments)
        assert done.exit_code == 2 and said in done.stderr, (said, done.output)
    assert [p.name for p in tmp_path.iterdir()] == ["there.json"]


def test_a_calibration_without_other_layouts_says_so(shared_data, tmp_path):
    done = command(shared_data / "peer_2018_mass_resolution.json", tmp_path / "out.json")
    assert done.exit_code == 2 and "has no other layouts" in done.stderr
