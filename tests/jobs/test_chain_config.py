"""The order of a chain, and the configuration of each of its steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InputError
from jobs.config.chain import before, chain_of, config_of, order

SAMPLES = [
    {"name": n, "resonance": r, "format": "stage1", "files": [f"{n}.parquet"], "simulation": s}
    for n, r, s in (("jpsi", "jpsi", False), ("z", "z", False), ("z-mc", "z", True))
]


def chain(*steps: dict[str, Any], **values: Any):
    made = [{"calibration": "momentum_scale", **s} for s in steps]
    return chain_of({"name": "c", "samples": SAMPLES, **values, "chain": made}, "c.yaml")


def names(steps) -> list[str]:
    return [step.name for step in steps]


def test_each_comes_after_the_one_before_it_unless_it_says_so():
    found = chain({"name": "c", "after": ["b"]}, {"name": "a", "after": []}, {"name": "b"})
    assert names(order(found.chain)) == ["a", "b", "c"]
    assert names(before(found.chain, "c")) == ["a", "b"]
    found = chain({"name": "a"}, {"name": "b", "after": []}, {"name": "c", "after": ["a"]})
    assert names(order(found.chain)) == ["a", "b", "c"]
    assert names(before(found.chain, "c")) == ["a"] and before(found.chain, "b") == ()


@given(st.permutations(range(6)), st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_whoever_is_read_comes_first(place, pairs):
    """Steps in any order, each after some of those with a smaller number."""
    after = {i: sorted(f"s{j}" for k, j in pairs if k == i and j < i) for i in range(6)}
    found = chain(*({"name": f"s{i}", "after": after[i]} for i in place))
    at = {name: i for i, name in enumerate(names(order(found.chain)))}
    assert len(at) == 6
    assert all(at[a] < at[f"s{i}"] for i in range(6) for a in after[i])


def test_what_cannot_be_ordered_is_one_sentence():
    with pytest.raises(InputError, match="steps wait for each other: a -> b -> c -> a"):
        chain(
            {"name": "a", "after": ["b"]},
            {"name": "b", "after": ["c"]},
            {"name": "c", "after": ["a"]},
        )
    with pytest.raises(InputError, match="wait for each other: a -> a"):
        chain({"name": "a", "after": ["a"]})
    with pytest.raises(InputError, match="no step 'scal'; did you mean 'scale'"):
        chain({"name": "scale"}, {"name": "b", "after": ["scal"]})
    with pytest.raises(InputError, match="two steps are named 'a'"):
        chain({"name": "a"}, {"name": "a"})
    with pytest.raises(InputError, match=r"unknown key 'chain.0.sample'; did you mean 'samples'"):
        chain({"name": "a", "sample": []})
    with pytest.raises(InputError, match="'chain'"):
        chain()


def test_a_step_has_what_the_chain_has_and_its_own():
    found = chain(
        {"name": "scale", "samples": ["jpsi"], "seed": 4, "settings": {"copies": 2}},
        {
            "name": "resolution",
            "samples": ["z", {**SAMPLES[2], "name": "mine"}],
            "selection": {"abs_eta": 1.4},
        },
        chunk_size=100,
        cluster={"kind": "inline"},
        payloads=["first.json"],
        selection={"leading_pt": 30.0},
    )
    first, second = found.chain
    config = config_of(found, first, [], "here")
    assert config.name == "c.scale" and config.payloads == ("first.json",)
    assert (config.seed, config.chunk_size, config.cluster.kind) == (4, 100, "inline")
    assert names(config.samples) == ["jpsi"] and config.settings == {"copies": 2}
    assert config.selection.leading_pt == 30.0
    config = config_of(found, second, ["scale/payload.json"], "here")
    assert config.payloads == ("first.json", "scale/payload.json") and config.seed == 1
    assert names(config.samples) == ["z", "mine"]
    assert (config.selection.abs_eta, config.selection.leading_pt) == (1.4, None)


def test_a_sample_or_a_key_that_is_not_there_is_named():
    found = chain({"name": "a", "samples": ["zz"]})
    with pytest.raises(InputError, match="here: key 'samples': the chain has no sample 'zz'; did"):
        config_of(found, found.chain[0], [], "here")
    found = chain({"name": "a", "samples": [{"name": "x", "resonance": "z", "files": ["x"]}]})
    with pytest.raises(InputError, match=r"here: key 'samples.0.format' is missing"):
        config_of(found, found.chain[0], [], "here")
    found = chain({"name": "a", "cluster": {"worker": 3}})
    with pytest.raises(InputError, match="unknown key 'cluster.worker'"):
        config_of(found, found.chain[0], [], "here")
