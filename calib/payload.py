"""Payloads: correctionlib schema 2 documents, read with care and used from arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.arrays import AnyArray, Array
from calib.calibrations import of_payload
from calib.errors import InputError
from calib.pairs import Muons, Pairs

MAX_BYTES = 256 * 1024 * 1024


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
    """Return the payload in a file.

    Raises
    ------
    InputError
        If the file cannot be read, is no correctionlib schema 2 document, or comes from no
        calibration known here.
    """
    where = Path(path)
    try:
        if where.stat().st_size > MAX_BYTES:
            raise InputError(f"{where}: larger than {MAX_BYTES} bytes; expected a payload")
        document = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file; `calib run` writes one") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{where}: not a readable JSON document ({error})") from None
    _validate(document, where)
    of_payload(document)
    return Payload(document, str(where))


def _validate(document: Any, where: Path) -> None:
    from correctionlib.schemav2 import CorrectionSet
    from pydantic import ValidationError

    try:
        CorrectionSet.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}: not a correctionlib schema 2 document (key {key!r}: {first['msg']})"
        ) from None
