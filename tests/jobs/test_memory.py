import resource

import numpy as np
import pytest

from jobs.event_loop.memory import keep_freed


def test_freed_memory_is_not_fetched_again():
    if not keep_freed():
        pytest.skip("another C library than glibc")
    for _ in range(3):
        np.ones(500_000)  # 4 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(500_000)
    # a thousand pages each, were they given back
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5_000
