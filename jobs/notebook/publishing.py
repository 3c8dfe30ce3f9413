"""A result into the store of constants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.notebook.result import Result


def publish(result: Result, store: str | Path, since: int, until: int | None, **keys: Any) -> Any:
    """Publish the directory of a result; return the revision."""
    from jobs.storage.database import is_address
    from jobs.store import Store

    address = str(store)
    with Store.open(address) if is_address(address) else Store.create(address) as opened:
        return opened.publish(result.directory, result.config.calibration, since, until, **keys)
