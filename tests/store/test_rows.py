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

from calib.errors import InputError
from jobs.cli import app
from jobs.store import Store

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


# what was lost or exchanged ----------------------------------------------------------------------
def settled(kept: Path, tmp_path: Path) -> Path:
    """Return a copy of a store without digests, to which revisions with digests were added."""
    folder = tmp_path / "store"
    shutil.copytree(kept, folder)
    store = Store.open(folder)
    for name in ("one", "two", "three"):
        store.tag(name)
    assert store.problems() == []
    return folder


@pytest.mark.parametrize(
    "statement, says",
    [
        ("delete from store_revisions where number = 4", ["revision 4: its row is lost"]),
        ("delete from store_revisions where number = 5", ["revision 5: its row is lost"]),
        ("update store_revisions set why = 'x' where number = 4", ["revision 4: its row is not"]),
        ("update store_revisions set until = 99 where number = 2", ["revision 3: its row is not"]),
        (
            "update store_revisions set tag = case number when 3 then 'two' else 'one' end"
            " where number in (3, 4)",
            ["revision 3: its row is not", "revision 4: its row is not"],
        ),
    ],
)
def test_a_row_that_is_lost_or_exchanged_is_found(
    kept: Path, tmp_path: Path, statement: str, says: list[str]
) -> None:
    folder = settled(kept, tmp_path)
    with sqlite3.connect(folder / "store.sqlite") as connection:
        for name in ("update", "delete"):
            connection.execute(f"drop trigger store_revisions_no_{name}")
        connection.execute(statement)
    found = Store.open(folder).problems()
    assert len(found) == len(says)
    assert all(text.startswith(start) for text, start in zip(found, says, strict=True)), found
    checked = CliRunner().invoke(app, ["store", "check", str(folder)])
    assert checked.exit_code == 3 and f"{len(says)} problems" in checked.output


def test_revisions_are_found_by_number_when_one_is_lost(kept: Path, tmp_path: Path) -> None:
    folder = settled(kept, tmp_path)
    with sqlite3.connect(folder / "store.sqlite") as connection:
        connection.execute("drop trigger store_revisions_no_delete")
        connection.execute("delete from store_revisions where number = 3")
    store = Store.open(folder)
    assert store.revision(4).tag == "two" and store.revision(5).number == 5
    assert [r.number for r in store.revisions(as_of=4)] == [1, 2, 4]
    store.tag("six")
    assert store.revisions()[-1].number == 6
    with pytest.raises(InputError, match="revision 3: there is none"):
        store.revision(3)
