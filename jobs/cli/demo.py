"""The whole chain on simulated events with known truth, in one command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.documents import json_values, yaml_text, yaml_values
from calib.errors import InputError
from calib.later import pandas as pd
from calib.toys.generation import Truth, generate
from jobs.events.toys import add_truths, truth_of, write_toys
from jobs.progress import Progress
from jobs.run.run import Run
from jobs.storage.files import plain, write_csv, write_text

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.console import Console

TEMPLATE = Path(__file__).parents[1] / "pages" / "templates" / "demo.yaml"
FILES = 4
SEED = 1
SIMULATED_SCALE = 0.88
"""The simulated sample resolves 12 % too well, as simulations do."""


@dataclass(frozen=True)
class Shown:
    """What the demonstration found: each value beside the truth."""

    run: Run
    table: pd.DataFrame
    value: str

    def conclude(self, own: Console) -> dict[str, Any]:
        """Show the table, the verdict and where the report lies; return them."""
        own.show(_rich(self.table, self.value))
        own_value = self.table["status"] == "ok" if "status" in self.table else slice(None)
        pulls = self.table.loc[own_value, "pull"].dropna().to_numpy()
        rms = float(np.sqrt(np.mean(pulls**2))) if len(pulls) else math.nan
        own.say(f"{len(pulls)} categories with a fit of their own: pull rms {rms:.2f}\n")
        decided = self.run.conclude(own)
        rows = self.table.to_dict(orient="records")
        return {**decided, "pull_rms": rms, "truth": rows}


def demonstrate(out: Path, events: int, workers: int, progress: Progress) -> Shown:
    """Make toys, calibrate them on a local cluster, and compare with the truth.

    Everything lies below ``out``: ``toys/``, ``demo.yaml`` and the run in ``run/``. What is
    there already from an earlier demonstration of the same size is used again.
    """
    config = yaml_values(TEMPLATE.read_text(encoding="utf-8"))
    config["cluster"]["workers"] = workers
    folders = [out / Path(sample["files"][0]).parent for sample in config["samples"]]
    _make_toys(folders, config["samples"], events, progress)
    path = out / "demo.yaml"
    write_text(path, yaml_text(config, sort_keys=False))
    run = Run.prepare(path, out / "run")
    with run.held("calib demo"):
        run.execute(progress)
    found = truth_of(folders[0] / "truth.json", type(run.calibration))
    table = beside_truth(run, found)
    write_csv(out / "truth.csv", table)
    return Shown(run, table, str(found["value"]))


def _make_toys(
    folders: Sequence[Path], samples: Sequence[Mapping[str, Any]], events: int, progress: Progress
) -> None:
    out = folders[0].parent
    if out.exists() and not (out.is_dir() and set(out.iterdir()) <= _of_a_demonstration(folders)):
        raise InputError(f"{out}: exists and is not a demonstration; choose another --out")
    for number, (folder, sample) in enumerate(zip(folders, samples, strict=True)):
        if (folder / "truth.json").is_file():
            made = json_values((folder / "truth.json").read_text(encoding="utf-8"))
            if made.get("events") != events:
                raise InputError(
                    f"{out}: holds a demonstration of {made.get('events')} events, and"
                    f" {events} are asked for; remove it or choose another --out"
                )
            continue
        progress("make toys", number, len(folders))
        simulation = bool(sample.get("simulation", False))
        truth = Truth(resolution_scale=SIMULATED_SCALE) if simulation else Truth()
        made = generate(
            sample["resonance"], events, seed=SEED + number, truth=truth, simulation=simulation
        )
        write_toys(folder, made, sample["format"], min(FILES, events))
        add_truths(folder, made.pairs)
    progress("make toys", 1, 1)


def _of_a_demonstration(folders: Sequence[Path]) -> set[Path]:
    out = folders[0].parent
    return {*folders, out / "demo.yaml", out / "run", out / "truth.csv"}


def beside_truth(run: Run, found: Mapping[str, Any]) -> pd.DataFrame:
    """Return every value with its error, the truth with its own, and the pull with both."""
    table = plain(pd.read_csv(run.directory / f"{found['table']}.csv"))
    key, value = str(found["key"]), str(found["value"])
    out = table[[key, "n_events"]].copy() if "n_events" in table else table[[key]].copy()
    out["value"], out["error"] = table[value], table[f"{value}_err"]
    out["truth"] = [found["truth"].get(str(name), math.nan) for name in table[key]]
    known = found.get("truth_err") or {}
    out["truth_err"] = [float(known.get(str(name), 0.0)) for name in table[key]]
    out["pull"] = (out["value"] - out["truth"]) / np.hypot(out["error"], out["truth_err"])
    if "status" in table:
        out["status"] = table["status"]
    return out


def _rich(frame: pd.DataFrame, value: str) -> Table:
    from rich.table import Table

    names = {"value": value, "error": "+-", "truth_err": "+-"}
    table = Table(box=None, pad_edge=False)
    for column in frame.columns:
        left = column in (frame.columns[0], "status")
        table.add_column(names.get(column, column), justify="left" if left else "right")
    digits = {"value": 4, "error": 4, "truth": 4, "truth_err": 4, "pull": 2}
    for row in frame.to_dict(orient="records"):
        table.add_row(*(_cell(v, digits.get(str(k))) for k, v in row.items()))
    return table


def _cell(value: Any, digits: int | None) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    return str(value) if digits is None else f"{value:.{digits}f}"
