"""Reading payloads from Python."""

import json

import numpy as np
import pytest

import calib
from calib.errors import InputError


def test_a_payload_of_others_is_used_from_arrays(shared_data):
    payload = calib.load_payload(shared_data / "peer_2018_mass_resolution.json")
    n = 5
    found = payload(
        pt=(np.full(n, 50.0), np.full(n, 40.0)),
        eta=(np.full(n, 1.0), np.full(n, -2.0)),
        phi=(np.zeros(n), np.full(n, 3.0)),
        charge=(np.ones(n), -np.ones(n)),
        pt_err=(np.full(n, 0.5), np.full(n, 0.6)),
    )
    predicted = found["dimuon_mass_resolution_predicted"]
    np.testing.assert_allclose(found["dimuon_mass_resolution"] / predicted, 1.0982234878732506)


def test_without_pt_err_it_says_what_is_missing(shared_data):
    payload = calib.load_payload(shared_data / "peer_2018_mass_resolution.json")
    one = np.ones(1)
    with pytest.raises(InputError, match="no ptErr"):
        payload(pt=(one, one), eta=(one, one), phi=(one, -one), charge=(one, -one))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable JSON"),
        ("[]", "not a correctionlib payload"),
        (json.dumps({"schema_version": 2, "corrections": []}), "belong to no calibration"),
        (json.dumps({"schema_version": 2, "corrections": [{"name": "x"}]}), "of schema 2"),
    ],
)
def test_what_is_no_payload_is_refused(tmp_path, text, said):
    path = tmp_path / "payload.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        calib.load_payload(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        calib.load_payload(tmp_path / "payload.json")
