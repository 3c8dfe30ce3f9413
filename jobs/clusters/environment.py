"""What runs on workers elsewhere is what runs here: versions, code, and how it gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.cluster import Cluster

if TYPE_CHECKING:
    from distributed import Client

    from calib.calibrations.base import Calibration


def equip(found: Client, cluster: Cluster, calibration: Calibration | None = None) -> None:
    """Check the workers."""
