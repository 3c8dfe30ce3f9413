import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.events.duplicates import count_doubles, grouped, n_keys

FEW = st.sampled_from([0, 1, 2, 2**56, 2**63, 2**64 - 1, 77])
NUMBERS = st.lists(FEW | st.integers(0, 2**64 - 1))


@settings(deadline=None, max_examples=200)
@given(st.lists(NUMBERS, max_size=5), st.integers(1, 40))
def test_doubles_are_those_of_a_set(parts, at_once):
    chunks = [grouped(np.array(part, dtype=np.uint64)) for part in parts]
    every = [x for part in parts for x in part]
    assert count_doubles(chunks, at_once) == len(every) - len(set(every))
    for part, chunk in zip(parts, chunks, strict=True):
        assert n_keys(chunk) == len(part)
        assert sorted(chunk[256:].tolist()) == sorted(part)


def test_a_few_doubles_among_many():
    keys = np.random.default_rng(1).integers(0, 2**64, 300_000, dtype=np.uint64)
    chunks = [grouped(keys[:100_000]), grouped(keys[100_000:]), grouped(keys[7:10])]
    assert count_doubles(chunks, 50_000) == count_doubles(chunks, 10**9) == 3


@pytest.mark.parametrize("cut", [10, 255, 256 + 50])
def test_what_is_no_grouped_keys_is_refused(cut):
    chunk = grouped(np.arange(100, dtype=np.uint64) << np.uint64(57))
    with pytest.raises(ValueError, match="expected where the groups end"):
        n_keys(chunk[:cut])
