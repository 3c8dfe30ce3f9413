"""What commands load, the process that workers are forked from, and compiling once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calib import compiled_cache
from jobs import compiling
from jobs.cli import app
from jobs.clusters import fork_server


@pytest.mark.parametrize(
    ("modules", "spared"),
    [
        ("jobs.cli", "pydantic numpy numba pandas sqlalchemy rich.markdown"),
        ("jobs.run.status", "numba pandas scipy.special sqlalchemy correctionlib matplotlib"),
        ("jobs.store, jobs.store.display", "numba pandas scipy.special correctionlib alembic"),
        ("jobs.run.run, jobs.config.complete", "pandas scipy.special scipy.stats sqlalchemy"),
    ],
)
def test_what_is_not_needed_is_not_loaded(modules: str, spared: str) -> None:
    code = f"import sys, {modules}; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *spared.split()], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_fork_server_leaves_the_environment_as_it_was() -> None:
    before = dict(os.environ)
    fork_server.start()
    assert dict(os.environ) == before
    # one that is not set here is no value of its own there either
    assert fork_server.environment_of_workers().get("PYTHONSAFEPATH", "") == before.get(
        "PYTHONSAFEPATH", ""
    )


def test_one_compiles_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled_cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(compiling, "_compiled", set())
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with compiling.alone_at_first("kind"):
            inside.set()
            go_on.wait(30)
            order.append("first")

    def second() -> None:
        with compiling.alone_at_first("kind"):
            order.append("second")

    threads = [threading.Thread(target=work) for work in (first, second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    with compiling.alone_at_first("another kind"):  # waits for nobody
        order.append("another")
    threads[1].join(0.3)
    assert order == ["another"] and threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert order == ["another", "first", "second"]


def test_what_fails_is_not_taken_for_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiled_cache.VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(OSError, match="of the block"), compiling.alone_at_first("kind"):
        raise OSError("of the block")
    assert not list(tmp_path.rglob("*.compiled"))
    (tmp_path / "file").touch()  # where nothing can be kept, all work at once
    monkeypatch.setenv(compiled_cache.VARIABLE, str(tmp_path / "file"))
    with compiling.alone_at_first("kind"), compiling.alone_at_first("kind"):
        pass


@pytest.mark.parametrize("arguments", [["--help"], ["toys", "--help"], ["store", "--help"]])
def test_help_has_no_marks_where_no_terminal_reads_it(arguments: list[str]) -> None:
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0
    assert "[bold]" not in found.output and "\x1b" not in found.output
