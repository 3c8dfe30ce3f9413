"""The other files that a stranger may have had: read, or refused by one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calib.errors import InputError
from jobs.catalog.luminosities import read_table
from jobs.config.sites import read as read_site
from jobs.nightly.settings import load as load_nightly
from jobs.run.chain import ChainRun
from jobs.storage.files import RunDirectory
from processors.certified import load_certified

from .conftest import LONG
from .fuzz import json_mutated, mutated

CHAIN = """
name: z-2018
samples:
  - {name: data, resonance: z, format: stage1, files: ["data/*.parquet"]}
cluster: {kind: inline}
chain:
  - {name: scale, calibration: momentum_scale, settings: {eta: [-2.4, 0, 2.4]}}
  - {name: resolution, calibration: mass_resolution, after: [scale]}
"""
NIGHTLY = """
name: scale-2026
store: store
samples:
  - {name: jpsi, resonance: jpsi, format: stage1, watch: ["new/*.parquet"]}
  - {name: mc, resonance: jpsi, format: stage1, simulation: true, files: ["mc/*.parquet"]}
buckets: {minimum: 100000, unit: events}
calibrations:
  - name: scale
    calibration: momentum_scale
    test: {fraction: 0.25, limit: 0.0002}
    gate: {cut: 0.0001, max: 0.01}
notify:
  - {webhook_env: NIGHTLY_HOOK, headers_env: {Authorization: NIGHTLY_TOKEN}}
"""
SITE = """
kind: slurm
workers: 20
memory_limit: 2 GB
job: {cores: 1, queue: short, walltime: "02:00:00"}
"""
EDITS = """
30-45_EE: {fit.range: [82, 98]}
62-200_BB: {hold: true}
"""
CSV = "run,luminosityBlock,luminosity(/pb)\n315252,1,0.012\n315252,2,0.013\n315255,1,0.02\n"
JSON = '{"315252": {"1": 0.00002, "2": 0.00003}, "315255": 0.012}'
CERTIFIED = '{"315252": [[1, 44], [48, 60]], "315255": [[1, 900]]}'

READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "chain": ("chain.yaml", CHAIN, lambda path: ChainRun.prepare(path, path.parent / "out")),
    "nightly": ("nightly.yaml", NIGHTLY, load_nightly),
    "site": ("site.yaml", SITE, read_site),
    "edits": ("edits.yaml", EDITS, lambda path: RunDirectory(path.parent).edits()),
    "luminosity table": ("table.csv", CSV, read_table),
    "luminosities": ("table.json", JSON, read_table),
    "certified": ("good.json", CERTIFIED, load_certified),
}


@pytest.mark.parametrize("name", READERS)
def test_mutations_are_read_or_refused(name: str, tmp_path: Path) -> None:
    file, text, read = READERS[name]
    path = tmp_path / file
    path.write_text(text)
    read(path)
    counts = {"read": 0, "refused": 0}
    for i in range(500 if LONG else 60):
        rng = np.random.default_rng([11, i])
        change = json_mutated if file.endswith("json") and i % 2 else mutated
        path.write_bytes(change(text.encode(), rng))
        try:
            read(path)
        except InputError as error:
            said = str(error)
            assert "\n" not in said and 10 < len(said) < 2_000, (name, i, said)
            counts["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}, mutation {i}: {error!r}") from error
        else:
            counts["read"] += 1
    assert counts["refused"] > 10, counts
    assert [p.name for p in tmp_path.iterdir()] == [file]
