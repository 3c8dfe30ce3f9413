"""The page: complete, escaped, without network, and working in a real browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calib.plots import figures as plots
from calib.results import Closure, Curve, Reduction, Section, Status
from calib.schema import Sample
from jobs.config.schema import Config
from jobs.pages import report_fits
from jobs.pages.report import ReportContext, stages, write_report
from jobs.pages.report_tables import number, table, with_error

EVIL = "<script>window.evil=1</script>"
NAMES = [
    f"{pt}_{a}{b}" for pt in ("30-45", "45-52", "52-62", "62-200") for a in "BOE" for b in "BOE"
]


def curve(name: str, n: int = 3000, group: str = "categories", weight: float = 1.0) -> Curve:
    rng = np.random.default_rng(sum(name.encode()))
    edges = np.linspace(80.0, 100.0, 121)
    middle = 0.5 * (edges[1:] + edges[:-1])
    peak = 1 / ((middle - 91.1) ** 2 + 3.0)
    background = np.exp(-0.04 * (middle - 80))
    background *= 0.06 * n / background.sum()
    model = 0.94 * n * peak / peak.sum() + background
    counts = rng.poisson(model) * weight
    return Curve(
        name,
        edges,
        counts,
        counts * weight,
        model * weight,
        background * weight,
        group,
        "GeV",
        "sigma 1.234 GeV, step: first",
    )


def context(names: list[str] = NAMES, fitted: bool = True) -> ReportContext:
    """Return what a run hands over; without a fit every category has too few events."""
    status = "ok" if fitted else "too_few_events"
    value = 1.0432 if fitted else np.nan
    curves = tuple(curve(n) for n in names) if fitted else ()
    fits = pd.DataFrame(
        {
            "sample": "data",
            "category": names,
            "n_events": 3000.0 if fitted else 2.0,
            "chi2": 118.2 if fitted else np.nan,
            "ndf": 116 if fitted else 0,
            "status": status,
            "reason": "" if fitted else "2 events, 1000 needed",
        }
    )
    factors = pd.DataFrame(
        {"category": names, "factor": value, "factor_err": 0.0123 * value, "status": status}
    )
    closure = pd.DataFrame(
        {
            "bin": ["0.7-0.8", "0.8-0.9"],
            "expected": [0.75, 0.85],
            "fitted": [0.751, 0.849] if fitted else np.nan,
            "error": 0.01 if fitted else np.nan,
            "pull": [0.1, -0.1] if fitted else np.nan,
            "status": status,
        }
    )
    counts = {"read": 100, "selected": 60, "rejected": {"same_sign": 30, "leading_pt": 10}}
    samples = (Sample(name="data", resonance="z", format="stage1", files=("a.parquet",)),)
    return ReportContext(
        config=Config(name="z-2018", calibration="mass_resolution", samples=samples),
        reduction=Reduction(fits, {"factors": factors}, {}, curves, (), {}),
        closure=Closure(closure, (), (curve("0.7-0.8", group="closure"),) if fitted else ()),
        sections=(
            Section("Factors", "One paragraph.\n\nAnother.", {"factors": factors}),
            Section("Models", "", {}, {"pulls": plots.pull_histogram(np.zeros(3))}, "appendix"),
        ),
        verdict={
            "passed": fitted,
            "checks": [
                {
                    "name": "closure",
                    "value": 0.34 if fitted else None,
                    "threshold": 0.001,
                    "passed": fitted,
                    "text": "probability of the worst pull",
                }
            ],
        },
        accounting={
            "samples": {
                "data": {
                    "files": [{"path": "a.parquet", "events": 100, **counts}],
                    "totals": {"events": 100, **counts},
                }
            },
            "bad_files": [],
            "notes": ["no luminosityBlock"],
        },
        provenance={
            "written": "2026-11-21T10:05:00+00:00",
            "git_commit": "4725f79a" * 5,
            "packages": {"numpy": "2.4.6"},
            "machine": {"cores": 2},
            "inputs": [{"sample": "data", "path": "a.parquet", "size": 10, "events": 100}],
            "steps": {"reduce": {"wall_s": 1.5, "cpu_s": 1.4}},
        },
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Return a page for the tests that only look at it."""
    return write_report(tmp_path_factory.mktemp("run"), context())


