"""Edits of single categories: what is not there is named, with the nearest."""

from __future__ import annotations

import pytest

from calib.edits import left_out, require_known
from calib.errors import InputError


def test_unknown_category_and_key() -> None:
    names = ("30-45_BB", "30-45_BO")
    require_known({"30-45_BB": {"use": False}}, names, ("use",))
    with pytest.raises(InputError, match="did you mean '30-45_B"):
        require_known({"30-45_B": {}}, names, ("use",))
    with pytest.raises(InputError, match=r"fits\.csv has the names"):
        require_known({"x": {}}, names, ("use",))
    with pytest.raises(InputError, match="these can: use"):
        require_known({"30-45_BB": {"fit": 1}}, names, ("use",))


def test_left_out() -> None:
    assert left_out({"a": {"use": False}, "b": {"use": True}, "c": {}}) == {"a"}
    with pytest.raises(InputError, match="category a: key 'use'"):
        left_out({"a": {"use": 0}})
