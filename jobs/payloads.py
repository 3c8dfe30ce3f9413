"""Payload files: validated by correctionlib before they are written, and when they are read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib.errors import CalibError, InputError
from jobs.directory import write_text


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a payload, whole or not at all.

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
    write_text(path, text + "\n")


def validate(document: Mapping[str, Any], text: str) -> None:
    """Raise where correctionlib's schema or its reader does not accept a payload."""
    import correctionlib
    from correctionlib.schemav2 import CorrectionSet

    CorrectionSet.model_validate(document)
    correctionlib.CorrectionSet.from_string(text)


def read(path: Path) -> dict[str, Any]:
    """Return the document in a payload file (``.json``, or ``.json.gz``).

    Raises
    ------
    InputError
        If it is not a correctionlib payload.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
        document: dict[str, Any] = json.loads(text)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; give a payload.json") from None
    except (OSError, ValueError, EOFError) as error:
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