# what is written -----------------------------------------------------------------------------
def test_the_page_and_its_figures_are_written(page):
    text = page.read_text(encoding="utf-8")
    assert page.name == "report.html"
    words = (
        "Passed",
        "z-2018",
        "21 Nov 2026, 10:05 UTC",
        "4725f79a4725",
        "Another.",
        "1.043 ± 0.013",
        "no luminosityBlock",
        "same sign",
        "numpy",
        "Appendix",
    )
    for word in words:
        assert word in text
    figures = {p.name for p in (page.parent / "plots").iterdir()}
    assert {"fit_pulls.png", "fit_probabilities.svg", "closure.png", "pulls.svg"} <= figures
    assert not [f for f in figures if f.endswith(".part")]


def test_figures_that_are_no_longer_made_are_removed_and_nobody_elses(tmp_path):
    folder = tmp_path / "plots"
    write_report(tmp_path, context())
    assert (folder / "pulls.svg").is_file() and (folder / "closure.png").is_file()
    (folder / "mine.png").write_bytes(b"")
    without = context()
    write_report(tmp_path, replace(without, sections=without.sections[:1], closure=None))
    left = {p.name for p in folder.iterdir()}
    assert left == {
        "fit_pulls.png",
        "fit_pulls.svg",
        "fit_probabilities.png",
        "fit_probabilities.svg",
        "mine.png",
    }


def test_the_order_is_verdict_title_sections_fits_closure_accounting(page):
    text = page.read_text(encoding="utf-8")
    places = [
        text.index(word)
        for word in (
            'id="verdict"',
            "<h1>",
            'id="section-1"',
            'id="fits"',
            'id="closure"',
            'id="accounting"',
            'id="provenance"',
            'id="settings"',
            'id="section-2"',
        )
    ]
    assert places == sorted(places)


def test_the_page_is_self_contained(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:image/|\#)""", text)
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text


def test_the_same_result_makes_the_same_page(tmp_path, page):
    assert write_report(tmp_path, context()).read_bytes() == page.read_bytes()


def test_a_page_of_too_few_events_has_dashes_not_nan(tmp_path):
    text = write_report(tmp_path, context(fitted=False)).read_text(encoding="utf-8")
    assert "Not passed" in text and "too few events" in text and "–" in text
    assert "There is no fit.</p>" not in text
    visible = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    assert not re.search(r"\bnan\b", re.sub(r"data:image[^\"]*", "", visible), flags=re.I)


def test_nothing_known_at_all_is_still_a_page(tmp_path):
    empty = Reduction(pd.DataFrame(columns=["sample", "category"]), {}, {}, (), (), {})
    bare = replace(
        context(),
        reduction=empty,
        closure=None,
        sections=(),
        verdict={"passed": False},
        accounting={},
        provenance={},
    )
    text = write_report(tmp_path, bare).read_text(encoding="utf-8")
    assert "There is no fit.</p>" in text and "No closure test has been made" in text


def test_an_old_page_stays_if_the_new_one_fails(tmp_path):
    page = write_report(tmp_path, context())
    before = page.read_bytes()

    class Broken:
        def savefig(self, *args: object, **kwargs: object) -> None:
            raise OSError("disk full")

    bad = replace(context(), sections=(Section("x", figures={"x": Broken()}),))
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, bad)
    assert page.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def evil_context() -> ReportContext:
    given = context([EVIL, *NAMES[:3]])
    accounting = {
        "samples": {
            EVIL: {
                "files": [{"path": EVIL, "rejected": {EVIL: 1}}],
                "totals": {"events": 1, "read": 1, "rejected": {EVIL: 1}},
            }
        },
        "bad_files": [{"sample": EVIL, "path": EVIL, "error": EVIL}],
        "notes": [EVIL],
    }
    check = {"name": EVIL, "value": 1.0, "threshold": 1.0, "passed": True, "text": EVIL}
    provenance = {
        "written": EVIL,
        "git_commit": EVIL,
        "packages": {EVIL: EVIL},
        "machine": {EVIL: EVIL},
        "inputs": [{"sample": EVIL, "path": EVIL}],
        "steps": {EVIL: {"wall_s": EVIL}},
    }
    section = Section(
        EVIL, EVIL, {EVIL: pd.DataFrame({EVIL: [EVIL]})}, {EVIL: plots.pull_histogram(np.zeros(2))}
    )
    return replace(
        given,
        accounting=accounting,
        provenance=provenance,
        sections=(section,),
        notes=(EVIL,),
        verdict={"passed": True, "checks": [check]},
    )


def test_every_name_from_outside_is_escaped(tmp_path):
    text = write_report(tmp_path, evil_context()).read_text(encoding="utf-8")
    assert "<script>window" not in text.lower()
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert html.escape(EVIL) in text
    assert all(p.parent == tmp_path / "plots" for p in (tmp_path / "plots").iterdir())


