"""The sections of the page: what is drawn, and what the texts say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from calib.calibrations.mass_resolution.report.muon_figures import closure_map
from calib.calibrations.mass_resolution.report.sections import sections
from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.closure_rows import kinds_of
from calib.calibrations.mass_resolution.sums.collect import categories
from calib.results import Closure, Section

from .conftest import Run

SETTINGS = Settings()


def closure_table(off: float = 0.0) -> pd.DataFrame:
    """Both kinds of factors in fine |eta|, half by half; ``off`` is the mean of the category's."""
    names = kinds_of(SETTINGS, np.array([1, 10]), False).labels["abs_eta"]
    parts = []
    for factors, shift in (("category", off), ("muon", 0.0)):
        for half in (0, 1):
            parts.append(
                pd.DataFrame(
                    {
                        "bin": names,
                        "expected": 1.0,
                        "fitted": 1.0 + shift,
                        "error": 0.02,
                        "pull": shift / 0.02,
                        "status": "ok",
                        "kind": "abs_eta",
                        "factors": factors,
                        "half": half,
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True)
    table.loc[3, ["fitted", "error", "pull"]] = np.nan
    return table


@pytest.fixture(scope="module")
def found(small: Run, reduced) -> dict[str, Section]:
    closure = Closure(closure_table(), ())
    own = small.calibration
    listed = sections(reduced, closure, None, own.settings, own.categories)
    return {s.title: s for s in listed}


def test_every_part_of_the_result_has_a_place(found):
    assert list(found) == [
        "Factors",
        "Factors of muons",
        "Line shape",
        "Resolution inside the rings",
        "Models side by side",
    ]
    assert set(found["Factors"].tables) == {"factors", "rings"}
    text = " ".join(s.text for s in found.values())
    assert "merged parent" not in text and "category" in found["Factors of muons"].text
    table = found["Factors of muons"].tables["muon_factors"]
    assert len(table) == 8 and (table["factor_err"] > 0).all()


def test_without_factors_of_muons_there_is_no_such_section(reduced):
    state = {k: v for k, v in reduced.state.items() if "muons" not in k}
    less = replace(reduced, state=state)
    listed = sections(less, None, None, SETTINGS, categories(SETTINGS))
    assert [s.title for s in listed] == ["Factors", "Line shape", "Models side by side"]


def test_the_map_holds_the_mean_of_the_halves():
    figure = closure_map(closure_table(off=0.08), SETTINGS)
    left, right = figure.axes[:2]
    numbers = [[t.get_text() for t in axes.texts] for axes in (left, right)]
    assert [len(n) for n in numbers] == [36, 36]  # the untested half counts for nothing
    assert set(numbers[0]) == {"+8.0"} and set(numbers[1]) == {"+0.0"}
    assert all(t.get_weight() == "bold" for t in left.texts)
    # 0.08 / 0.02 in each half, and one half of one bin is not tested
    assert f"{35 * 32 + 16} / 36" in left.get_title()
