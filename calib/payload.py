"""Payloads: correctionlib schema 2 documents, read with care and used from arrays."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.arrays import AnyArray, Array
from calib.calibrations import of_payload
from calib.documents import MAX_JSON, json_values
from calib.errors import InputError
from calib.pairs import Muons, Pairs


@dataclass(frozen=True)
class Payload:
    """A payload that has been read and validated."""

    document: Mapping[str, Any]
    path: str

    def __call__(
        self,
        *,
        pt: tuple[Array, Array],
        eta: tuple[Array, Array],
        phi: tuple[Array, Array],
        charge: tuple[AnyArray, AnyArray],
        pt_err: tuple[Array, Array] | None = None,
    ) -> Mapping[str, AnyArray]:
        """Return new columns of each pair, by name.

        Parameters
        ----------
        pt, eta, phi, charge, pt_err : pairs of arrays, each of shape (n,)
            Of the leading and the other muon; GeV. ``pt_err`` where the payload multiplies a
            predicted resolution.

        Returns
        -------
        mapping of name to array, shape (n,)
            What the calibration adds (``dimuon_mass_resolution`` in GeV, its status ...); or
            ``mu1_pt, mu2_pt`` in GeV, where it corrects the muons.
        """
        muons = [
            Muons(
                pt=np.asarray(pt[i], dtype=np.float64),
                eta=np.asarray(eta[i], dtype=np.float64),
                phi=np.asarray(phi[i], dtype=np.float64),
                charge=np.asarray(charge[i], dtype=np.int64),
                pt_err=None if pt_err is None else np.asarray(pt_err[i], dtype=np.float64),
            )
            for i in (0, 1)
        ]
        n = len(muons[0].pt)
        zero = np.zeros(n, dtype=np.uint64)
        pairs = Pairs(muons[0], muons[1], np.ones(n), zero, zero, zero)
        return of_payload(self.document).apply(self.document, pairs)


def load_payload(path: str | Path) -> Payload:
    """Return the payload in a file, ready to be used from arrays.

    Raises
    ------
    InputError
        If the file cannot be read, is no correctionlib schema 2 document, or comes from no
        calibration known here.
    """
    document = read(Path(path))
    of_payload(document)
    return Payload(document, str(path))


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
    """Return the document in the bytes of a payload file, of this path or address, validated.

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
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: not a correctionlib payload of schema 2 ({reason}); give a payload.json"
        ) from None
    return document


def validate(document: Mapping[str, Any], text: str) -> None:
    """Raise where correctionlib's schema or its reader does not accept a payload."""
    import correctionlib
    from correctionlib.schemav2 import CorrectionSet

    CorrectionSet.model_validate(document)
    correctionlib.CorrectionSet.from_string(text)
