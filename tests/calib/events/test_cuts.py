"""The language of cuts: what it means, and that nothing else is in it."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import InputError
from calib.events.cuts import event_filter, own_cut
from calib.schema import Selection, validated

VALUES = {
    "a": np.array([1, 2, 3, 250], dtype=np.uint8),
    "b": np.array([0.5, -2.0, np.nan, 3.0], dtype=np.float32),
    "c": np.array([True, False, True, False]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a > 2", [0, 0, 1, 1]),
        ("a - 2 < 0", [1, 0, 0, 0]),
        ("1 < a <= 3", [0, 1, 1, 0]),
        ("1 < 2 < a", [0, 0, 1, 1]),
        ("abs(b) >= 2 and not c", [0, 1, 0, 1]),
        ("c or b == 3", [1, 0, 1, 1]),
        ("b != b", [0, 0, 1, 0]),
        ("-b * 2 + a / 2 > 1", [0, 1, 0, 1]),
        ("c", [1, 0, 1, 0]),
        ("a / (a - 1) > 1e9", [1, 0, 0, 0]),
    ],
)
def test_meaning(text: str, expected: list[int]) -> None:
    cut = own_cut(f"  {text}\n")
    found = cut.passed({name: VALUES[name] for name in cut.branches})
    assert found.dtype == np.bool_ and found.astype(int).tolist() == expected
    assert cut.reason == f"cut {text}" and cut.key == "selection.cuts"


def test_branches_and_their_places() -> None:
    cut = own_cut("abs(Muon_dxy) < 0.2 and Muon_dxy > MET_pt")
    assert list(cut.branches.items()) == [("Muon_dxy", 5), ("MET_pt", 36)] and cut.is_of_muons
    good = event_filter("Flag_goodVertices")
    assert (good.reason, good.key) == ("filter Flag_goodVertices", "selection.filters")
    assert not good.is_of_muons


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MET_pt <", "not understood at character"),
        ("1 < 2", "no branch in '1 < 2' at character 1"),
        ("MET_pt + 1", "no condition"),
        ("MET_pt < sqrt(2)", r"no number and no branch in 'sqrt\(2\)' at character 10"),
        ("x < True", "no number"),
        ("x < 1e999", "no number"),
        ("x in y", "no known comparison"),
        ("x < y[0]", "no number"),
        ("x < y.z", "no number"),
        ("x ** 2 < 1", "no number"),
        ("__import__('os').system('true') == x", "no number"),
        ("(lambda: x)() < 1", "no number"),
        ("x < " + "(" * 300, "not understood"),
        ("x < " + "1 + " * 200 + "1", "characters, expected at most"),
    ],
)
def test_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"key 'selection.cuts.0': .*{said}"):
        validated(Selection, {"cuts": [text]}, "a.yaml", "selection")


def test_given_twice() -> None:
    with pytest.raises(InputError, match="key 'selection.cuts'.*'x < 1' is there twice"):
        validated(Selection, {"cuts": ["x < 1", "x  < 1"]}, "a.yaml", "selection")
