"""What the pages say, against what the store says; and that nothing else can be had of them."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from calib.errors import InputError
from jobs.pages.charts import ChartStep, chart, middles
from jobs.pages.server import listen, serve
from jobs.pages.store_pages import NotFound, Pages
from jobs.pages.store_values import parsed
from jobs.store import Store
from tests.pace import pace_s
from tests.serve.conftest import N_ETA, WHY


@pytest.fixture(scope="module")
def pages(small: Store) -> Pages:
    return Pages(small)


@pytest.fixture(scope="module")
def many(large: Store) -> Pages:
    return Pages(large)


@dataclass
class Answer:
    """What came back."""

    code: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """The real server, in a thread, asked over a socket; paths go out as they are given."""

    def __init__(self, store: Store) -> None:
        self.store, self.started = store, threading.Event()

    def __enter__(self) -> Browser:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self.started.wait(60)
        return self

    async def _serve(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        server, address = listen(self.store, "127.0.0.1", 0)
        self.port = int(address.rstrip("/").rpartition(":")[2])
        self.started.set()
        await serve(server, self._stop)

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def browser(small: Store) -> Iterator[Browser]:
    with Browser(small) as made:
        yield made


def test_what_is_in_force(pages: Pages, small: Store) -> None:
    data = pages.page("/", {}).data
    assert data["revisions"] == len(small.revisions())
    main, frozen = data["in_force"]
    assert (main["tag"], main["revision"], main["since"], main["until"]) == ("main", 4, 350, None)
    assert main["forced"] and main["why"] == WHY and main["forced_ones"] == [4]
    assert (frozen["tag"], frozen["revision"], frozen["until"]) == ("run2018", 2, 299)
    assert [r["number"] for r in data["newest"]] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(("run", "revision"), [(100, 1), (199, 1), (200, 2), (349, 2), (9999, 4)])
def test_the_constants_of_a_run(pages: Pages, small: Store, run: int, revision: int) -> None:
    data = pages.page("/calibration/mean_mass", {"run": str(run)}).data
    assert data["in_force"]["revision"] == revision == small.at(run).number
    table = data["constants"]
    listed = small.file(small.revision(revision), table["table"]).decode().splitlines()
    assert len(table["bins"]) == len(listed) - 1


def test_a_run_without_constants(pages: Pages) -> None:
    data = pages.page("/calibration/mean_mass", {"run": "5"}).data
    assert data["in_force"] is None and data["constants"] is None


def test_history_in_a_tag(pages: Pages) -> None:
    data = pages.page("/calibration/mean_mass", {"tag": "run2018"}).data
    assert [(i["since"], i["until"]) for i in data["intervals"]] == [(200, 299), (100, 199)]
    assert data["before"] == {2: 1}
    (drawn,) = [c for c in pages.page("/calibration/mean_mass", {}).drawn()["charts"]][:1]
    assert len(drawn.touch) == 3 and drawn.boundaries.count("M") == 2 and drawn.forced.count("Z")


def test_a_revision(pages: Pages, small: Store) -> None:
    data = pages.page("/revision/4", {}).data
    assert data["forced"] and not data["passed"] and data["before"] == 2
    assert {c["passed"] for c in data["checks"]} == {True, False}
    assert {f["name"] for f in data["files"]} == set(small.files(small.revision(4)))
    tag = pages.page("/revision/5", {}).data
    assert tag["files"] == [] and tag["action"] == "tag"


def test_difference_in_standard_deviations(pages: Pages) -> None:
    page = pages.page("/diff/1/2", {})
    assert pages.page("/diff", {"before": "1", "after": "2"}).data == page.data
    for row in page.data["parameters"]:
        expected = row["move"] / math.hypot(row["before_err"], row["after_err"])
        assert row["sigma"] == pytest.approx(expected)
    sigmas = [abs(r["sigma"]) for r in page.drawn()["rows"]]
    assert sigmas == sorted(sigmas, reverse=True)


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/nothing", {}),
        ("/revision/6", {}),
        ("/revision/0", {}),
        ("/diff/1/99", {}),
        ("/diff", {}),
        ("/calibration/none", {}),
        ("/calibration/mean_mass", {"tag": "none"}),
        ("/calibration/mean_mass", {"table": "../x.csv"}),
        ("/calibration/../x", {}),
    ],
)
def test_what_is_not_there(pages: Pages, path: str, arguments: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        pages.page(path, arguments)


@pytest.mark.parametrize("argument", ["x", "-1", "1e9", "9" * 30, "1; drop table"])
def test_arguments_that_are_no_numbers(pages: Pages, argument: str) -> None:
    for name in ("run", "page"):
        with pytest.raises(InputError, match="expected a whole number"):
            pages.page("/calibration/mean_mass", {name: argument})


def test_1000_revisions_answer_at_once(many: Pages, large: Store) -> None:
    paths = (
        "/",
        "/calibration/scale",
        "/calibration/scale?bin=eta%200.00%20to%200.10",
        "/calibration/scale?page=7",
        "/calibration/scale.json",
        "/revisions",
        "/revision/500",
    )
    with Browser(large) as browser:
        for path in paths:
            start = time.process_time()
            assert browser.ask(path).code == 200
            # the first one reads 1 000 files: 9 of them, later ones 3
            assert time.process_time() - start < 40 * pace_s(), path
            start = time.process_time()
            answer = browser.ask(path)
            assert time.process_time() - start < 15 * pace_s(), path
            assert len(answer.body) < 3e6, path


def test_1000_revisions_are_all_drawn_and_listed(many: Pages, large: Store) -> None:
    page = many.page("/calibration/scale", {"bin": "eta 0.00 to 0.10"})
    charts = page.drawn()["charts"]
    assert [c.name for c in charts] == ["A", "e", "M", "a", "c"]
    for c in charts:
        assert c.line.count("M") == c.chosen.count("M") == 1000
        assert c.boundaries.count("M") == 999 and c.forced.count("Z") == 10
    seen = []
    for i in range(1, 11):
        listed = many.page("/calibration/scale", {"page": str(i)})
        seen += [r["revision"] for r in listed.data["intervals"]]
        history = listed.more()["history"]
        assert len(history) == 100 and len(history[0]["constants"]["bins"]) == N_ETA
    assert seen == list(range(1000, 0, -1))


def test_history_of_some_runs(many: Pages) -> None:
    page = many.page("/calibration/scale", {"first": "316005", "last": "316044"})
    drawn = page.drawn()["charts"][0]
    assert [t.revision for t in drawn.touch] == [101, 102, 103, 104, 105]
    assert drawn.touch[0].x == drawn.left and drawn.boundaries.count("M") == 4
    end = drawn.touch[-1].x + drawn.touch[-1].width
    assert end == pytest.approx(drawn.right, abs=0.2)
    with pytest.raises(InputError, match="before the first run"):
        many.page("/calibration/scale", {"first": "9", "last": "3"})


# over the wire -----------------------------------------------------------------------------------
PAGES = ("/", "/revisions", "/revision/4", "/calibration/mean_mass", "/diff/1/2")


def test_json_beside_each_page(browser: Browser, pages: Pages) -> None:
    for path in PAGES:
        html = browser.ask(path, Accept="text/html")
        assert html.code == 200 and html.headers["Content-Type"].startswith("text/html")
        beside = ("/index" if path == "/" else path) + ".json"
        assert f'href="{beside}"' in html.body.decode()
        values = json.loads(browser.ask(beside).body)
        assert values == json.loads(browser.ask(path, Accept="application/json").body)
        page = pages.page(path, {})
        assert values.keys() == {**page.data, **page.more()}.keys()


def test_every_report_is_one_click_away(browser: Browser, small: Store) -> None:
    for path in ("/", "/revisions", "/revision/2", "/calibration/mean_mass"):
        found = re.findall(
            r'href="(/revision/\d+/files/report\.html)"', browser.ask(path).body.decode()
        )
        assert found, path
        for address in found:
            number = int(address.split("/")[2])
            answer = browser.ask(address)
            assert answer.body == small.file(small.revision(number), "report.html")
            assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_files_are_the_same_to_the_byte(browser: Browser, small: Store) -> None:
    assert browser.ask("/revision/2/files/payload.json").body == small.payload(small.revision(2))
    for name in small.files(small.revision(1)):
        answer = browser.ask(f"/revision/1/files/{name}")
        assert answer.body == small.file(small.revision(1), name)


def test_what_people_wrote_is_text(browser: Browser) -> None:
    for path in PAGES:
        assert b"<script>" not in browser.ask(path).body
    assert b"&lt;script&gt;alert(" in browser.ask("/").body


def test_headers(browser: Browser) -> None:
    for path in (*PAGES, "/nothing", "/index.json", "/static/style.css"):
        headers = browser.ask(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "script-src" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "ornado" not in str(headers)


@pytest.mark.parametrize(
    "path",
    [
        "/revision/1/files/../../../../../etc/passwd",
        "/revision/1/files/..%2f..%2f..%2fstore.sqlite",
        "/revision/1/files/%2e%2e/store.sqlite",
        "/revision/1/files/files.json/../../store.sqlite",
        "/revision/1/files//etc/passwd",
        "/revision/1/files/.hidden",
        "/revision/1/files/report.html%00.json",
        "/revision/1/files/nothing.txt",
        "/revision/99/files/report.html",
        "/revision/5/files/report.html",
        "/static/../store.sqlite",
        "/static/..%2freport.css",
        "/store.sqlite",
        "/templates/report.css",
        "/calibration/..%2f..%2fx",
        "//etc/passwd",
    ],
)
def test_nothing_else_can_be_read(browser: Browser, path: str) -> None:
    answer = browser.ask(path)
    assert answer.code == 404, answer.body[:300]
    assert b"root:" not in answer.body and b"SQLite" not in answer.body


def test_it_is_for_reading(browser: Browser) -> None:
    for method in ("POST", "DELETE"):
        answer = browser.ask("/", method)
        assert answer.code == 405 and b"Traceback" not in answer.body
    head = browser.ask("/", "HEAD")
    assert head.code == 200 and head.body == b""


def test_another_host_is_refused(browser: Browser) -> None:
    answer = browser.ask("/index.json", Host="evil.example")
    assert answer.code == 421 and "revisions" not in json.loads(answer.body)
    assert browser.ask("/", Host="127.0.0.1:1234").code == 200


def test_a_file_that_was_damaged_is_said_not_shown(
    small: Store, done: list[Path], tmp_path: Path
) -> None:
    store = Store.create(tmp_path / "store")
    made = store.publish(done[0], None, 1)
    path = store.content.run_path(str(made.files)) / "report.html"
    path.chmod(0o644)
    path.write_bytes(b"<p>another</p>")
    with Browser(store) as browser:
        answer = browser.ask("/revision/1/files/report.html", Accept="text/html")
        assert answer.code == 500 and b"checksum differs" in answer.body
        assert b"another</p>" not in answer.body
        assert browser.ask("/revision/1").code == 200


def test_an_empty_store(tmp_path: Path) -> None:
    data = Pages(Store.create(tmp_path / "store")).page("/", {}).data
    assert data["in_force"] == [] and data["newest"] == []


# values and charts -------------------------------------------------------------------------------
def test_values_of_any_table() -> None:
    found = parsed(
        "factors.csv",
        b"category,sigma,sigma_err,factor,factor_err,own_x,own_x_err,"
        b"status\n30-45_BB,1,0.1,1.2,,5,6,held\nx,nan,2,oops,1,1,1,ok\n",
    )
    assert list(found.of) == ["factor", "sigma"] and found.bins == ("30-45_BB", "x")
    assert found.of["sigma"][0].tolist() == [1.0, 0.1] and found.status == ("held", "ok")
    assert math.isnan(found.of["factor"][0, 1]) and math.isnan(found.of["factor"][1, 0])
    edges = parsed("p.csv", b"eta_low,eta_high,A,A_err\n-1,0,1,2\n0,1,1,2\n")
    assert edges.bins == ("eta -1 to 0", "eta 0 to 1")
    for nothing in (b"", b"\n", b"a,b\n", b"\xff\xfe\x00", b"a,a_err\n1\n"):
        assert not any(len(v) for v in parsed("x.csv", nothing).of.values())


def test_chart_is_where_the_values_are() -> None:
    steps = [
        ChartStep(1, 5, 1, False, np.array([[1.0, 0.1]])),
        ChartStep(6, 10, 2, True, np.array([[3.0, 0.1]])),
        ChartStep(11, 4_000_000_000, 3, False, np.array([[math.nan, 0.1]])),
    ]
    drawn = chart("A", steps, 1, 12)
    assert drawn is not None and len(drawn.touch) == 2
    levels = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)H", drawn.line)]
    assert drawn.top < levels[1] < levels[0] < drawn.bottom
    assert middles(steps[:1])[0] == pytest.approx((0.9, 1.0, 1.1))
    assert chart("A", steps[2:], 1, 12) is None
    flat = chart("A", [ChartStep(5, 5, 1, False, np.zeros((1, 2)))], 5, 5)
    assert flat is not None and "nan" not in flat.line


def test_the_middle_of_bins_with_and_without_values() -> None:
    values = np.array([[1.0, 1], [2, 1], [4, 1], [8, 1], [16, 1]])
    holes = np.where(values == 16, np.nan, values)
    found = middles([ChartStep(1, 1, 1, False, v) for v in (values, holes, values[:3])])
    for v, (low, mid, high) in zip((values, values[:4], values[:3]), found, strict=True):
        assert (low, mid, high) == pytest.approx(tuple(np.quantile(v[:, 0], [0.16, 0.5, 0.84])))
