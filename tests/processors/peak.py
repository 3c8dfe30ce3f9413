"""A small calibration for the tests of input: counts of the mass, and every selected event."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from coffea import processor
from coffea.nanoevents import BaseSchema
from coffea.processor.executor import WorkItem

from calib.calibrations.base import Calibration, Edits, Needs
from calib.events.histograms import Fill, Sums, add
from calib.events.pairs import Pairs
from calib.results import MAIN, Pass, Reduction
from calib.schema import Sample, Strict
from calib.types import AnyArray
from jobs.config.schema import Config
from jobs.events.files import chunks, inspect
from processors.calibration import CalibrationProcessor

EDGES = np.linspace(0.0, 150.0, 76)


class Settings(Strict):
    """Settings of the test's calibration."""

    muon: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    beyond: float = 1e9
    lists: bool = True


class Peak(Calibration):
    """Counts of the mass; a pair with more than ``beyond`` GeV is of no use to it."""

    name = "peak"
    Settings = Settings
    payload_names = ("peak",)
    settings: Settings

    def needs(self, sample: Sample) -> Needs:
        return Needs(
            muon=self.settings.muon,
            optional=self.settings.optional,
            why={"ptErr": "or set settings.resolution"},
        )

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        return {"subleading_pt": 5.0, "abs_eta": 2.4}

    def rejects(self, pairs: Pairs, sample: Sample) -> Mapping[str, Any]:
        return {"too_heavy": pairs.mass > self.settings.beyond}

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        a, b = pairs.leading, pairs.subleading
        category = (a.eta >= 0).astype(np.int64)
        listed = {
            "event": pairs.event,
            "run": pairs.run,
            "lumi": pairs.luminosityBlock,
            "pt": a.pt,
            "pt2": b.pt,
            "eta": a.eta,
            "eta2": b.eta,
            "charge": a.charge,
            "charge2": b.charge,
            "mass": pairs.mass,
            "weight": pairs.weight,
            "pt_err": a.pt_err,
            "gen_mass": pairs.gen_mass,
            "gen_pt": a.gen_pt,
            **a.extra,
        }
        for name in ("gen_mass", "gen_pt"):  # sums are numbers, also where there is none
            if listed[name] is not None:
                listed[name] = np.nan_to_num(listed[name], nan=-1.0)
        peak = Fill(category, 2, pairs.mass, EDGES, pairs.weight, {"k": 1 / a.pt})
        if not self.settings.lists:  # they do not add, as sums do
            return {"peak": peak}
        return {"peak": peak, **{f"list/{n}": c for n, c in listed.items() if c is not None}}

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        raise NotImplementedError

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class Outcome:
    """What came out of all files of one sample: sums, lists of the selected events, counts."""

    sums: Sums
    events: dict[str, AnyArray]
    counts: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """Whether no event is lost."""
        c = self.counts
        return bool(c["read"] == c["selected"] + sum(c["rejected"].values()))


def configured(
    format: str, files: Sequence[str | Path], *, simulation: bool = False, **selection: Any
) -> Config:
    """Return a configuration with one sample."""
    sample = {
        "name": "s",
        "resonance": "z",
        "format": format,
        "files": [str(f) for f in files],
        "simulation": simulation,
    }
    return Config.model_validate(
        {"name": "test", "calibration": "peak", "samples": [sample], "selection": selection}
    )


def collect(
    config: Config, base: Path, *, chunk_size: int = 1_000_000, settings: Settings | None = None
) -> Outcome:
    """Return what coffea's own executor makes of a configuration, chunk by chunk."""
    calibration = Peak(settings or Settings(), config.samples, 1)
    inspection = inspect(config, calibration, base)
    samples = {s.name: s for s in config.samples}
    work = CalibrationProcessor(calibration, samples, inspection.selections, Pass())
    format = "root" if config.samples[0].format == "nanoaod" else "parquet"
    runner = processor.Runner(
        processor.IterativeExecutor(status=False), schema=BaseSchema, format=format
    )
    outputs = []
    for chunk in chunks(inspection, chunk_size):
        file = chunk.file
        item = WorkItem(
            chunk.sample,
            file.path,
            file.treename,
            chunk.start,
            chunk.stop,
            uuid.UUID(file.uuid).bytes,
            {},
        )
        result = runner.run([item], work)
        outputs.append(result.get("out", result)[chunk.sample])
    return _joined(outputs, inspection.notes)


def _joined(outputs: Sequence[dict[str, Any]], notes: tuple[str, ...]) -> Outcome:
    rejected: dict[str, int] = {}
    for out in outputs:
        for reason, n in out["counts"]["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + n
    plain = [{k: v for k, v in out["sums"].items() if not k.startswith("list/")} for out in outputs]
    names = [k.removeprefix("list/") for k in outputs[0]["sums"] if k.startswith("list/")]
    return Outcome(
        sums=add(plain),
        events={n: np.concatenate([o["sums"][f"list/{n}"] for o in outputs]) for n in names},
        counts={
            "read": sum(o["counts"]["read"] for o in outputs),
            "selected": sum(o["counts"]["selected"] for o in outputs),
            "rejected": rejected,
        },
        notes=notes,
    )
