from __future__ import annotations

import json

import correctionlib
import correctionlib.schemav2 as schema
import numpy as np
import pytest

from calib.calibrations import of_payload
from calib.calibrations.mass_resolution import Calibration, payload
from calib.errors import InputError

from .conftest import Run


@pytest.fixture(scope="module")
def published(small: Run, reduced):
    return reduced, small.calibration.publish(reduced)


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
    loaded = correctionlib.CorrectionSet.from_string(json.dumps(document))
    at = reduction.tables["factors"].set_index("category").loc["45-52_OE", "factor"]
    assert loaded[payload.NAME].evaluate(47.0, 1.2, 2.0) == pytest.approx(at, rel=1e-14)


def test_read_back_agrees_and_a_changed_cell_is_noticed(published, small: Run):
    reduction, document = published
    assert small.calibration.check_payload(document, reduction)[0].passed
    changed = json.loads(json.dumps(document))
    changed["corrections"][0]["data"]["content"][5] *= 1 + 1e-6
    assert not small.calibration.check_payload(changed, reduction)[0].passed


def test_apply_gives_the_calibrated_resolution(published, small: Run):
    reduction, document = published
    pairs = small.pairs["data"].take(np.arange(500))
    found = Calibration.apply(document, pairs)
    np.testing.assert_allclose(
        found["dimuon_mass_resolution"],
        found["dimuon_mass_resolution_predicted"] * found["dimuon_mass_resolution_factor"],
    )
    assert set(np.unique(found["dimuon_mass_resolution_status"])) <= {0, 1, 2}
    assert of_payload(document) is Calibration


def test_not_a_number_does_not_come_out_as_a_number(published):
    factor, _, _ = payload.evaluate(
        published[1], np.array([40.0, np.nan]), np.array([0.1, 0.1]), np.array([-0.2, 0.2])
    )
    assert np.isfinite(factor[0]) and np.isnan(factor[1])


def test_a_strange_payload_is_refused():
    with pytest.raises(InputError, match="belong to no calibration"):
        of_payload({"corrections": [{"name": "jet_energy"}]})
