"""Certified luminosity sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.errors import InputError
from processors.certified import is_certified, load_certified


def test_edges_belong_to_a_section(tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps({"7": [[10, 20], [15, 30], [31, 31]], "3": [[5, 5]], "9": []}))
    sections = load_certified(path)
    assert sections == ((3, 5, 5), (7, 10, 31))
    run = np.array([3, 3, 3, 7, 7, 7, 7, 9, 2, 8])
    lumi = np.array([4, 5, 6, 9, 10, 31, 32, 1, 5, 15])
    expected = [False, True, False, False, True, True, False, False, False, False]
    assert is_certified(run, lumi, sections).tolist() == expected


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "[]",
        "{}",
        '"a"',
        '{"a": [[1, 2]]}',
        '{"1": [[2, 1]]}',
        '{"1": [1, 2]}',
        '{"1": [[1, 2, 3]]}',
        '{"1": [[1.5, 2]]}',
        '{"1": 5}',
        '{"-1": [[1, 2]]}',
    ],
)
def test_what_is_no_list_of_sections_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bad\.json: key 'selection\.certified'"):
        load_certified(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_certified(tmp_path / "none.json")
