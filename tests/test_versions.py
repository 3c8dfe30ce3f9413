"""The versions that work together: with a newer dask, dask-awkward fails in silence."""

from __future__ import annotations

from importlib.metadata import version

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
from distributed import Client, LocalCluster


def test_versions_are_the_pair_that_works() -> None:
    assert version("dask") == version("distributed")
    assert (2025, 3) <= tuple(int(part) for part in version("dask").split(".")[:2]) < (2025, 4)


def test_dask_awkward_computes() -> None:
    events = ak.Array([{"pt": [40.0, 30.0]}, {"pt": []}, {"pt": [25.0]}])
    lazy = dak.from_awkward(events, npartitions=2)
    with dask.config.set(scheduler="synchronous"):
        assert ak.sum(lazy.pt, axis=1).compute().to_list() == [70.0, 0.0, 25.0]
        assert lazy.pt[lazy.pt > 28].compute().to_list() == [[40.0, 30.0], [], []]


def test_dask_awkward_computes_on_two_workers() -> None:
    counts = np.arange(100) % 4
    events = ak.unflatten(np.arange(counts.sum(), dtype=np.float64), counts)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        total = ak.sum(dak.from_awkward(events, npartitions=4))
        assert client.compute(total).result() == np.arange(counts.sum()).sum()
        assert len(client.nthreads()) == 2
