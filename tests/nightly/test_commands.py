"""`calib nightly` and `calib status STORE` as people and schedulers see them."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from calib.errors import InputError
from jobs.cli import app
from jobs.nightly import settings, states
from jobs.nightly.overview import lines, standing

from .conftest import FIRST, Place, task


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


# configuration -----------------------------------------------------------------------------------
def test_the_example_loads_and_names_every_key() -> None:
    text = run("nightly", "--example").stdout
    found = settings.Nightly.model_validate(yaml.safe_load(text))
    for model, values in (
        (settings.Nightly, yaml.safe_load(text)),
        (settings.Task, yaml.safe_load(text)["calibrations"][0]),
        (settings.TestSettings, yaml.safe_load(text)["calibrations"][0]["test"]),
        (settings.GateSettings, yaml.safe_load(text)["calibrations"][0]["gate"]),
        (settings.BucketSettings, yaml.safe_load(text)["buckets"]),
        (settings.Complete, yaml.safe_load(text)["complete"]),
        (settings.NightlySample, yaml.safe_load(text)["samples"][0]),
    ):
        assert set(values) == set(model.model_fields)
    for key, value in settings.TestSettings().model_dump().items():
        assert getattr(found.calibrations[0].test, key) == value
    for key, value in settings.GateSettings().model_dump().items():
        assert getattr(found.calibrations[0].gate, key) == value
    defaults = settings.Nightly.model_validate(
        {
            "name": "x",
            "store": "s",
            "samples": [found.samples[1].model_dump()],
            "calibrations": [{"name": "a", "calibration": "b"}],
        }
    )
    for key in (
        "tag",
        "directory",
        "catalog",
        "complete",
        "buckets",
        "first",
        "validity",
        "keep_nights",
        "notify",
        "cluster",
        "seed",
        "chunk_size",
    ):
        assert getattr(found, key) == getattr(defaults, key)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"stor": "x"}, ["unknown key 'stor'", "did you mean 'store'?"]),
        ({"calibrations": [task(gait={})]}, ["calibrations.0.gait", "'gate'"]),
        ({"calibrations": [task(after=["scale"])]}, ["scale -> scale", "'calibrations'"]),
        (
            {"calibrations": [task("a", after=["b"]), task("b", "mean_second", after=["a"])]},
            ["wait for each other", "a -> b -> a"],
        ),
        ({"calibrations": [task(after=["skale"])]}, ["'skale'", "did you mean 'scale'"]),
        ({"calibrations": [task(samples=["dat"])]}, ["'dat'", "known: data"]),
        ({"calibrations": [task(), task("b")]}, ["'mean_scale'", "tag"]),
        ({"calibrations": [task(), task()]}, ["two are named 'scale'"]),
        ({"calibrations": [task(gate={"cut": 0.2, "max": 0.1})]}, ["cut 0.2 is not below max 0.1"]),
        ({"notify": [{"webhook": "https://u:p@x/y"}]}, ["password or a token"]),
        ({"notify": [{}]}, ["give one of command, webhook, webhook_env"]),
        (
            {"samples": [{"name": "data", "resonance": "z", "format": "stage1", "files": ["x"]}]},
            ["none of them gets new files"],
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(
    place: Place, change: dict[str, Any], words: list[str]
) -> None:
    place.configure(**change)
    with pytest.raises(InputError) as error:
        settings.load(place.config)
    assert all(word in str(error.value) for word in [str(place.config), *words]), error.value
    found = run("nightly", place.config)
    assert found.exit_code == 2 and not (place.folder / "store").exists()


# dry run -----------------------------------------------------------------------------------------
def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(place: Place) -> None:
    place.run(FIRST)
    before = contents(place.folder)
    first = run("nightly", place.config, "--dry-run")
    assert first.exit_code == 0 and "would calibrate" in first.stdout
    assert contents(place.folder) == before
    place.night()
    place.run(FIRST + 1)
    before = contents(place.folder)
    second = json.loads(run("nightly", place.config, "--dry-run", "--json").stdout)
    assert contents(place.folder) == before
    assert second["new_files"] == 1 and second["calibrations"][0]["would"] == "test"
    sentences = " ".join(second["calibrations"][0]["sentences"])
    assert "revision 1" in sentences and f"extended to run {FIRST + 1}" in sentences


# exit codes, status ------------------------------------------------------------------------------
def test_status_of_a_store_tells_what_needs_a_person(place: Place) -> None:
    place.run(FIRST)
    assert run("nightly", place.config).exit_code == 0
    good = run("status", place.folder / "store")
    assert good.exit_code == 0 and "nothing needs a person" in good.stdout
    assert "revision 1" in good.stdout and f"runs {FIRST} to {FIRST}" in good.stdout

    place.configure(calibrations=[task(settings={"limit": 0.01})])
    place.run(FIRST + 1, shift=0.02)
    assert run("nightly", place.config).exit_code == 3
    bad = run("status", place.folder / "store")
    assert bad.exit_code == 3 and "needs a person: scale: held" in bad.stdout
    assert len(bad.stdout.splitlines()) <= 10
    found = json.loads(run("status", place.folder / "store", "--json").stdout)
    assert found["nightlies"][0]["calibrations"][0]["state"] == "held"
    page = (place.folder / "nightly" / "nightly.html").read_text()
    assert "Needs a person" in page

    late = standing(str(place.folder / "store"), datetime.now(UTC) + timedelta(days=3))
    assert late["exit_code"] == 1 and any("no night since" in t for t in late["needs_person"])
    many = {**late, "needs_person": [f"{i}" for i in range(30)]}
    assert len(lines(many)) <= 10


def test_a_night_that_was_killed_is_in_the_status(place: Place) -> None:
    place.run(FIRST)
    place.night()
    begun = states.States.open(place.store.content.folder, "prompt")
    begun.begin()
    begun.engine.dispose()
    found = run("status", place.folder / "store")
    assert found.exit_code == 1 and "stopped in the middle" in found.stdout
    assert place.night().resumed
    assert run("status", place.folder / "store").exit_code == 0


def test_a_store_without_nights_has_a_status(place: Place, tmp_path: Path) -> None:
    assert run("store", "init", tmp_path / "empty").exit_code == 0
    found = run("status", tmp_path / "empty")
    assert found.exit_code == 0 and "no nightly" in found.stdout


# notification ------------------------------------------------------------------------------------
@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """A real HTTP server that keeps what it gets."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}", got
    found.shutdown()
    found.server_close()
    thread.join()


