"""Stores to look at: a small one of finished runs, and one of 1 000 revisions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jobs.store import Store
from jobs.store.content import LIST, sha256
from jobs.store.rows import append
from tests.store.conftest import done, events, failed

__all__ = ["done", "events", "failed"]

N_ETA = 48
WHY = "<script>alert('x')</script> & the shifter said so"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, done: list[Path], failed: Path) -> Store:
    """Two publications, one by force, an extension and a tag."""
    store = Store.create(tmp_path_factory.mktemp("small") / "store")
    store.publish(done[0], None, 100, 199)
    store.publish(done[1], None, 200, 299)
    store.extend(2, 349, "still good")
    store.publish(failed, None, 350, force=True, why=WHY)
    store.tag("run2018", as_of=2, frozen=True)
    return store


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """1 000 publications with contents of their own, as an automaton leaves them after years."""
    store = Store.create(tmp_path_factory.mktemp("large") / "store")
    rng = np.random.default_rng(1)
    with store.writing() as (connection, found):
        for i in range(1000):
            payload, files = _content(store, rng, i)
            made = append(
                connection,
                found,
                action="publish",
                tag="main",
                calibration="scale",
                since=315_000 + 10 * i,
                until=315_009 + 10 * i if i < 999 else None,
                payload=payload,
                size=9,
                files=files,
                origin=i + 1,
                passed=i % 100 != 50,
                forced=i % 100 == 50,
                why="by hand" if i % 100 == 50 else "",
                name=f"night-{i}",
            )
            found = (*found, made)
    return store


def _content(store: Store, rng: np.random.Generator, i: int) -> tuple[str, str]:
    edges = np.linspace(-2.4, 2.4, N_ETA + 1)
    quantities = ("A", "e", "M", "a", "c")
    head = ",".join(["eta_low", "eta_high", *(f"{q},{q}_err" for q in quantities), "status"])
    values = rng.normal(1e-3 * math.sin(i / 80), 2e-4, (N_ETA, len(quantities)))
    lines = [
        f"{edges[j]:.2f},{edges[j + 1]:.2f},{','.join(f'{v:.9g},0.0002' for v in row)},ok"
        for j, row in enumerate(values)
    ]
    made = {
        "parameters.csv": "\n".join([head, *lines]).encode() + b"\n",
        "report.html": f"<p>report {i}</p>".encode(),
    }
    listed = {n: {"sha256": sha256(d), "size": len(d)} for n, d in made.items()}
    made[LIST] = json.dumps(listed).encode()
    folder = store.content.run_path(sha256(made[LIST]))
    folder.mkdir(parents=True)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    payload = f'{{"i": {i}}}'.encode()
    path = store.content.payload_path(sha256(payload))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
    return sha256(payload), sha256(made[LIST])
