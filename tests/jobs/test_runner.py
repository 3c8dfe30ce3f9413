"""The processor in coffea's own Runner: the sums of `calib collect`, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coffea.nanoevents import BaseSchema, NanoAODSchema
from coffea.processor import DaskExecutor, IterativeExecutor, Runner
from distributed import Client, LocalCluster

import calib
from calib.events import histograms
from calib.toys.generation import generate, momentum_truth
from jobs.events.toys import write_toys
from jobs.notebook.configurations import completed
from jobs.run.run import Run

pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference index")

FILES, EVENTS, CHUNK = 3, 1500, 500
"""Files, events of each, events of a chunk: both, coffea and we, cut a file in three."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes that work."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Write simulated J/psi as NanoAOD, with weights, and pairs of Z as stage1."""
    folder = tmp_path_factory.mktemp("runner")
    jpsi = generate("jpsi", FILES * EVENTS, seed=3, truth=momentum_truth(), simulation=True)
    write_toys(folder / "jpsi", jpsi, "nanoaod", FILES)
    write_toys(folder / "z", generate("z", FILES * EVENTS, seed=4), "stage1", FILES)
    common = {"name": "runner", "cluster": {"kind": "inline"}, "chunk_size": CHUNK}
    return {
        "nanoaod": {
            **common,
            "calibration": "momentum_scale",
            "samples": [
                {
                    "name": "mc",
                    "resonance": "jpsi",
                    "format": "nanoaod",
                    "simulation": True,
                    "files": [str(folder / "jpsi" / "*.root")],
                }
            ],
            "settings": {"eta": [-2.4, 0, 2.4], "copies": 2},
        },
        "stage1": {
            **common,
            "calibration": "mass_resolution",
            "samples": [
                {
                    "name": "data",
                    "resonance": "z",
                    "format": "stage1",
                    "files": [str(folder / "z" / "*.parquet")],
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def collected(
    samples: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[histograms.Sums, dict[str, Any]]]:
    """Return sums and accounting as `calib collect` writes them."""
    found = {}
    for format, values in samples.items():
        config, calibration, where = completed(values)
        work = Run.of((config, calibration), Path(where), tmp_path_factory.mktemp(format))
        with work.held("test"):
            work.adopt()
            work.collect()
        [name] = [s.name for s in config.samples]
        path = work.directory.path / "histograms" / f"main.{name}.npz"
        accounting = work.accounting()["samples"][name]["totals"]
        found[format] = histograms.read(path), accounting
    return found


@pytest.mark.parametrize(
    ("format", "schema"),
    [("nanoaod", NanoAODSchema), ("nanoaod", BaseSchema), ("stage1", BaseSchema)],
)
@pytest.mark.parametrize("executor", ["iterative", "dask"])
def test_sums_of_collect(
    format: str, schema: Any, executor: str, client: Client, samples: Any, collected: Any
) -> None:
    opened = calib.open_sample(samples[format])
    name, tree = opened.sample.name, {"nanoaod": "Events", "stage1": None}[format]
    paths = opened.files["path"]
    execute = {
        "iterative": IterativeExecutor(status=False),
        "dask": DaskExecutor(client=client, status=False, compression=None),
    }[executor]
    runner = Runner(
        execute,
        schema=schema,
        chunksize=CHUNK,
        format={"nanoaod": "root", "stage1": "parquet"}[format],
    )
    result = runner.run({name: {"files": dict.fromkeys(paths, tree)}}, opened.processor())
    found = result.get("out", result)[name]
    sums, accounting = collected[format]
    assert set(found["sums"]) == set(sums)
    for key, values in sums.items():
        assert found["sums"][key].dtype == values.dtype, key
        np.testing.assert_array_equal(found["sums"][key], values, err_msg=key)
    # a check of order, too: there are sums that are not whole
    assert any(v.dtype.kind == "f" and np.any(v != np.floor(v)) for v in sums.values())
    counts = found["counts"]
    assert counts["read"] == FILES * EVENTS == accounting["read"]
    assert counts["selected"] == accounting["selected"] > 1000
    assert counts["rejected"] == {k: n for k, n in accounting["rejected"].items() if n}
