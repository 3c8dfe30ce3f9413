"""The values in payloads as tables, and their distances."""

import numpy as np
import pandas as pd

import calib
from calib.payload.values import apart, numbers, table


def test_values_are_compared_by_name_and_with_both_errors():
    one = table(["a", "b", "c"], "x", [1.0, 2.0, 3.0], [0.3, 0.1, 0.1], [0, 1, 2])
    other = table(["c", "a", "d"], "x", [3.1, 2.0, 9.0], [0.0, 0.4, 0.1], [0, 9, 0])
    found = apart(one, other).set_index("name")
    assert list(found.index) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(found.loc[["a", "c"], "difference"], [1.0, 0.1])
    np.testing.assert_allclose(found.loc[["a", "c"], "sigma"], [2.0, 1.0])
    assert found.loc[["b", "d"], "sigma"].isna().all()
    assert found.loc["a", "status_1"] == "ok" and found.loc["c", "status_1"] == "held"


def test_a_factor_is_named_by_its_bins(shared_data):
    payload = calib.load_payload(shared_data / "peer_2018_mass_resolution.json")
    found = payload.to_dataframe().set_index("name")
    assert payload.calibration == "mass_resolution" and len(found) == 36
    # the cell of the published payload that nobody looked at, see PHYSICS 1
    assert found.loc["30-45 1.8-2.4 1.8-2.4", "value"] == np.float64(found["value"].min())
    assert abs(found["value"].min() - 0.0629) < 1e-4


def test_any_payload_has_its_numbers():
    tree = {
        "nodetype": "category",
        "input": "kind",
        "content": [
            {"key": "x", "value": {"nodetype": "binning", "content": [1.5, 2.5]}},
            {"key": "y", "value": 4.0},
        ],
    }
    found = numbers({"corrections": [{"name": "other"}, {"name": "mine", "data": tree}]}, "mine")
    assert dict(zip(found["name"], found["value"], strict=True)) == {
        "mine/x/0": 1.5,
        "mine/x/1": 2.5,
        "mine/y": 4.0,
    }
    assert found["error"].isna().all() and isinstance(found, pd.DataFrame)
