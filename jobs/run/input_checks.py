"""Events that are there twice, and samples without a peak: from what each chunk has seen.

The keys (64 bits of run, luminosityBlock and event) of the selected events of a chunk are kept
beside its sums, eight bytes an event. Doubles are counted a few groups of keys at a time, so that
memory stays bounded however many events there are; two different events share a key with a
chance of 3e-4 in 100 M.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import CalibError
from calib.events import histograms
from calib.events.duplicates import count_doubles, later_ones, n_keys
from calib.events.peak_check import contrast
from calib.results import Check, Pass
from calib.schema import Sample
from calib.types import AnyArray, UIntArray
from jobs.config.complete import Work
from jobs.config.schema import Config
from jobs.storage.files import write_bytes
from processors.input_checks import Seen

AT_ONCE = 200_000
"""Keys that are compared at a time: their table fits in the cache."""

LEAST = 500
"""Selected events below which nothing is said about a peak."""

MOST_REPEATED = 0.5
"""Of simulated events, that may have the numbers of another: each random number is then used
twice, which adds to the noise of a reference less than the data have."""

LEAST_RATIO, LEAST_SIGNIFICANCE = 1.2, 5.0
"""Of the density under the peak to that beside it."""


def wanted(config: Config) -> str:
    """Return what of the configuration matters here."""
    return config.duplicates


def seeing(work: Work, walk: Pass) -> Any:
    """Return the calibration, in the first pass with an eye on its events.

    Parameters
    ----------
    work : Work
        With its calibration.
    walk : Pass
        Which walk over the events.

    Returns
    -------
    Calibration or Seen
        Whose `collect` is called.
    """
    if walk.name != "main":
        return work.calibration
    return Seen(work.calibration, work.config.duplicates != "ignore")


def wants_keys(work: Work, walk: Pass, sample: str) -> bool:
    """Return whether the keys of a sample's events are kept in a pass.

    Parameters
    ----------
    work : Work
        With its configuration.
    walk : Pass
        Which walk over the events.
    sample : str
        Name.

    Returns
    -------
    bool
        True only in the first pass.
    """
    own = next(s for s in work.config.samples if s.name == sample)
    asked = walk.name == "main" and work.config.duplicates != "ignore"
    return asked and own.format != "table"


# keys --------------------------------------------------------------------------------------------
def _keys_path(chunk: Path) -> Path:
    return chunk.with_name(f"{chunk.stem}.keys.npy")


def has_keys(chunk: Path) -> bool:
    """Return whether the keys of a chunk are there, and whole."""
    try:
        return n_keys(_open(chunk)) >= 0
    except (OSError, ValueError):
        return False


def packed(keys: UIntArray) -> bytes:
    """Return the file of the grouped keys of a chunk.

    Parameters
    ----------
    keys : uint array
        Of `calib.events.duplicates.grouped`.

    Returns
    -------
    bytes
        A .npy.
    """
    file = BytesIO()
    np.lib.format.write_array(file, keys, allow_pickle=False)
    return file.getvalue()


def write_keys(chunk: Path, content: bytes) -> None:
    """Keep the keys of a chunk beside its sums.

    Parameters
    ----------
    chunk : Path
        File of its sums.
    content : bytes
        Of `packed`.
    """
    write_bytes(_keys_path(chunk), content)


def _open(chunk: Path) -> UIntArray:
    found: UIntArray = np.load(_keys_path(chunk), mmap_mode="r", allow_pickle=False)
    return found


# accounting ---------------------------------------------------------------------------------------
def account(
    work: Work, chunks: Mapping[str, Sequence[Path]], files: Mapping[tuple[str, str], Sequence[Any]]
) -> dict[str, Any]:
    """Return the entries ``duplicates``, ``repeated`` and ``peaks`` of the accounting.

    Parameters
    ----------
    work : Work
        With its configuration.
    chunks : mapping of sample to the files of its chunks
    files : mapping of (sample, path) to the pieces of a file, each with ``path``

    Returns
    -------
    dict
        What is added to the accounting.
    """
    return {
        "duplicates": _duplicates(work, chunks),
        "repeated": _repeated(work, chunks),
        "peaks": _peaks(work, files),
    }


def _duplicates(work: Work, chunks: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """Return the doubles of all samples of one resonance together."""
    found = []
    own = [s for s in _with_keys(work) if not s.simulation]
    for resonance in dict.fromkeys(s.resonance for s in own):
        names = [s.name for s in own if s.resonance == resonance]
        keys = [_open(path) for name in names for path in chunks.get(name, ())]
        found.append(
            {
                "samples": names,
                "selected": sum(n_keys(k) for k in keys),
                "duplicates": count_doubles(keys, AT_ONCE),
            }
        )
    return found


def _with_keys(work: Work) -> list[Sample]:
    return [s for s in work.config.samples if wants_keys(work, Pass(), s.name)]


def _repeated(work: Work, chunks: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """Return how many simulated events have the numbers of another one of their sample."""
    found = []
    for sample in _with_keys(work):
        if sample.simulation:
            keys = [_open(path) for path in chunks.get(sample.name, ())]
            n = sum(n_keys(k) for k in keys)
            again = count_doubles(keys, AT_ONCE)
            found.append({"sample": sample.name, "selected": n, "repeated": again})
    return found


def notes(accounting: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of simulation whose numbers repeat."""
    return [
        f"sample {entry['sample']}: {entry['repeated']} of {entry['selected']} simulated events"
        " have run, luminosityBlock and event of another one, and share its random numbers"
        for entry in accounting.get("repeated", ())
        if entry["repeated"]
    ]


