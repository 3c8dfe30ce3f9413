"""Toy cosmic tracks with known relations: ``python -m drift_chamber OUT --tracks 100000``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from drift_chamber.relations import ANGLES, HALF_WIDTH, LONGEST
from drift_chamber.tracks import HEIGHT, SHAPE

RESOLUTION = 0.012
"""Of a distance, cm."""


def truth(time, shape, angle):
    """Return the true distance in cm: faster in the middle of a cell, and with the angle."""
    u = 2 * time / LONGEST[shape] - 1
    middle, skew = 0.06 + 0.15 * angle**2, 0.05 * np.sin(3 * angle) + 0.02 * shape
    return HALF_WIDTH[shape] * ((1 + u) / 2 + (middle + skew * u) * (1 - u**2))


def tracks(n, seed=1, relation=truth):
    """Return the columns of n tracks."""
    random = np.random.default_rng(seed)
    angle = random.uniform(-0.48, 0.48, n)
    x = random.uniform(-10, 10, n)[:, None] + np.tan(angle)[:, None] * HEIGHT
    width = HALF_WIDTH[SHAPE]
    odd = np.arange(8) % 2
    wire = (2 * np.round((x / width - odd) / 2) + odd) * width
    # a cell is as wide as it looks along the track
    distance = np.abs(x - wire) * np.cos(angle)[:, None]
    smeared = np.abs(distance + random.normal(0, RESOLUTION, x.shape))
    stray = random.random(x.shape) < 0.02  # an electron nearer to the wire
    smeared = np.where(stray, smeared * random.random(x.shape), smeared)
    time = _times(smeared, angle, relation)
    found = {"angle": angle, "run": np.full(n, 7, dtype=np.uint32)}
    for i in range(8):
        found[f"time_{i}"] = time[:, i].astype(np.float32)
        found[f"wire_{i}"] = wire[:, i]
        found[f"side_{i}"] = np.where(x[:, i] > wire[:, i], 1, -1).astype(np.int8)
    return found


def _times(distance, angle, relation):
    """Return the drift times: the relation turned round, on a grid of angles."""
    out = np.empty(distance.shape)
    fine = np.linspace(ANGLES[0], ANGLES[-1], 193)
    nearest = np.clip(np.searchsorted(fine, angle), 0, len(fine) - 1)
    for at in np.unique(nearest):
        rows = nearest == at
        for shape in (0, 1):
            grid = np.linspace(0, 1.2 * LONGEST[shape], 500)
            layers = SHAPE == shape
            values = np.maximum.accumulate(relation(grid, shape, fine[at]))
            out[np.ix_(rows, layers)] = np.interp(distance[np.ix_(rows, layers)], values, grid)
    return out


def write(folder, n, files=2, seed=1, relation=truth):
    """Write tracks as tables."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        table = tracks(n // files, seed + i, relation)
        table["event"] = np.arange(n // files, dtype=np.uint64) + i * (n // files)
        pq.write_table(pa.table(table), folder / f"cosmics_{i}.parquet", write_page_checksum=True)
