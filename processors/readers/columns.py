"""Which columns of a file are read for what: NanoAOD and stage1 beside each other."""

from __future__ import annotations

from calib.calibrations.base import Needs
from calib.schema import Sample
from processors.selection import ResolvedSelection

KINEMATICS = ("pt", "eta", "phi", "charge")
KNOWN = (*KINEMATICS, "ptErr")
IDENTITY = ("run", "luminosityBlock", "event")
ISOLATION = "pfRelIso04_all"
GEN_PARTICLES = tuple(f"GenPart_{name}" for name in ("pt", "eta", "phi", "pdgId", "status"))
GEN_PARTNER = "genPartIdx"
GEN_WEIGHT = {"nanoaod": "genWeight", "stage1": "wgt_nominal"}
WEIGHT = "weight"
"""Of a row of a table."""

N_MUONS = "nMuon"
"""Of NanoAOD: how many muons an event has."""

GEN_MASS = "gen_dimuon_mass"
GEN_KINEMATICS = ("gen_pt", "gen_eta", "gen_phi")


STAGE1 = {"dxy": "d0", "dz": "z0", "dxyErr": "d0_err", "dzErr": "z0_err"}
"""Quantities of the muons that stage1 has under another name than NanoAOD; both in cm."""


def muon_columns(format: str, name: str) -> tuple[str, ...]:
    """Return the columns that hold a quantity of the muons, by its name in NanoAOD."""
    if format == "nanoaod":
        return (f"Muon_{name}",)
    own = STAGE1.get(name, name)
    return f"mu1_{own}", f"mu2_{own}"


def identification_column(level: str) -> str:
    """Return the name of an identification without ``Muon_``."""
    return f"{level}Id"


def required(sample: Sample, needs: Needs, selection: ResolvedSelection) -> dict[str, str]:
    """Return the columns that must be there, each with what wants it."""
    wanted: dict[str, str] = {}
    if sample.format == "table":
        return dict.fromkeys(needs.columns, "the calibration")
    if sample.format == "stage1":
        wanted |= {"run": "the format stage1", "event": "the format stage1"}
    wanted |= dict.fromkeys(selection.triggers, "key 'selection.triggers'")
    names = dict.fromkeys(KINEMATICS, "every calibration")
    for name in needs.muon:
        names.setdefault(name, "the calibration")
    if selection.identification is not None:
        names[identification_column(selection.identification)] = "key 'selection.identification'"
    if selection.isolation is not None:
        names[ISOLATION] = "key 'selection.isolation'"
    if sample.simulation and sample.format == "nanoaod":
        names[GEN_PARTNER] = "a sample with simulation: true"
        wanted |= dict.fromkeys(GEN_PARTICLES, "a sample with simulation: true")
    for name, why in names.items():
        wanted |= dict.fromkeys(muon_columns(sample.format, name), why)
    return wanted


def optional(sample: Sample, needs: Needs) -> tuple[tuple[str, ...], ...]:
    """Return the columns that are read where they are there; those of a group go together."""
    if sample.format == "table":
        return tuple((name,) for name in (*needs.optional, *IDENTITY, WEIGHT))
    groups = [muon_columns(sample.format, name) for name in needs.optional]
    groups += [(name,) for name in IDENTITY]
    if sample.format == "stage1" or sample.simulation:
        groups.append((GEN_WEIGHT[sample.format],))
    if sample.format == "stage1" and sample.simulation:
        groups.append((GEN_MASS,))
        groups.append(gen_kinematics())
    return tuple(groups)


def gen_kinematics() -> tuple[str, ...]:
    """Return the columns of the generated muons in stage1."""
    return tuple(c for name in GEN_KINEMATICS for c in muon_columns("stage1", name))


def read(sample: Sample, needs: Needs, selection: ResolvedSelection) -> tuple[str, ...]:
    """Return all columns that the processor may read of this sample (for a reader's filter)."""
    found = dict.fromkeys(required(sample, needs, selection))
    for group in optional(sample, needs):
        found |= dict.fromkeys(group)
    return tuple(found)
