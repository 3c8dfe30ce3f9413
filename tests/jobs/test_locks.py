"""A lock that says who holds it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from calib.errors import InputError
from jobs.storage import locks


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("a+") as one, path.open("a+") as two:
        with locks.held(one, "calib first", str):
            assert "`calib first`, process" in locks.holder(path)
            with pytest.raises(InputError, match="calib first"), locks.held(two, "second", str):
                pass
        assert locks.holder(path) == ""
        with locks.held(two, "calib second", str):
            assert "calib second" in locks.holder(path)


def test_who_asks_does_not_keep_others_away(tmp_path: Path) -> None:
    path, done = tmp_path / "lock", threading.Event()
    path.touch()

    def ask() -> None:
        while not done.is_set():
            locks.holder(path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(200):
            with path.open("a+") as file, locks.held(file, "calib run", str):
                pass
    finally:
        done.set()
        asking.join()
