"""Rows of a store that somebody has changed: an answer, or one sentence, and never a traceback."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app

KEPT = Path(__file__).parents[1] / "kept" / "before.tar.xz"
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.binary(max_size=8),
)
COMMANDS = (
    ["list", "STORE"],
    ["show", "STORE", "1"],
    ["check", "STORE"],
    ["get", "STORE", "--run", "5", "--out", "OUT"],
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(KEPT) as archive:
        archive.extractall(folder, filter="data")
    return folder / "store"


def columns(store: Path) -> list[str]:
    with sqlite3.connect(store / "store.sqlite") as connection:
        return [row[1] for row in connection.execute("pragma table_info(store_revisions)")]


def changed(store: Path, column: str, value: object) -> bool:
    """Change a column of the second revision; return whether the database let it happen."""
    connection = sqlite3.connect(store / "store.sqlite")
    try:
        for (name,) in connection.execute(
            "select name from sqlite_master where type = 'trigger'"
        ).fetchall():
            connection.execute(f'drop trigger "{name}"')
        connection.execute(f'update store_revisions set "{column}" = ? where number = 2', (value,))
        connection.commit()
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return True


@given(data=st.data())
@settings(
    max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_changed_row(kept: Path, tmp_path: Path, data: st.DataObject) -> None:
    store = tmp_path / "store"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(kept, store)
    column = data.draw(st.sampled_from(columns(store)))
    if not changed(store, column, data.draw(VALUES)):
        return
    for command in COMMANDS:
        out = tmp_path / "payload.json"
        out.unlink(missing_ok=True)
        words = [{"STORE": str(store), "OUT": str(out)}.get(word, word) for word in command]
        found = CliRunner().invoke(app, ["store", *words, "--json"])
        assert found.exception is None or isinstance(found.exception, SystemExit), (command, found)
        if command[0] == "check" and found.exit_code == 3:  # it is there to find problems
            assert json.loads(found.stdout)["problems"]
            continue
        assert found.exit_code in (0, 1, 2), (command, found.output)
        if found.exit_code:
            errors = [line for line in found.stderr.splitlines() if "error" in line]
            assert len(errors) == 1 and "Traceback" not in found.output, found.output
            assert not out.exists()
        elif out.exists():
            assert json.loads(out.read_text())["schema_version"] == 2