def test_people_are_told_and_secrets_stay_in_the_environment(
    place: Place, server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = server
    monkeypatch.setenv("HOOK", f"{address}/secret-place")
    monkeypatch.setenv("TOKEN", "Bearer 8f3a91")
    script = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    heard = place.folder / "heard.txt"
    place.configure(
        notify=[
            {"command": [sys.executable, "-c", script, str(heard)]},
            {"webhook_env": "HOOK", "headers_env": {"Authorization": "TOKEN"}},
            {"webhook": f"{address}/broken"},
            {"webhook_env": "NOT_SET_ANYWHERE"},
            {"command": [sys.executable, "-c", "import sys; sys.exit('no such shift')"]},
            {"command": ["/no/such/program"]},
        ]
    )
    place.run(FIRST)
    assert place.night().exit_code == 0
    (first,) = [json.loads(line) for line in heard.read_text().splitlines()]
    assert first["calibrations"]["scale"]["state"] == "published" and "revision 1" in first["text"]
    assert got[0][0] == "/secret-place" and got[0][1]["Authorization"] == "Bearer 8f3a91"
    assert got[0][2] == first
    place.run(FIRST + 1)
    place.night()  # nothing that anybody wants to know
    assert len(heard.read_text().splitlines()) == 1
    told = states.summary(place.store.content.folder)[0]["nights"][1]["notifications"]
    assert len(told) == 4
    for text, word in zip(
        told, ("500", "NOT_SET_ANYWHERE", "no such shift", "no/such"), strict=True
    ):
        assert word in text
    for path in place.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"8f3a91" not in data and b"secret-place" not in data, path
    assert os.environ["TOKEN"]
