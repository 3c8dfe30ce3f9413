"""The page of 20 000 fits of many categories: below 10 MB, and a browser opens it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import calib
from calib.fitting.models.kernel import KernelPeak
from calib.results import Curve, Reduction
from jobs.pages.report import write_report
from tests.calib.fitting.kernel.toys import toys
from tests.jobs import test_report

N = 20_000
opened = test_report.opened
"""The fixture that opens a page in a browser."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the page of real fits of 200 categories, each 100 times with its own fluctuation."""
    data = toys(200, 41, events=(500, 5000))
    found = calib.fit_categories(*data.arrays)
    assert found.ok.all()
    random = np.random.default_rng(42)
    fits = found.to_dataframe().loc[np.arange(N) % 200].reset_index(drop=True)
    fits = fits.assign(sample="data", category=[f"c{i:05d}" for i in range(N)], reason="")
    models = []
    for i in range(200):
        peak = KernelPeak(data.edges, data.templates[i], data.mass)
        values = [getattr(found, name)[i] for name in ("mu", "sigma", "background", "slope")]
        total = data.counts[i].sum()
        background = values[2] * peak.background(values[3]) * total
        models.append((peak(*values) * total, background))
    curves = []
    for i in range(N):
        model, background = models[i % 200]
        counts = random.poisson(model).astype(float)
        curves.append(
            Curve(
                f"c{i:05d}",
                data.edges,
                counts,
                counts,
                model,
                background,
                "categories",
                "GeV",
                "step: first",
            )
        )
    reduction = Reduction(fits, {}, {}, tuple(curves), (), {})
    folder = tmp_path_factory.mktemp("many")
    return write_report(
        folder, replace(test_report.context(), reduction=reduction, closure=None, sections=())
    )


def test_it_is_below_ten_megabytes(page):
    assert 1e6 < page.stat().st_size < 10e6


def test_a_browser_opens_it_and_draws_one_of_the_last_fits(page, opened):
    found = opened(page, "#fit=c19998")
    assert "data-error" not in found and 'data-ready="1"' in found
    assert 'data-drawn="c19998"' in found
    drawing = found[found.index('id="fit-drawing"') :]
    assert drawing.count('class="pull"') > 50
    assert len(re.findall(r'<tr data-fit="\d+"', found)) > 10
