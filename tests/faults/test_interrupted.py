"""`calib run` killed at random moments, and a disk that is full: the same command goes on."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from jobs.cli import app

from .conftest import LONG, configuration
from .whole import damaged

AT_MOST_S = 300
"""For what comes at once on an idle machine: not a limit that a test is about."""

Start = Callable[..., subprocess.Popen[str]]

NUMBERS = (
    "fits.csv",
    "means.csv",
    "closure.csv",
    "payload.json",
    "verdict.json",
    "accounting.json",
    "histograms/main.data.npz",
    "histograms/closure.data.npz",
    "covariance.npz",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, events: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    config = configuration(folder, events, calibration="mean_mass:MeanMass")
    assert (
        CliRunner().invoke(app, ["run", str(config), "--out", str(folder / "out")]).exit_code == 0
    )
    return folder / "out"


def require_same(out: Path, undisturbed: Path) -> None:
    different = [n for n in NUMBERS if (out / n).read_bytes() != (undisturbed / n).read_bytes()]
    assert not different


def group_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes of the group that the command leads."""
    found = []
    for other in psutil.process_iter():
        try:
            if os.getpgid(other.pid) == process.pid:
                found.append(other)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=AT_MOST_S)
    # workers that the command did not end see that it is gone, and go
    deadline = time.monotonic() + AT_MOST_S
    while (left := group_of(process)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
    return process.returncode, errors


KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


def test_killed_at_random_moments(
    tmp_path: Path, events: Path, undisturbed: Path, command: Start
) -> None:
    """Killed again and again in one directory, till a run comes to its end between two blows."""
    rng, out = random.Random(7), tmp_path / "out"
    settings = {"sleep_s": 0.15}
    config = configuration(
        tmp_path,
        events,
        calibration="mean_mass:MeanMass",
        settings=settings,
        cluster={"kind": "local", "workers": 2},
    )
    start = time.monotonic()
    code, errors = end(command("run", config, "--out", tmp_path / "whole"))
    assert code == 0, errors
    takes = time.monotonic() - start
    moments = 20 if LONG else 4
    seen = []
    for i in range(moments):
        process = command("run", config, "--out", out)
        # early ones while it starts, most in the middle of the events, some at the end
        time.sleep(rng.uniform(0.1, 1.2) * takes)
        number = KINDS[i % len(KINDS)]
        was_running = process.poll() is None
        if was_running:
            process.send_signal(number)
        code, errors = end(process)
        seen.append((number.name, code))
        if was_running and number != signal.SIGKILL:
            # 0: the signal came after the last line; its own number: before the first one; and
            # Python ends by SIGINT, which a shell shows as 130, where it strikes inside exec()
            assert code in (130, 0, -number, -signal.SIGINT), (code, errors)
        assert "Traceback" not in errors or code == -number, errors
        assert not damaged(out)
        if code == 0:  # came to its end between two blows: the next one begins anew
            require_same(out, undisturbed)
            shutil.rmtree(out)
    code, errors = end(command("run", config, "--out", out))
    assert code == 0, errors
    require_same(out, undisturbed)
    assert not list(out.rglob("*.part"))
    assert any(code != 0 for _, code in seen)


def starting(process: subprocess.Popen[str], processes: int) -> None:
    """Wait until the process that workers are forked from has begun to start, or a worker too."""
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + AT_MOST_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            children = [" ".join(c.cmdline()) for c in parent.children(recursive=True)]
            if sum("forkserver" in line for line in children) >= processes:
                return
        time.sleep(0.005)
    pytest.fail(f"{processes} processes have not begun to start: {process.communicate()}")


@pytest.mark.parametrize(
    ("number", "everyone", "processes"),
    [
        (signal.SIGINT, True, 1),
        (signal.SIGINT, True, 2),
        (signal.SIGINT, False, 2),
        (signal.SIGTERM, False, 1),
        (signal.SIGTERM, True, 2),
    ],
)
def test_interrupted_while_workers_start_it_is_a_sentence(
    tmp_path: Path, events: Path, command: Start, number: int, everyone: bool, processes: int
) -> None:
    """The children print nothing: neither of Ctrl-C, which a terminal sends to them as well, nor
    of the command that is gone while they wait for its first words."""
    config = configuration(
        tmp_path, events, calibration="mean_mass:MeanMass", cluster={"kind": "local", "workers": 2}
    )
    process = command("run", config, "--out", tmp_path / "out")
    starting(process, processes)
    (os.killpg if everyone else os.kill)(process.pid, number)
    code, errors = end(process)
    assert code == 130
    assert errors == "calib: interrupted; what was done is kept, the same command goes on\n"


# a full disk -------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_disk_full(tmp_path: Path, events: Path, undisturbed: Path, small_disk: Path) -> None:
    config = configuration(tmp_path, events, calibration="mean_mass:MeanMass")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(220 * 1024))
    out = small_disk / "out"
    found = invoke("run", config, "--out", out)
    assert found.exit_code == 1 and "no space to write it" in found.stderr, found.output
    assert "Traceback" not in found.stderr and not damaged(out)
    kept = {p: p.stat().st_mtime_ns for p in out.glob("histograms/*/chunks/*.npz")}
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert invoke("run", config, "--out", out).exit_code == 0
    assert kept and {p: p.stat().st_mtime_ns for p in kept} == kept
    require_same(out, undisturbed)
    # full again: a later reduction fails, and what was there stays
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize))
    found = invoke("reduce", out, "--category", "E", "--set", "low=85")
    assert found.exit_code == 1 and "no space" in found.stderr
    assert not damaged(out)
    (small_disk / "ballast").unlink()
    assert invoke("reduce", out, "--category", "E", "--reset").exit_code == 0
    require_same(out, undisturbed)


def test_files_may_not_grow(tmp_path: Path, events: Path, undisturbed: Path) -> None:
    """A limit on the size of files, which any user can set, as a quota would."""
    config = configuration(tmp_path, events, calibration="mean_mass:MeanMass")
    out = tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))

    process = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "run", str(config), "--out", str(out)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert process.returncode == 1 and "no space to write it" in process.stderr
    assert "Traceback" not in process.stderr and not damaged(out)
    assert invoke("run", config, "--out", out).exit_code == 0
    require_same(out, undisturbed)
