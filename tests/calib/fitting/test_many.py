"""Fits of many categories: truth, agreement, limits, sentences."""

from __future__ import annotations

import numpy as np
import pytest

import calib
from calib.errors import InputError
from tests.calib.fitting.kernel.toys import toys


def test_limits_get_a_status_and_do_not_stop_the_others():
    data = toys(8, 1)
    counts, templates = data.counts.copy(), data.templates.copy()
    counts[0] = 0
    counts[1] = 0
    counts[1, 50] = 900
    counts[2] = -1
    templates[3] = 0
    variance = np.maximum(np.abs(counts), 1e-3)
    found = calib.fit_categories(
        counts, data.edges, templates, data.mass, engine="numpy", variance=variance
    )
    assert list(found.status[:4]) == ["too_few_events", "at_limit", "too_few_events", "no_template"]
    assert found.ok[4:].all()
    for name in ("mu", "sigma", "background", "slope", "nll", "chi2"):
        assert np.isfinite(getattr(found, name)[found.ok]).all()
        assert np.isnan(getattr(found, name)[[0, 2, 3]]).all()


def test_no_background_at_all_is_an_answer_with_an_error():
    data = toys(40, 6, events=(800, 1000), background=(0.0, 1e-9))
    found = calib.fit_categories(*data.arrays, engine="numpy")
    zero = found.background == 0
    assert zero.sum() > 5
    assert (found.status[zero] == "ok").all()
    assert found.at_limit[zero, 2].all()
    assert ((found.background_err[zero] > 0) & (found.background_err[zero] < 0.1)).all()
    fixed = calib.fit_categories(*data.arrays, engine="numpy", background="none")
    assert fixed.ok.all()
    assert (fixed.background == 0).all() and (fixed.background_err == 0).all()
    assert np.abs((fixed.mu - found.mu)[zero] / fixed.mu_err[zero]).max() < 0.05


BAD = {
    "counts": lambda a: {**a, "counts": a["counts"][:, :-1]},
    "edges": lambda a: {**a, "edges": a["edges"][::-1]},
    "templates": lambda a: {**a, "templates": a["templates"][:3]},
    "template_mass": lambda a: {**a, "template_mass": a["template_mass"][:-1]},
    "negative": lambda a: {**a, "counts": a["counts"] - 5},
    "not finite": lambda a: {**a, "counts": np.where(a["counts"] > 50, np.nan, a["counts"])},
    "outside the template": lambda a: {**a, "edges": a["edges"] + 3},
    "engine": lambda a: {**a, "engine": "root"},
}


@pytest.mark.parametrize("words", BAD)
def test_arrays_that_do_not_fit_are_refused_in_a_sentence(words):
    data = toys(5, 1)
    names = ("counts", "edges", "templates", "template_mass")
    arguments = dict(zip(names, data.arrays, strict=True))
    with pytest.raises(InputError, match=words) as error:
        calib.fit_categories(**BAD[words](arguments))
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)
