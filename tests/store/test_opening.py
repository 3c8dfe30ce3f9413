"""Stores that are made, brought up to date, moved, damaged, or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import jobs.store
from calib.errors import CalibError, InputError, Unreachable
from jobs.storage import database
from jobs.store import Store, tables

from .postgresql import Server


def test_the_tables_are_those_of_the_migrations(store: Store) -> None:
    folder = Path(jobs.store.__file__).parent / "migrations"
    script = ScriptDirectory(str(folder))
    assert script.get_heads() == [tables.VERSION]
    assert [s.revision for s in script.walk_revisions()][1:] == list(reversed(tables.OLDER))
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "store_version", "compare_type": True}
        )
        assert compare_metadata(context, tables.METADATA) == []


def test_making_it_again_changes_nothing(store: Store, tmp_path: Path, done: list[Path]) -> None:
    store.publish(done[0], None, 1)
    again = Store.create(store.address)
    assert again.revisions() == store.revisions() and again.content == store.content


@pytest.mark.parametrize(("version", "says"), [("0999", "does not know"), ("0000", "older than")])
def test_another_version(
    store: Store, version: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "OLDER", ("0000",))
    with store.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE store_version SET version_num = '{version}'"))
    with pytest.raises(InputError, match=says):
        Store.open(store.address)
    if version == "0999":
        with pytest.raises(InputError, match=says):
            Store.create(store.address)


def test_a_directory_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store"):
        Store.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for name, says in (("file", "a file, expected a directory"), ("full", "so it is no store")):
        with pytest.raises(InputError, match=says):
            Store.create(tmp_path / name)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "store.sqlite").write_bytes(b"not at all a database" * 100)
    with pytest.raises(InputError, match="cannot be used .*not a database"):
        Store.open(tmp_path / "damaged")
    (tmp_path / "damaged" / "store.sqlite").write_bytes(b"")
    with pytest.raises(InputError, match="there is no store in it"):
        Store.open(tmp_path / "damaged")


def test_a_store_can_be_moved(store: Store, tmp_path: Path, done: list[Path]) -> None:
    made = store.publish(done[0], None, 1)
    if "://" not in store.address:
        shutil.move(store.address, tmp_path / "elsewhere")
        assert Store.open(tmp_path / "elsewhere").payload(made)
        return
    shutil.move(tmp_path / "files", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="its files are to be in .*files, but they are not"):
        Store.open(store.address)


def test_databases_that_cannot_be(server: Server, tmp_path: Path) -> None:
    empty = server.database()
    with pytest.raises(InputError, match="there is no store in it"):
        Store.open(empty)
    with pytest.raises(InputError, match="option --files is missing"):
        Store.create(empty)
    Store.create(empty, tmp_path / "files")
    (tmp_path / "files" / "payloads").mkdir()
    with pytest.raises(InputError, match="holds the files of another store"):
        Store.create(server.database(), tmp_path / "files")
    with pytest.raises(InputError, match="a directory has its files inside"):
        Store.create(tmp_path / "store", tmp_path / "files")
    with pytest.raises(Unreachable, match="cannot be reached") as raised:
        Store.open(empty.replace(f":{server.port}", ":1"))
    assert "postgresql://calib@127.0.0.1:1/" in str(raised.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://calib:open-sesame@127.0.0.1/constants", "password"),
        ("postgresql://calib@127.0.0.1/constants?password=open-sesame", "password"),
        ("mysql://calib@127.0.0.1/constants", "expected postgresql://"),
        ("sqlite:///constants.sqlite", "for SQLite give the path alone"),
        ("postgresql://calib@127.0.0.1:many/constants", "expected postgresql://"),
    ],
)
def test_addresses_that_are_refused(address: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        Store.open(address)
    assert "open-sesame" not in str(raised.value)


def test_a_connection_that_is_lost(server: Server, tmp_path: Path, done: list[Path]) -> None:
    store = Store.create(server.database(), tmp_path / "files")
    with pytest.raises(CalibError, match="the connection was lost") as raised:
        with store.writing() as (connection, _):
            own = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            with database.engine(store.address).connect() as other:
                other.execute(sa.text(f"SELECT pg_terminate_backend({own})"))
            connection.execute(sa.text("SELECT 1"))
    assert not isinstance(raised.value, InputError)
    assert store.publish(done[0], None, 1).number == 1


def test_a_directory_that_may_not_be_written(tmp_path: Path, done: list[Path]) -> None:
    """A store can be read without the right to write."""
    folder = tmp_path / "store"
    store = Store.create(folder)
    made = store.publish(done[0], None, 1)
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("root may write anything")
        with pytest.raises(CalibError):
            store.publish(done[1], None, 2)
        assert Store.open(folder).at(5) == made
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_the_password_comes_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.database()
    with database.reading(database.engine(address)) as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(InputError, match="password authentication failed"):
        Store.open(address)
