"""From parameters to a payload and back: with correctionlib alone, and against tampering."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import correctionlib
import numpy as np
import pytest

from calib.errors import CalibError
from calib.events.categories import Axis
from calib.payload.parameters import (
    Formula,
    StatusTable,
    Table,
    Term,
    document,
    earlier_values,
    read_back,
    spec_of,
    values,
)
from calib.payload.payload import validate
from calib.results import Parameters, Reduction, Status, with_covariance

AXES = (
    Axis("shape", (0, 1, 2), ("small", "large"), whole=True),
    Axis("eta", (-2.4, -0.8, 0.8, 2.4)),
)
PAYLOAD: dict[str, Any] = {
    "sigma_{key}": Formula(
        "sqrt(a^2 + b^2 * u)",
        "Sigma of {what}",
        output="sigma",
        unit="um",
        inputs={"pt": "GeV"},
        ranges={"pt": (2.0, 50.0)},
        terms={"u": {"d0": Term("scale/pt^2"), "z0": "2*scale/pt^2"}},
        constants={"scale": (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)},
        variations=("error", "common"),
    ),
    "{key}": Table("a and b"),
    "status_{key}": StatusTable(),
    "a_{key}": Formula("a", outside=-1.0, unusable=1.0),
}


def found(seed: int = 1, what: str = "d0") -> Parameters:
    random = np.random.default_rng(seed)
    mixed = 0.1 * random.normal(size=(12, 12))
    covariance = mixed @ mixed.T + 0.05 * np.eye(12)
    status = [Status.OK] * 4 + [Status.MERGED, Status.TOO_FEW_EVENTS]
    own = [Status.OK] * 4 + [Status.TOO_FEW_EVENTS] * 2
    fallback = ("",) * 4 + ("e0", "")
    value = np.column_stack([random.uniform(5, 20, 6), random.uniform(40, 90, 6)])
    labels = {"sample": "data", "what": what}
    return Parameters(
        AXES,
        ("a", "b"),
        ("um", "um GeV"),
        value,
        covariance,
        status,
        fallback,
        labels=labels,
        own_status=own,
        n_events=np.arange(6) + 100,
    )


@pytest.fixture
def both() -> dict[str, Parameters]:
    return {"d0": found(), "z0": found(2, "z0")}


def test_correctionlib_alone_gives_values_errors_and_status(both: dict[str, Parameters]) -> None:
    made = document(PAYLOAD, both, "toys")
    validate(made, json.dumps(made))
    payload = correctionlib.CorrectionSet.from_string(json.dumps(made))
    assert set(payload) == {f"{n}{k}" for k in both for n in ("sigma_", "", "status_", "a_")}
    own, covariance = both["z0"], both["z0"].of_bin(4)
    a, b = own.values[4]
    u = 2 * 2.0 / 7.0**2
    sigma = np.sqrt(a**2 + b**2 * u)
    slope = np.array([a, b * u]) / sigma
    error = np.sqrt(slope @ covariance @ slope)
    f = payload["sigma_z0"]
    assert [i.name for i in f.inputs] == ["variation", "shape", "eta", "pt"]
    assert f.evaluate("nom", 1, 0.2, 7.0) == pytest.approx(sigma, rel=1e-12)
    assert f.evaluate("up", 1, 0.2, 7.0) - sigma == pytest.approx(error, rel=1e-9)
    assert sigma - f.evaluate("down", 1, 0.2, 7.0) == pytest.approx(error, rel=1e-9)
    assert f.evaluate("nom", 1, 2.0, 7.0) == 0.0  # of this bin nothing may be used
    table = payload["z0"]
    assert table.evaluate("b_err", 1, 0.2) == pytest.approx(np.sqrt(covariance[1, 1]))
    assert table.evaluate("covariance", 1, 0.2) == pytest.approx(covariance[0, 1])
    assert [table.evaluate(w, 1, 2.0) for w in ("a", "status")] == [0.0, 3.0]
    assert payload["status_z0"].evaluate(1, 0.2) == Status.MERGED.code
    plain = payload["a_z0"]
    assert [plain.evaluate(1, x) for x in (0.2, 2.0, 3.0)] == pytest.approx([a, 1.0, -1.0])
    with pytest.raises((IndexError, RuntimeError)):
        plain.evaluate(2, 0.2)


def test_common_shifts_are_those_of_all_bins_together(both: dict[str, Parameters]) -> None:
    payload = correctionlib.CorrectionSet.from_string(json.dumps(document(PAYLOAD, both, "toys")))
    own, f = both["d0"], payload["sigma_d0"]
    words = f.inputs[0].description.split(", ")
    shifts = [w.removesuffix("_up") for w in words if w.startswith("common") and w.endswith("_up")]
    assert shifts and {f"{w}_down" for w in shifts} <= set(words)
    # at infinite pt it is a itself: the shifts carry no more than its variance
    at = [(s, e) for s in (0, 1) for e in (-1.0, 0.0, 1.0)][:5]
    moves = np.array(
        [[f.evaluate(f"{w}_up", *x, 1e9) - f.evaluate("nom", *x, 1e9) for x in at] for w in shifts]
    )
    variance = np.diagonal(own.covariance)[0:10:2]
    assert np.all(np.sum(moves**2, axis=0) <= variance * (1 + 1e-9))


def test_read_back_sees_what_was_tampered_with(both: dict[str, Parameters]) -> None:
    made = document(PAYLOAD, both, "toys")
    assert read_back(made, PAYLOAD, both, seed=1).passed

    def nodes(own: Any) -> Any:
        for item in own["data"]["content"]:
            yield item["value"]["content"][0]["value"]["content"]

    for name, place in (("sigma_d0", 1), ("z0", 0)):
        wrong = copy.deepcopy(made)
        own = next(c for c in wrong["corrections"] if c["name"] == name)
        content = list(nodes(own))[place]
        if isinstance(content[0], dict):
            content[0]["parameters"][0] *= 1.001
        else:
            content[0] *= 1.001
        check = read_back(wrong, PAYLOAD, both, seed=1)
        assert not check.passed and check.value > 100
    gone = {**made, "corrections": [c for c in made["corrections"] if c["name"] != "z0"]}
    assert read_back(gone, PAYLOAD, both, seed=1).value == 5000


def test_a_term_with_a_function_is_compared_with_it() -> None:
    own = {"": found()}
    for factor in (1.0, 1.01):
        term = Term("1/pt^2", lambda pt, factor=factor, **_: factor / pt**2)
        spec = Formula("a*u", inputs={"pt": ""}, ranges={"pt": (2.0, 9.0)}, terms={"u": term})
        check = read_back(document({"f": spec}, own, ""), {"f": spec}, own, seed=2)
        assert check.passed == (factor == 1.0)


def test_an_input_without_a_range_is_named() -> None:
    own, spec = {"": found()}, Formula("a*pt", inputs={"pt": "GeV"})
    with pytest.raises(CalibError, match=r"payload 'f': input 'pt' has no range"):
        read_back(document({"f": spec}, own, ""), {"f": spec}, own, seed=2)


def test_values_are_named_by_their_bins(both: dict[str, Parameters]) -> None:
    made = values(document(PAYLOAD, both, "toys"), PAYLOAD)
    assert made is not None and len(made) == 24
    row = made.set_index("name").loc["d0 shape [0, 1) eta [-0.8, 0.8) b"]
    assert row["value"] == pytest.approx(both["d0"].values[1, 1])
    assert row["error"] == pytest.approx(both["d0"].errors[1, 1])
    assert set(made["status"]) == {"ok", "merged", "too_few_events"}
    assert values(document({"f": Formula("a")}, {"": found()}, ""), {"f": Formula("a")}) is None


def test_an_earlier_payload_is_read_at_the_bins_of_this_one(both: dict[str, Parameters]) -> None:
    made = document(PAYLOAD, both, "toys")
    value, error = earlier_values(made, PAYLOAD, "z0", both["z0"], "b")
    np.testing.assert_allclose(value[:5], both["z0"].values[:5, 1], rtol=1e-14)
    np.testing.assert_allclose(error[:5], both["z0"].errors[:5, 1], rtol=1e-14)
    assert np.isnan(value[5]) and np.isnan(error[5])
    assert np.isnan(earlier_values(made, PAYLOAD, "none", both["z0"], "b")[0]).all()
    assert spec_of(PAYLOAD, "sigma_d0")[0] == "d0" and spec_of(PAYLOAD, "d0")[0] == "d0"


def test_tables_and_covariance_follow(both: dict[str, Parameters]) -> None:
    made = Reduction(both["d0"].as_fits("data"), parameters=both)
    table = made.tables["parameters"]
    assert list(table.columns[:6]) == ["sample", "what", "bin", "shape", "eta_low", "eta_high"]
    assert len(table) == 12 and table["held_at"].tolist()[4] == "e0"
    covariance = made.arrays["covariance"]
    assert list(covariance["names"][:2]) == [f"d0_{both['d0'].bins[0]}_{n}" for n in "ab"]
    np.testing.assert_array_equal(covariance["covariance"][12:, 12:], both["z0"].covariance)
    assert not covariance["covariance"][:12, 12:].any()
    assert with_covariance(both)["values"].shape == (24,)
    assert not both["d0"].all_usable().passed and both["d0"].all_usable().value == 1


def test_shapes_are_looked_at() -> None:
    for field, value in (("values", np.ones((6, 3))), ("covariance", np.eye(11)), ("status", ())):
        with pytest.raises(ValueError, match=field):
            replace(found(), **{field: value})
