"""A calibration whose chunks kill, stop, hang or fill their worker, as often as they are told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import mean_mass
import numpy as np
from pydantic import Field

from calib.events.histograms import Fill
from calib.events.pairs import Pairs
from calib.results import Pass
from calib.schema import Sample
from calib.types import AnyArray


class Settings(mean_mass.Settings):
    """Which event does what, -1 for none."""

    kill: int = Field(default=-1, description="event that kills its worker")
    stop: int = Field(default=-1, description="event that stops its worker")
    hang: int = Field(default=-1, description="event that sleeps for an hour")
    eat: int = Field(default=-1, description="event that takes 3 GB")
    marks: str = Field(default="", description="folder in which each trouble leaves a file")
    times: int = Field(default=1_000, description="then it is over")


class Trouble(mean_mass.MeanMass):
    """The mean mass, with troubles on the way."""

    Settings = Settings
    settings: Settings

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        for name in ("kill", "stop", "hang", "eat"):
            if np.any(pairs.event == getattr(self.settings, name)) and self._is_on(name):
                _TROUBLES[name]()
        return super().collect(pairs, sample, walk)

    def _is_on(self, name: str) -> bool:
        folder = Path(self.settings.marks)
        before = len(list(folder.glob(f"{name}.*")))
        if before < self.settings.times:
            (folder / f"{name}.{before}").touch()
        return before < self.settings.times


def _eat() -> None:
    # by and by, so that the nanny sees it; below what would bring down the machine
    held = []
    for _ in range(60):
        held.append(np.ones(6_250_000))
        time.sleep(0.1)
    time.sleep(120)  # the nanny of a busy machine looks later


_TROUBLES = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(3600),
    "eat": _eat,
}
