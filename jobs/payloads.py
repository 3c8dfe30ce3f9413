"""Payload files: validated by correctionlib before they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib.errors import CalibError
from calib.payload import validate
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
