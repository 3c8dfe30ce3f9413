"""What tests of all rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a busy machine takes as long as it takes
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


WHOLE = (
    "catalog",
    "clusters",
    "faults",
    "nightly",
    "notebook",
    "plugins",
    "reports/test_places.py",
    "serve",
    "store",
    "test_docs.py",
    "test_notebooks.py",
    "test_package.py",
    "jobs/test_chain.py",
    "jobs/test_demo.py",
    "jobs/test_kept.py",
    "jobs/test_report.py",
    "jobs/test_run.py",
    "jobs/test_runner.py",
    "jobs/test_skim.py",
    "jobs/test_small.py",
    "jobs/test_workers.py",
)
"""What starts a cluster, a server, a notebook or a whole chain of commands, below this folder."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make quick` leaves out."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix()
        if place.startswith(WHOLE):
            item.add_marker("whole")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files that this project did not make."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real files are not here (../shared/data)")
    return folder
