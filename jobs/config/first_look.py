"""What is in files that nobody has described yet: format, resonance, simulation, triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import uproot

from calib.errors import InputError
from calib.events import peak_check
from calib.physics import kinematics
from calib.physics.constants import RESONANCES
from calib.schema import Sample
from calib.types import AnyArray, Array
from jobs.events.addresses import expand, is_remote
from jobs.events.apply import SIMULATED
from jobs.events.facts import cannot_be_opened
from jobs.events.root import TREE

LOOK = 200_000
"""Events of the first file that are looked at."""
FEWEST, SIGNIFICANCE, CONTRAST = 20, 4.0, 1.3
"""Pairs in a peak, its significance and its density over that beside it, to call it one."""
OFTEN = 0.05
"""Share of the pairs under the peak that a trigger must have fired for to be named."""
MOST_TRIGGERS = 6
MUON = {"nanoaod": "Muon_{name}", "stage1": "mu1_{name}"}
CONSTRAINED = "bsConstrainedPt"


@dataclass(frozen=True)
class FirstLook:
    """What files are, as far as one look at the first of them says.

    ``resonance`` is empty where no peak is seen. ``triggers`` has the share of the pairs under the
    peak for which each fired.
    """

    files: str
    format: str
    simulation: bool
    resonance: str
    pairs: int
    columns: frozenset[str]
    triggers: Mapping[str, float] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Return whether the muons have a column, by its name in NanoAOD without ``Muon_``."""
        return MUON[self.format].format(name=name) in self.columns

    def lines(self) -> list[str]:
        """Return what was found, in words."""
        kind = "simulation" if self.simulation else "data"
        seen = f"a peak of {self.resonance}" if self.resonance else "no peak of a known resonance"
        out = [f"{self.files}: {kind}, {self.format}; {seen} in {self.pairs} pairs"]
        missing = [n for n in ("ptErr", "mediumId", "pfRelIso04_all") if not self.has(n)]
        if missing:
            out.append(f"the muons have no {', '.join(missing)}")
        if self.has(CONSTRAINED):
            out.append(f"there is a pt with the beam-spot constraint: muon_pt: {CONSTRAINED}")
        if self.triggers:
            shares = ", ".join(f"{name} ({100 * s:.0f} %)" for name, s in self.triggers.items())
            out.append(f"triggers that fired for the pairs under the peak: {shares}")
        return out


def first_look(files: str, base: Path) -> FirstLook:
    """Return what the files of a glob are.

    Parameters
    ----------
    files : str
        Glob, directory, path or address, relative to ``base``.
    base : Path
        Folder.

    Returns
    -------
    FirstLook
        Of the first of them.

    Raises
    ------
    InputError
        If there are none, or the first cannot be read as NanoAOD or stage1.
    """
    path, format = _first(files, base)
    try:
        columns, events = (_of_root if format == "nanoaod" else _of_parquet)(path)
    except InputError:
        raise
    except Exception as error:  # readers have errors of any kind
        what = "NanoAOD" if format == "nanoaod" else "a stage1 file"
        raise cannot_be_opened(path, what, error) from error
    mass, fired = events
    resonance = seen(mass)
    return FirstLook(
        files,
        format,
        bool(set(SIMULATED[format]) & columns),
        resonance,
        len(mass),
        frozenset(columns),
        _often(mass, fired, resonance),
    )


def seen(mass: Array) -> str:
    """Return the resonance whose peak stands out most in a mass spectrum, empty for none.

    Parameters
    ----------
    mass : array, shape (n,)
        GeV, of pairs.
    """
    found = {}
    for name in RESONANCES:
        counts = peak_check.spectrum(mass, name)
        ratio, significance = peak_check.contrast(counts, name)
        if counts.sum() >= FEWEST and ratio > CONTRAST and significance > SIGNIFICANCE:
            found[name] = significance
    return max(found, key=lambda name: found[name], default="")


def _first(files: str, base: Path) -> tuple[str, str]:
    """Return the first file and its format, which its name says."""
    refused = []
    for format in MUON:
        sample = Sample(name="files", resonance="z", format=format, files=(files,))  # type: ignore[arg-type]
        try:
            path = expand(sample, base)[0]
        except InputError as error:
            refused.append(error)
            continue
        suffix = Path(path).suffix
        if (suffix == ".parquet") == (format == "stage1"):
            return path, format
    if refused:
        raise InputError(str(refused[0]).replace("sample 'files', key 'files'", "option --files"))
    raise InputError(f"option --files: {files}: expected .root (NanoAOD) or .parquet (stage1)")


def _of_root(path: str) -> tuple[set[str], tuple[Array, Mapping[str, AnyArray]]]:
    with uproot.open({path: None}) as file:
        if TREE not in file:
            raise InputError(f"{path}: no {TREE}, expected NanoAOD; there is {list(file.keys())}")
        tree = file[TREE]
        columns = {name.split(".")[0] for name in tree.keys()}
        wanted = [f"Muon_{name}" for name in ("pt", "eta", "phi", "charge")]
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise InputError(f"{path}: no {', '.join(missing)}, expected NanoAOD with muons")
        paths = [name for name in columns if name.startswith("HLT_") and "Mu" in name]
        read = tree.arrays([*wanted, *paths], entry_stop=LOOK)
    muons = ak.zip({name: read[f"Muon_{name}"] for name in ("pt", "eta", "phi", "charge")})
    muons = muons[ak.argsort(muons.pt, ascending=False)][ak.num(muons) >= 2]
    first, second = muons[:, 0], muons[:, 1]
    opposite = ak.to_numpy(first.charge * second.charge < 0)
    parts = [
        ak.to_numpy(muon[name]).astype(np.float64)[opposite]
        for muon in (first, second)
        for name in ("pt", "eta", "phi")
    ]
    of_pairs = ak.to_numpy(ak.num(read["Muon_pt"]) >= 2)
    fired = {name: ak.to_numpy(read[name])[of_pairs][opposite] for name in sorted(paths)}
    return columns, (kinematics.mass(*parts), fired)


def _of_parquet(path: str) -> tuple[set[str], tuple[Array, Mapping[str, AnyArray]]]:
    if is_remote(path):
        raise InputError(f"{path}: a first look is at ROOT files or local parquet; copy one here")
    with pq.ParquetFile(path) as file:
        columns = set(file.schema_arrow.names)
        if "dimuon_mass" not in columns:
            raise InputError(f"{path}: no column dimuon_mass, expected stage1 (one row a pair)")
        rows = next(file.iter_batches(LOOK, columns=["dimuon_mass"]), None)
    mass = np.zeros(0) if rows is None else rows.column(0).to_numpy(zero_copy_only=False)
    return columns, (np.asarray(mass, dtype=np.float64), {})


def _often(mass: Array, fired: Mapping[str, AnyArray], resonance: str) -> dict[str, float]:
    """Return the triggers that fired most often for pairs under the peak."""
    if not resonance:
        return {}
    near = np.zeros(len(mass), dtype=np.bool_)
    for m in RESONANCES[resonance].masses:
        near |= np.abs(mass / m - 1) < peak_check.CORE[resonance]
    shares = {name: float(np.mean(on[near])) for name, on in fired.items()}
    often: Sequence[str] = sorted(
        (n for n, share in shares.items() if share >= OFTEN), key=lambda n: (-shares[n], n)
    )
    return {name: shares[name] for name in often[:MOST_TRIGGERS]}
