"""Payloads: correctionlib schema 2 documents, read with care and used from arrays."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calib.calibrations import get, of_payload
from calib.calibrations.base import Calibration
from calib.calibrations.capabilities import AddsColumns
from calib.documents import MAX_JSON, json_values
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.later import pandas as pd
from calib.sentences import sentence
from calib.types import AnyArray, Array


@dataclass(frozen=True)
class Payload:
    """A payload that has been read and validated."""

    document: Mapping[str, Any]
    path: str
    kind: type[Calibration]

    def __call__(
        self,
        *,
        pt: tuple[Array, Array],
        eta: tuple[Array, Array],
        phi: tuple[Array, Array],
        charge: tuple[AnyArray, AnyArray],
        pt_err: tuple[Array, Array] | None = None,
        simulation: bool = False,
        event: tuple[AnyArray, AnyArray, AnyArray] | None = None,
        n_tracker_layers: tuple[AnyArray, AnyArray] | None = None,
    ) -> Mapping[str, AnyArray]:
        """Return new columns of each pair, by name.

        Parameters
        ----------
        pt, eta, phi, charge, pt_err : pairs of arrays, each of shape (n,)
            Of the leading and the other muon; GeV. ``pt_err`` where the payload multiplies a
            predicted resolution.
        simulation : bool
            Simulated muons, which a momentum scale corrects for their own scale and smears.
        event : three arrays, each of shape (n,)
            run, luminosityBlock and event number; the smearing of a simulated event belongs to
            it, and is the same wherever it is made.
        n_tracker_layers : pair of arrays, each of shape (n,)
            Of simulated muons, where the payload is a file of muon_scalesmearing.

        Returns
        -------
        mapping of name to array, shape (n,)
            ``mu1_pt, mu2_pt`` in GeV, where it corrects the muons, and ``mu1_ptErr, mu2_ptErr``;
            ``dimuon_mass_resolution`` in GeV, and where it comes from; ``..._status`` as in
            `calib.results.Status`: 0 ok, 1 merged, 2 held, above 2 unusable.

        Raises
        ------
        InputError
            If the arrays do not fit together, or something is missing that the payload needs.
        """
        parts = {"pt": pt, "eta": eta, "phi": phi, "charge": charge, "pt_err": pt_err}
        pairs = _pairs(parts, event, simulation, self.path)
        if n_tracker_layers is not None:
            first, second = ({"nTrackerLayers": np.asarray(x)} for x in n_tracker_layers)
            pairs = replace(
                pairs,
                leading=replace(pairs.leading, extra=first),
                subleading=replace(pairs.subleading, extra=second),
            )
        found = dict(self.kind.quality(self.document, pairs))
        if issubclass(self.kind, AddsColumns):
            found |= self.kind.apply(self.document, pairs)
        return found

    @property
    def calibration(self) -> str:
        """Name of the calibration that it comes from."""
        return self.kind.name

    def to_dataframe(self) -> pd.DataFrame:
        """Return the values in it, one row each: ``name, kind, value, error, status``."""
        return self.kind.values(self.document)


def _pairs(
    parts: Mapping[str, tuple[AnyArray, AnyArray] | None],
    event: tuple[AnyArray, AnyArray, AnyArray] | None,
    simulation: bool,
    where: str,
) -> Pairs:
    columns: dict[str, Any] = {name: both for name, both in parts.items() if both is not None}
    if event is not None:
        columns["event"] = event
    elif simulation:
        raise InputError(
            f"{where}: simulated muons are smeared by the numbers of their event; give"
            " event=(run, luminosityBlock, event)"
        )
    lengths = {name: [np.shape(x) for x in both] for name, both in columns.items()}
    n = lengths["pt"][0]
    for name, found in lengths.items():
        if len(n) != 1 or found != [n] * (3 if name == "event" else 2):
            raise InputError(
                f"{where}: {name} has arrays of shapes {', '.join(map(str, found))}, expected"
                f" {'three' if name == 'event' else 'two'} of {n[:1]} like pt; one entry a pair"
            )
    first, second = (_muons(columns, i) for i in (0, 1))
    zero = np.zeros(n, dtype=np.uint64)
    run, block, number = (np.asarray(x, dtype=np.uint64) for x in event or (zero, zero, zero))
    pairs = Pairs(first, second, np.ones(n), run, block, number)
    return replace(pairs, gen_mass=np.full(n, np.nan)) if simulation else pairs


def _muons(columns: Mapping[str, Any], i: int) -> Muons:
    own: dict[str, Any] = {
        name: np.asarray(both[i], dtype=np.int64 if name == "charge" else np.float64)
        for name, both in columns.items()
        if name != "event"
    }
    return Muons(**own)


def load_payload(path: str | Path, calibration: str | None = None) -> Payload:
    """Return the payload in a file, ready to be used from arrays.

    Parameters
    ----------
    path : str or Path
        The file.
    calibration : str, optional
        Name of the one that it comes from, for a calibration in a file of one's own
        (``package.module:Class``).

    Returns
    -------
    Payload
        Validated.

    Raises
    ------
    InputError
        If the file cannot be read, is no correctionlib schema 2 document, or comes from no
        calibration known here.
    """
    document = read(Path(path))
    kind = of_payload(document) if calibration is None else get(calibration)
    return Payload(document, str(path), kind)


def read(path: Path) -> dict[str, Any]:
    """Return the document in a payload file (``.json``, or ``.json.gz``), validated.

    Raises
    ------
    InputError
        If it is not a correctionlib payload of schema 2, or larger than 64 MB.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_JSON + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; give a payload.json") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a correctionlib payload"
        ) from None
    return parsed(raw, str(path))


def parsed(raw: bytes, path: str) -> dict[str, Any]:
    """Return the document in the bytes of a payload file, validated.

    Parameters
    ----------
    raw : bytes
        Content of the file.
    path : str
        File or address, for the sentences of errors; ``.gz`` is unpacked.

    Returns
    -------
    dict
        Plain values.

    Raises
    ------
    InputError
        As `read`.
    """
    try:
        if path.endswith(".gz"):
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(MAX_JSON + 1)
        if len(raw) > MAX_JSON:
            raise InputError(f"{path}: larger than {MAX_JSON} bytes; expected a payload")
        text = raw.decode("utf-8")
        document: dict[str, Any] = json_values(text)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: not readable JSON ({error}); expected a correctionlib payload"
        ) from None
    try:
        validate(document, text)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path}: not a correctionlib payload of schema 2 ({reason}); give a payload.json"
        ) from None
    return document


def validate(document: Mapping[str, Any], text: str) -> None:
    """Refuse a payload that correctionlib's schema or its reader does not accept.

    Parameters
    ----------
    document : mapping
        The payload.
    text : str
        The same, as JSON.

    Raises
    ------
    ValueError
        If correctionlib's schema does not accept it.
    Exception
        Whatever its reader raises.
    """
    import correctionlib
    from correctionlib.schemav2 import CorrectionSet
    from pydantic import ValidationError

    try:
        CorrectionSet.model_validate(document)
    except ValidationError as error:
        raise ValueError(sentence(CorrectionSet, error).removesuffix("; correct it")) from None
    correctionlib.CorrectionSet.from_string(text)
