"""The versions of constraints: those of the newest dask, and the old pair of the extra lazy."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def pinned(name: str) -> dict[str, str]:
    """Return the versions that a file of constraints gives this Python, by name."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                assert requirement.name not in found, f"{name}: {requirement.name} twice"
                found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


@pytest.mark.parametrize(
    ("name", "first", "beyond"),
    [("constraints.txt", (2026, 8), (9999, 0)), ("constraints-lazy.txt", (2025, 3), (2025, 4))],
)
def test_dask_and_distributed_are_a_pair(
    name: str, first: tuple[int, int], beyond: tuple[int, int]
) -> None:
    versions = pinned(name)
    assert versions["dask"] == versions["distributed"]
    assert first <= tuple(int(part) for part in versions["dask"].split(".")[:2]) < beyond
    assert ("dask-awkward" in versions) == (name == "constraints-lazy.txt")


def test_the_pair_runs_that_was_installed_together() -> None:
    assert version("dask") == version("distributed")
