"""Which columns of a file are read for what: NanoAOD and stage1 beside each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from calib.calibrations.base import Needs
from calib.events.cuts import OF_MUONS
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


PT_ERROR = {"bsConstrainedPt": "bsConstrainedPtErr"}
"""Errors of what may be the pt of a muon, where it has one of its own."""

MASS_RESOLUTION = "dimuon_ebe_mass_res"
"""Predicted resolution of the mass in GeV, in tables that have no ptErr."""

ALIASES = {"mu1_pfRelIso04_all": "mu1_iso", "mu2_pfRelIso04_all": "mu2_iso"}
"""Columns of stage1 that tables of an analysis have under another name."""


def stand_ins(have: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the columns of stage1 that a file lacks and others make up for, with those.

    ptErr of both muons comes from the predicted resolution of their mass, in equal shares.
    """
    found = {n: (other,) for n, other in ALIASES.items() if n not in have and other in have}
    errors = muon_columns("stage1", "ptErr")
    sources = (
        MASS_RESOLUTION,
        *(c for name in ("pt", "eta", "phi") for c in muon_columns("stage1", name)),
    )
    if not set(errors) & set(have) and set(sources) <= set(have):
        found |= dict.fromkeys(errors, sources)
    return found


def in_file(wanted: Iterable[str], have: Collection[str]) -> tuple[str, ...]:
    """Return the columns of a file of stage1 that the wanted ones are, or are made from.

    Parameters
    ----------
    wanted : iterable of str
        Columns.
    have : collection of str
        Columns of the file.

    Returns
    -------
    tuple of str
        Each once.
    """
    made = stand_ins(have)
    found = (source for name in wanted for source in made.get(name, (name,)))
    return tuple(dict.fromkeys(source for source in found if source in have))


def columns_of_pt(selection: ResolvedSelection, needs: Needs) -> tuple[str, ...]:
    """Return what is read of a muon beside pt and ptErr, to say what its pt is.

    Parameters
    ----------
    selection : ResolvedSelection
        Says which column is the pt.
    needs : Needs
        Whether ptErr is wanted.

    Returns
    -------
    tuple of str
        Quantities of a muon; empty where pt is ``pt``.
    """
    chosen = selection.muon_pt
    if chosen == "pt":
        return ()
    error = PT_ERROR.get(chosen)
    wants_error = "ptErr" in (*needs.muon, *needs.optional)
    return (chosen, error) if error and wants_error else (chosen,)


def muon_columns(format: str, name: str) -> tuple[str, ...]:
    """Return the columns that hold a quantity of the muons.

    Parameters
    ----------
    format : {"nanoaod", "stage1"}
        Of the file.
    name : str
        Quantity, by its name in NanoAOD (``ptErr``).

    Returns
    -------
    tuple of str
        One column (NanoAOD) or those of both muons (stage1).
    """
    if format == "nanoaod":
        return (f"Muon_{name}",)
    own = STAGE1.get(name, name)
    return f"mu1_{own}", f"mu2_{own}"


def identification_column(level: str) -> str:
    """Return the name of an identification without ``Muon_``."""
    return f"{level}Id"


def required(sample: Sample, needs: Needs, selection: ResolvedSelection) -> dict[str, str]:
    """Return the columns that must be there, each with what wants it.

    Parameters
    ----------
    sample : Sample
        Its format, and whether it is simulated.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts.

    Returns
    -------
    dict of str to str
        By column, what wants it.
    """
    wanted: dict[str, str] = {}
    if sample.format == "table":
        return dict.fromkeys(needs.columns, "the calibration")
    if sample.format == "stage1":
        wanted |= {"event": "the format stage1"}
    wanted |= dict.fromkeys(needs.columns, "the calibration")
    names = dict.fromkeys(KINEMATICS, "every calibration")
    for name in needs.muon:
        names.setdefault(name, "the calibration")
    if selection.identification is not None:
        names[identification_column(selection.identification)] = "key 'selection.identification'"
    if selection.isolation is not None:
        names[ISOLATION] = "key 'selection.isolation'"
    for name in columns_of_pt(selection, needs):
        names.setdefault(name, "key 'selection.muon_pt'")
    if sample.simulation and sample.format == "nanoaod":
        names[GEN_PARTNER] = "a sample with simulation: true"
        wanted |= dict.fromkeys(GEN_PARTICLES, "a sample with simulation: true")
    for branch, why in of_cuts(selection).items():
        if branch.startswith(OF_MUONS):
            names.setdefault(branch.removeprefix(OF_MUONS), why)
        else:
            wanted.setdefault(branch, why)
    for name, why in names.items():
        wanted |= dict.fromkeys(muon_columns(sample.format, name), why)
    return wanted


def of_cuts(selection: ResolvedSelection) -> dict[str, str]:
    """Return the branches of the user's own cuts, each with the key, the cut and the place."""
    found: dict[str, str] = {}
    for cut in selection.cuts:
        for name, place in cut.branches.items():
            found.setdefault(name, f"key {cut.key!r} (in {cut.text!r} at character {place})")
    return found


def any_of(sample: Sample, selection: ResolvedSelection) -> dict[str, tuple[str, ...]]:
    """Return the columns of which a file must have one at least, by the key that wants them.

    Parameters
    ----------
    sample : Sample
        Its name is said.
    selection : ResolvedSelection
        Its triggers and vetos.

    Returns
    -------
    dict of str to tuple of str
        By key, the columns.
    """
    found = {
        "key 'selection.triggers'": selection.triggers,
        f"key 'veto' of sample {sample.name!r}": selection.veto,
    }
    return {key: names for key, names in found.items() if names}


def optional(sample: Sample, needs: Needs) -> tuple[tuple[str, ...], ...]:
    """Return the columns that are read where they are there; those of a group go together.

    Parameters
    ----------
    sample : Sample
        Its format, and whether it is simulated.
    needs : Needs
        Columns that the calibration can use.

    Returns
    -------
    tuple of tuple of str
        Groups.
    """
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
    """Return all columns that the processor may read of this sample (for a reader's filter).

    Parameters
    ----------
    sample : Sample
        Its format, and whether it is simulated.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts.

    Returns
    -------
    tuple of str
        Each once.
    """
    found = dict.fromkeys(required(sample, needs, selection))
    for group in (*any_of(sample, selection).values(), *optional(sample, needs)):
        found |= dict.fromkeys(group)
    return tuple(found)