# numbers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.04321, 0.01234, "1.043 ± 0.012"),
        (91.18765, 0.5, "91.19 ± 0.50"),
        (-0.0002, 0.00012, "−0.00020 ± 0.00012"),
        (1234.5, 120.0, "1\u202f234 ± 120"),
        (1.5, np.nan, "1.5"),
        (1.5, 0.0, "1.500 ± 0.000"),
        (np.nan, 0.1, "–"),
    ],
)
def test_numbers_have_the_digits_of_their_error(value, error, text):
    assert with_error(value, error) == text


def test_numbers_without_an_error():
    assert [number(x) for x in (10583, None, np.nan, 0.123456, -2e-7, np.inf)] == [
        "10\u202f583",
        "–",
        "–",
        "0.1235",
        "−2e−07",
        "∞",
    ]


def test_a_table_joins_errors_and_links_fits():
    frame = pd.DataFrame(
        {
            "category": ["a"],
            "factor": [1.0],
            "factor_err": [0.1],
            "chi2": [5.0],
            "ndf": [4],
            "status": [Status.MERGED],
            "edited": [""],
        }
    )
    made = table("factors", frame, {"a"})
    assert made.columns == ("category", "factor", "chi2 / ndf", "status")
    name, factor, chi2, status = made.rows[0]
    assert name.link == "#fit=a"
    assert (factor.text, factor.sort) == ("1.00 ± 0.10", 1.0)
    assert (chi2.text, chi2.sort) == ("5.0 / 4", 1.25)
    assert (status.text, status.kind) == ("merged", "status fallback")


def test_a_table_shows_what_is_no_number_as_text_and_what_is_missing_as_a_dash():
    frame = pd.DataFrame({"range": [(82, 98), None], "name": ["a", pd.NA], "pull": [1.234, np.nan]})
    rows = table("edits", frame).rows
    assert [c.text for c in rows[0]] == ["(82, 98)", "a", "+1.23"]
    assert [c.text for c in rows[1]] == ["–", "–", "–"]


def test_the_flow_of_events_ends_at_the_selected_ones():
    flow = stages({"events": 100, "read": 90, "selected": 50, "rejected": {"pt": 40}})
    assert [(s.title, s.removed, s.left) for s in flow] == [
        ("in the files", 0, 100),
        ("not read", 10, 90),
        ("pt", 40, 50),
        ("selected", 0, 50),
    ]


# packed pictures ---------------------------------------------------------------------------------
@pytest.mark.parametrize("weight", [1.0, 0.37, -1.0])
def test_a_packed_picture_comes_back_far_below_its_errors(weight):
    curves = [
        curve(name, n, weight=weight)
        for name, n in zip(NAMES, [0, 20, 300, 10**6] * 9, strict=True)
    ]
    packed = report_fits.pack(curves)
    for i, one in enumerate(curves):
        found = report_fits.unpack(packed, i)
        error = np.sqrt(
            one.variance[one.variance > 0].min(initial=one.variance.max() or 1.0)
            if (one.variance > 0).any()
            else 1.0
        )
        for name in ("counts", "model", "background"):
            assert np.abs(found[name] - getattr(one, name)).max() <= 0.05 * error, name
        assert found["edges"] == pytest.approx(one.edges)
        positive = one.variance > 0
        assert found["variance"][positive] == pytest.approx(one.variance[positive], rel=0.02)
        if weight == 1.0:
            assert np.array_equal(found["counts"], one.counts)


def test_a_curve_without_a_model_can_be_packed():
    one = replace(curve("a"), model=np.full(120, np.nan), background=np.full(120, np.inf))
    found = report_fits.unpack(report_fits.pack([one]), 0)
    assert not found["model"].any() and np.array_equal(found["counts"], one.counts)


def test_twenty_thousand_fits_fit_in_ten_megabytes(tmp_path):
    some = [curve(name, n) for name, n in zip(NAMES, range(500, 36_500, 1000), strict=True)]
    per_fit = len("".join(report_fits.pack(some * 4)["blocks"])) / (4 * len(some))
    listing = report_fits.listing(context().reduction, None)
    numbers = ("name", "events", "chi2", "ndf", "probability", "picture", "text", "steps")
    columns = sum(len(str(listing[k])) for k in numbers) / len(NAMES)
    assert 20_000 * (per_fit + columns) < 10e6


