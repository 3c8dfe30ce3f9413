"""Old names of modules lead to the modules of today, with a word about it."""

from __future__ import annotations

import importlib
import sys

import pytest

from calib import moved


@pytest.mark.parametrize("old", moved.NOW)
def test_an_old_name_is_the_module_of_today(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=moved.NOW[old]):
        found = importlib.import_module(old)
    assert found is importlib.import_module(moved.NOW[old])
    assert found.__name__ == found.__spec__.name == moved.NOW[old]
    assert importlib.import_module(old) is found


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("calib.never_was")
