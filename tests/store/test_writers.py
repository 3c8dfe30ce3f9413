"""Many writers at once lose and double nothing; one that is killed leaves the store whole."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from calib.errors import CalibError, InputError
from jobs.storage import database
from jobs.store import Store
from jobs.store.opening import LOCK

from .publisher import ROUNDS

WRITERS = 8


def run(*arguments: str | Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("publisher.py")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def whole(store: Store) -> None:
    """Numbers without gaps, every content there and as it was."""
    found = store.revisions()
    assert [r.number for r in found] == list(range(1, len(found) + 1))
    assert store.problems() == []


def test_eight_at_once(address: str, tmp_path: Path, done: list[Path]) -> None:
    if "://" in address:  # a directory makes itself, by all of them at once
        Store.create(address, tmp_path / "files")
    # two processes each publish the same run at the same time
    run("at-once", address, *(done * 2)[:WRITERS])
    store = Store.open(address)
    whole(store)
    found = store.revisions()
    assert Counter(r.why for r in found) == {f"process {i}": ROUNDS for i in range(WRITERS)}
    assert len({(r.since, r.until) for r in found}) == WRITERS * ROUNDS == len(found)
    for r in found:
        expected = done[int(r.since or 0) // 1000 % len(done)] / "payload.json"
        assert store.payload(store.at(int(r.since or 0))) == expected.read_bytes()
    assert (
        store.content.orphans({str(r.payload) for r in found}, {str(r.files) for r in found}) == []
    )


def test_killed_publishers(address: str, tmp_path: Path, done: list[Path]) -> None:
    store = Store.create(address, tmp_path / "files" if "://" in address else None)
    store.publish(done[1], None, 500, 599)
    moments = random.Random(11)
    hows = ["files", "row", *(f"{moments.uniform(0.0, 0.12):.4f}" for _ in range(12))]
    run("killed", address, done[0], *hows)
    whole(store)
    found = store.revisions()
    since = [r.since for r in found]
    assert since[:2] == [500, 0] and len(set(since)) == len(since)
    assert 1000 not in since and 1001 not in since  # killed before the commit
    # nobody has to clear up before the next one
    made = store.publish(done[2], None, 700, 799)
    assert made.number == len(found) + 1
    whole(store)


def test_orphans_are_swept(address: str, tmp_path: Path, done: list[Path]) -> None:
    store = Store.create(address, tmp_path / "files" if "://" in address else None)
    store.publish(done[1], None, 500)
    with store.content.staging(done[0]) as staged:
        store.content.take_in(staged)  # killed here
        payload = store.content.payload_path(staged.payload)
    assert payload.exists() and store.problems() == []
    assert len(store.sweep()) == 2 and not payload.exists()
    assert store.sweep() == [] and store.problems() == []
    left = store.content.folder / "incoming" / "left"
    left.mkdir()
    store.content.sweep_incoming()
    assert left.exists()  # its publisher may be at it
    store.content.sweep_incoming(older_than_s=-1)
    assert not left.exists()


def test_a_writer_that_waits_too_long_says_so(
    address: str, tmp_path: Path, done: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_S", 1)
    store = Store.create(address, tmp_path / "files" if "://" in address else None)
    start = time.monotonic()
    with database.writing(store.engine, LOCK):
        with pytest.raises(CalibError, match="another writer has held it") as raised:
            store.publish(done[0], None, 1)
        assert not isinstance(raised.value, InputError)
        assert store.revisions() == ()  # who only reads does not wait
    assert 0.5 < time.monotonic() - start < 300  # and not for ever
    assert store.publish(done[0], None, 1).number == 1
