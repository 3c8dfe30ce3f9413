"""Schedules: a systemd timer, a line of cron, a CronJob; each tried as far as it can be here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.nightly.schedules import cron, label, systemd

from .conftest import FIRST, Place


def schedule(place: Place, kind: str, *options: str) -> dict[str, str]:
    found = CliRunner().invoke(
        app, ["nightly", str(place.config), "--schedule", kind, "--json", *options]
    )
    assert found.exit_code == 0, found.stdout
    files: dict[str, str] = json.loads(found.stdout)["files"]
    return files


@pytest.fixture
def odd(tmp_path: Path) -> Place:
    """A folder with a name that schedules must quote."""
    folder = tmp_path / "100% of 'it' $HOME"
    folder.mkdir()
    return Place(folder)


def test_systemd_accepts_the_units(odd: Place, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not here")
    units = tmp_path / "units"
    units.mkdir()
    for name, text in schedule(odd, "systemd", "--at", "3:05").items():
        (units / name).write_text(text)
        assert "\n\n[" in text
    found = subprocess.run(
        [verify, "verify", "--man=no", *map(str, sorted(units.iterdir()))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    ours = [line for line in found.stderr.splitlines() if "calib-" in line]
    assert found.returncode == 0 and not ours, found.stderr
    calendar = subprocess.run(
        [verify, "calendar", "*-*-* 03:05:00 UTC"], capture_output=True, text=True, timeout=60
    )
    assert calendar.returncode == 0
    assert "OnCalendar=*-*-* 03:05:00 UTC" in (units / "calib-prompt.timer").read_text()


def test_systemd_reads_the_words_that_were_meant() -> None:
    assert systemd(("/a b/100%", "$x", 'say "it"')) == '"/a b/100%%" $$x "say \\"it\\""'
    assert systemd("/a b/100%") == "/a b/100%%"


def test_a_line_of_cron_runs_as_cron_would(odd: Place) -> None:
    odd.run(FIRST)
    (text,) = schedule(odd, "cron", "--at", "23:59").values()
    line = text.strip().splitlines()[-1]
    assert line.startswith("59 23 * * * ")
    command = line.split(maxsplit=5)[5]
    # cron: % ends the command unless it has a backslash, which goes away
    assert "%" not in command.replace("\\%", "")
    path = os.environ["PYTHONPATH"]  # of the test's own calibration
    found = subprocess.run(
        [
            "env",
            "-i",
            f"HOME={odd.folder}",
            "PATH=/usr/bin:/bin",
            "SHELL=/bin/sh",
            f"PYTHONPATH={path}",
            "/bin/sh",
            "-c",
            command.replace("\\%", "%"),
        ],
        capture_output=True,
        text=True,
        timeout=400,
    )
    log = odd.folder / "nightly.log"
    said = log.read_text() if log.is_file() else ""
    assert found.returncode == 0, found.stderr + said
    assert "published" in said and len(odd.published()) == 1


def test_kubernetes_accepts_the_manifest(odd: Place) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    odd.configure(notify=[{"webhook_env": "HOOK", "headers_env": {"Authorization": "TOKEN"}}])
    (text,) = schedule(odd, "kubernetes", "--image", "registry.local/dimucal:1.2").values()
    manifest: dict[str, Any] = yaml.safe_load(text)
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["calib", "nightly", str(odd.config.resolve())]
    assert container["envFrom"] == [{"secretRef": {"name": "calib-prompt"}}]
    assert manifest["spec"]["concurrencyPolicy"] == "Forbid"
    broken = yaml.safe_load(text.replace("concurrencyPolicy", "concurencyPolicy"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)


def test_names() -> None:
    assert label("Prompt_2018.v1") == "calib-prompt-2018-v1"
    assert len(label("x" * 80)) == 52 and not label("a" * 45 + "." * 10 + "b").endswith("-")
    assert cron("100% of 'it'") == "'100\\% of '\"'\"'it'\"'\"''"


@pytest.mark.parametrize(
    "options",
    [
        ["--schedule", "at"],
        ["--schedule", "cron", "--at", "25:00"],
        ["--schedule", "kubernetes", "--image", "a b"],
    ],
)
def test_refusals(place: Place, options: list[str]) -> None:
    found = CliRunner().invoke(app, ["nightly", str(place.config), *options])
    assert found.exit_code == 2 and found.stderr.count("\n") == 1