Excluded = tuple[UIntArray, UIntArray]
"""Keys of a chunk that an earlier one has, and those that it has several times."""


def excluded(work: Work, chunks: Sequence[tuple[str, Path]]) -> dict[Path, Excluded]:
    """Return what chunks leave out, so that each event of data is used once: in the first one.

    Parameters
    ----------
    work : Work
        With its configuration.
    chunks : sequence of (sample, file of a chunk of the first pass)
        In the order of the events; those without anything to leave out are not in the result.

    Returns
    -------
    dict of Path to (earlier, again)
        By file of the chunk, keys in ascending order.

    Raises
    ------
    CalibError
        If the keys of a chunk are gone.
    """
    samples = {s.name: s for s in _with_keys(work) if not s.simulation}
    found: dict[Path, Excluded] = {}
    for resonance in dict.fromkeys(s.resonance for s in samples.values()):
        own = [p for n, p in chunks if n in samples and samples[n].resonance == resonance]
        gone = [path for path in own if not has_keys(path)]
        if gone:
            raise CalibError(
                f"{_keys_path(gone[0])}: the keys of its events are gone; remove"
                f" {work.directory.path / '.calib' / 'steps'} and run again, which reads them anew"
            )
        for path, parts in zip(own, later_ones([_open(p) for p in own], AT_ONCE), strict=True):
            if any(map(len, parts)):
                found[path] = parts
    return found


def _peaks(work: Work, files: Mapping[tuple[str, str], Sequence[Any]]) -> dict[str, Any]:
    """Return the contrast of the peak of each sample, and the files that have none."""
    found: dict[str, Any] = {}
    for sample in work.config.samples:
        if sample.format == "table":
            continue
        spectra: dict[str, AnyArray] = {}
        for (name, path), pieces in files.items():
            if name == sample.name and pieces:
                spectra[path] = sum(
                    np.asarray(histograms.read(p.path, only="events/")["events/spectrum"])
                    for p in pieces
                )
        if not spectra or sample.resonance == "h":  # no peak of the Higgs is seen by eye
            continue
        total = sum(spectra.values())
        ratio, significance = contrast(np.asarray(total), sample.resonance)
        without = [p for p, s in spectra.items() if not _has_peak(s, sample.resonance)]
        found[sample.name] = {
            "events": int(np.sum(total)),
            "ratio": _finite(ratio),
            "significance": _finite(significance),
            "files_without": without,
        }
    return found


def _has_peak(counts: AnyArray, resonance: str) -> bool:
    ratio, significance = contrast(counts, resonance)
    if int(counts.sum()) < LEAST:
        return True
    return ratio >= LEAST_RATIO and significance >= LEAST_SIGNIFICANCE


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def checks(accounting: Mapping[str, Any]) -> list[Check]:
    """Return the checks of the verdict: no event twice, a peak in every file."""
    found = []
    for entry in accounting.get("duplicates", ()):
        n = entry["duplicates"]
        found.append(
            Check.at_most(
                "duplicates",
                n,
                0,
                f"selected events that are there again, of {entry['selected']} in"
                f" {', '.join(entry['samples'])}",
                title="Duplicate events",
                advice="take the files that overlap out of 'files', or use each event once:"
                " duplicates: first",
            )
        )
    for entry in accounting.get("repeated", ()):
        if entry["repeated"]:
            share = entry["repeated"] / entry["selected"]
            found.append(
                Check.at_most(
                    f"repeated numbers {entry['sample']}",
                    share,
                    MOST_REPEATED,
                    "share of the simulated events with run, section and event number of another"
                    " one, and so with the same random numbers",
                    title=f"Repeated event numbers in {entry['sample']}",
                    advice="give each simulated event an event number of its own",
                )
            )
    for name, entry in accounting.get("peaks", {}).items():
        without, ratio = entry["files_without"], entry["ratio"]
        first = f"; no peak in {len(without)} files, the first: {without[0]}" if without else ""
        found.append(
            Check(
                f"peak {name}",
                float("nan") if ratio is None else ratio,
                LEAST_RATIO,
                not without,
                f"events under the peak over those expected from the sidebands{first}",
                ">=",
                f"Peak in {name}",
                f"look at {without[0] if without else ''}: another resonance than its key"
                " 'resonance' says, another unit of pt, or masses that are not of these muons",
            )
        )
    return found