def test_fits_of_every_kind_find_their_numbers():
    merged = pd.DataFrame(
        {"category": ["all_BB"], "n_events": [9.0], "chi2": [7.0], "ndf": [6], "status": ["ok"]}
    )
    given = context().reduction
    reduction = replace(
        given, tables={"merged": merged}, curves=(*given.curves, curve("all_BB", group="merged"))
    )
    table = pd.DataFrame(
        {"bin": ["1-2"] * 2, "half": [0, 1], "chi2": [3.0, 4.0], "ndf": [2, 2], "status": "ok"}
    )
    closure = Closure(table, (), (curve("1-2, half 1", group="closure"),))
    found = report_fits.listing(reduction, closure)
    at = found["name"].index("all_BB")
    assert (found["chi2"][at], found["ndf"][at], found["events"][at]) == (7, 6, 9)
    assert found["chi2"][found["name"].index("1-2, half 1")] == 4
    assert len(found["name"]) == len(NAMES) + 2


# in a browser --------------------------------------------------------------------------------
def _starts(browser: str) -> bool:
    """Return whether a browser is one, and not the stub of a package that is not there."""
    try:
        return not subprocess.run(
            [browser, "--version"], capture_output=True, timeout=60
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return False


@pytest.fixture
def opened(tmp_path) -> Callable[..., str]:
    """Return the document as headless Chromium has made it."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((path for path in map(shutil.which, names) if path and _starts(path)), None)
    if browser is None:
        pytest.skip("no chromium or chrome to open the page with")

    def open_page(page: Path, fragment: str = "", width: int = 1400) -> str:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},1500",
            "--virtual-time-budget=5000",
            "--dump-dom",
            page.as_uri() + fragment,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    return open_page


def test_a_browser_shows_the_table_and_draws_a_fit(page, opened):
    found = opened(page, "#fit=45-52_OE")
    assert "data-error" not in found and 'data-ready="1"' in found
    assert len(re.findall(r'<tr data-fit="\d+"', found)) == len(NAMES)
    assert 'data-drawn="45-52_OE"' in found
    drawing = found[found.index('id="fit-drawing"') :]
    assert drawing.count('class="point"') == 120 + 1  # one in the legend
    assert drawing.count('class="pull"') == 120
    for word in ("mass [GeV]", "events / 0.167 GeV", "background"):
        assert word in drawing


def test_clicks_and_keys_go_through_the_fits(tmp_path, page, opened):
    # the page allows no script but its own: this copy allows one more, which clicks
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page.read_text("utf-8"))
    clicks = """<script>
      const tick = () => new Promise((done) => setTimeout(done, 100));
      const drawn = () => document.getElementById("fit-picture").dataset.drawn;
      (async () => {
        const out = [];
        await tick();
        document.querySelector("#fit-table tr[data-fit='4'] td.number").click();
        await tick(); out.push(drawn());
        const right = new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true});
        document.body.dispatchEvent(right);
        await tick(); out.push(drawn());
        document.querySelector("th[data-key=name]").click();
        document.querySelector("th[data-key=name]").click();
        out.push(document.querySelector("#fit-table tbody td").textContent);
        const search = document.getElementById("fit-search");
        search.value = "52-62"; search.dispatchEvent(new Event("input"));
        out.push(document.querySelectorAll("#fit-table tbody tr").length);
        const heading = document.querySelector("table.sortable th");
        heading.click(); heading.click();
        out.push(document.querySelector("table.sortable tbody td").textContent);
        document.body.dataset.clicked = out.join(" ");
      })();
    </script></body>"""
    clicking = tmp_path / "clicking.html"
    clicking.write_text(text.replace("</body>", clicks), encoding="utf-8")
    found = opened(clicking)
    clicked = re.search(r'data-clicked="([^"]*)"', found)
    assert clicked is not None and "data-error" not in found
    assert clicked[1] == "30-45_OO 30-45_OE 62-200_OO 9 62-200_OO"


def test_a_browser_finds_no_error_in_a_page_without_fits(tmp_path, opened):
    found = opened(write_report(tmp_path, context(fitted=False)), width=800)
    assert "data-error" not in found and 'data-ready="1"' in found


def test_a_browser_runs_no_script_from_a_name(tmp_path, opened):
    page = write_report(tmp_path, evil_context())
    found = opened(page, "#fit=" + "%3Cscript%3Ewindow.evil%3D1%3C%2Fscript%3E")
    assert "data-error" not in found
    assert html.escape(EVIL, quote=False) in found
    assert "<script>window" not in found
