"""Are the files of a directory whole? Each is read to its end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from calib.events import histograms


def damaged(out: Path) -> list[str]:
    """Return the files that cannot be read, with what was found."""
    found = []
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name == "lock" or path.name.endswith(".part"):
            continue
        try:
            _read(path)
        except Exception as error:
            found.append(f"{path}: {error}")
    return found


def _read(path: Path) -> None:
    if path.suffix == ".npz":
        histograms.read(path)
    elif path.suffix == ".npy":
        np.load(path, allow_pickle=False)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".yaml":
        yaml.safe_load(path.read_text())
    elif path.suffix == ".csv":
        pd.read_csv(path)
    elif path.suffix == ".parquet":
        pd.read_parquet(path)
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.stat().st_size == 0:
        raise ValueError("empty")
