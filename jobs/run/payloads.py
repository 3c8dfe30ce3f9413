"""Payload files: written after correctionlib has validated them, and found again by address."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calib import calibrations
from calib.calibrations.capabilities import corrects
from calib.documents import MAX_JSON
from calib.errors import CalibError, InputError
from calib.payload.description import muon_pt_of
from calib.payload.payload import parsed, validate
from calib.schema import Sample
from jobs.config.schema import Config
from jobs.events.addresses import is_remote
from jobs.storage.files import write_bytes, write_text
from processors.corrections import Correction, tried
from processors.readers.mapping import pt_of


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a payload (``.json``, or ``.json.gz``), whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    document : mapping
        A correctionlib document of schema 2.

    Raises
    ------
    CalibError
        If correctionlib does not accept it.
    """
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
        validate(json.loads(text), text)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CalibError(f"{path}: correctionlib refuses the payload ({reason})") from error
    if path.suffix == ".gz":
        write_bytes(path, gzip.compress((text + "\n").encode(), mtime=0))
    else:
        write_text(path, text + "\n")


# applied to events -------------------------------------------------------------------------------
Known = dict[str, Correction]
"""Payloads that have been read, by address."""


def corrections_of(config: Config, base: Path) -> dict[str, tuple[Correction, ...]]:
    """Return the payloads that are applied to the events of each sample, in order.

    Parameters
    ----------
    config : Config
        With samples and payloads.
    base : Path
        Folder of the configuration.

    Returns
    -------
    dict of str to tuple of Correction
        By sample.

    Raises
    ------
    InputError
        If one cannot be read, is no payload, comes from no calibration known here, or cannot be
        applied to such events.
    """
    known: Known = {}
    return {s.name: _of_sample(config, s, base, known) for s in config.samples}


def _of_sample(config: Config, sample: Sample, base: Path, known: Known) -> tuple[Correction, ...]:
    key = "key 'payloads'"
    if sample.payloads is not None:
        key = f"sample {sample.name!r}, key 'payloads'"
    found = []
    for address in config.payloads_of(sample):
        try:
            if address not in known:
                known[address] = correction(address, base)
            if sample.format == "table":
                raise InputError("a table has no muons to be corrected; leave the payload out")
            tried(known[address], sample.simulation)
            _require_new(known[address], found)
            _require_pt(known[address], config)
        except InputError as error:
            text = str(error)
            named = text if text.startswith(address) else f"{address}: {text}"
            raise InputError(f"{key}: {named}") from None
        found.append(known[address])
    return tuple(found)


def _require_new(one: Correction, before: Sequence[Correction]) -> None:
    same = [c.address for c in before if c.sha256 == one.sha256]
    if same:
        raise InputError(
            f"the same payload as {same[0]}, which would correct the muons twice; name it once"
        )


def _require_pt(one: Correction, config: Config) -> None:
    own, asked = muon_pt_of(one.document), muon_pt_of_samples(config)
    if own != asked and corrects(one.kind) != "nothing":
        mapped = any(pt_of(sample) for sample in config.samples)
        key = "the key 'columns' of the samples" if mapped else "key 'selection.muon_pt'"
        raise InputError(
            f"made for muons with {own} as their pt, but {key} is {asked!r};"
            f" set it to {own!r}, or take another payload"
        )


def muon_pt_of_samples(config: Config) -> str:
    """Return what the pt of the muons is in the files of a configuration, ``pt`` if nothing else.

    Where the samples do not have the same, all are said.
    """
    found = (pt_of(sample) or config.selection.muon_pt for sample in config.samples)
    return " or ".join(dict.fromkeys(found))


def correction(address: str, base: Path) -> Correction:
    """Return the payload at an address, ready to be applied to events.

    Parameters
    ----------
    address : str
        A path, relative to ``base``, or an address.
    base : Path
        Folder of the configuration.

    Returns
    -------
    Correction
        With the digest of the file.

    Raises
    ------
    InputError
        If there is none, or it comes from no calibration known here.
    """
    raw = content(address, base)
    document = parsed(raw, address)
    name = calibrations.name_of_payload(document)
    return Correction(address, hashlib.sha256(raw).hexdigest(), name, document)


def content(address: str, base: Path) -> bytes:
    """Return the bytes of a payload file. The one place that knows what an address may be.

    Parameters
    ----------
    address : str
        A path, relative to ``base``, or an address as fsspec knows them.
    base : Path
        Folder of the configuration.

    Returns
    -------
    bytes
        As in the file.

    Raises
    ------
    InputError
        If it cannot be read, or is larger than a payload may be.
    """
    try:
        if is_remote(address):
            import fsspec

            with fsspec.open(address, "rb") as file:
                raw: bytes = file.read(MAX_JSON + 1)
        else:
            with (base / Path(address).expanduser()).open("rb") as local:
                raw = local.read(MAX_JSON + 1)
    except FileNotFoundError:
        raise InputError(f"{address}: there is no such file; give a payload.json") from None
    except Exception as error:  # fsspec's systems have errors of any kind
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{address}: cannot be read ({text}); give a payload.json") from None
    if len(raw) > MAX_JSON:
        raise InputError(f"{address}: larger than {MAX_JSON} bytes; expected a payload")
    return raw


def used(corrections: Mapping[str, tuple[Correction, ...]]) -> list[dict[str, Any]]:
    """Return the payloads that were applied, and to which samples, for the provenance."""
    samples: dict[str, list[str]] = {}
    first: dict[str, Correction] = {}
    for name, own in corrections.items():
        for one in own:
            first.setdefault(one.address, one)
            samples.setdefault(one.address, []).append(name)
    return [
        {
            "path": address,
            "sha256": one.sha256,
            "calibration": one.calibration,
            "samples": samples[address],
        }
        for address, one in first.items()
    ]
