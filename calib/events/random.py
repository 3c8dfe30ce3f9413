"""Random numbers that belong to an event: the same however the events are cut into chunks.

A key is made from (seed, run, luminosityBlock, event); the n-th number of an event is a hash of
its key and n (SplitMix64: G. Steele et al., OOPSLA 2014, doi:10.1145/2660193.2660195).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from calib.events.vecmath import log, sin_cos
from calib.types import AnyArray, Array, IntArray, UIntArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@numba.njit(cache=True, inline="always")
def mix(x):  # type: ignore[no-untyped-def]
    """Return a well mixed 64-bit number (the finaliser of SplitMix64)."""
    x = np.uint64(x + _GOLDEN)
    x = np.uint64((x ^ (x >> np.uint64(30))) * _MIX1)
    x = np.uint64((x ^ (x >> np.uint64(27))) * _MIX2)
    return np.uint64(x ^ (x >> np.uint64(31)))


@numba.njit(cache=True, inline="always")
def uniform(key, counter):  # type: ignore[no-untyped-def]
    """Return the counter-th uniform number of a key.

    Parameters
    ----------
    key, counter : int
        Key of the event and number of the draw.

    Returns
    -------
    float
        In (0, 1).
    """
    bits = mix(np.uint64(key) ^ mix(np.uint64(counter)))
    return (float(bits >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@numba.njit(cache=True, inline="always")
def normal_pair(key, counter):  # type: ignore[no-untyped-def]
    """Return two independent standard normal numbers, from counter and counter + 1.

    Parameters
    ----------
    key, counter : int
        Key of the event and number of the first draw.

    Returns
    -------
    float
        Of mean 0 and width 1.
    float
        Another one.
    """
    radius = math.sqrt(-2.0 * log(uniform(key, counter)))
    sine, cosine = sin_cos(2.0 * math.pi * uniform(key, counter + 1))
    return radius * cosine, radius * sine


@numba.njit(cache=True)
def _keys(seed, run, lumi, event, out):  # type: ignore[no-untyped-def]
    start = mix(np.uint64(seed))
    for i in range(len(out)):
        out[i] = mix(mix(mix(start ^ np.uint64(run[i])) ^ np.uint64(lumi[i])) ^ np.uint64(event[i]))


def keys(seed: int, run: AnyArray, luminosityBlock: AnyArray, event: AnyArray) -> UIntArray:
    """Return the key of each event.

    Parameters
    ----------
    seed : int
        The same for all.
    run, luminosityBlock, event : int array, shape (n,)
        Identity of the events.

    Returns
    -------
    uint array, shape (n,)
        Hashes.
    """
    out = np.empty(len(run), dtype=np.uint64)
    _keys(
        np.uint64(seed),
        *(np.ascontiguousarray(x, dtype=np.uint64) for x in (run, luminosityBlock, event)),
        out,
    )
    return out


@numba.njit(cache=True, nogil=True)
def _uniforms(keys, counter, out):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        out[i] = uniform(keys[i], counter)


def uniforms(keys: UIntArray, counter: int) -> Array:
    """Return the counter-th uniform number of each key.

    Parameters
    ----------
    keys : uint array, shape (n,)
        Of `keys`.
    counter : int
        Number of the draw.

    Returns
    -------
    array, shape (n,)
        In (0, 1).
    """
    out = np.empty(len(keys))
    _uniforms(keys, counter, out)
    return out


def uniform_of(seed: int, events: Any) -> Array:
    """Return a random number of each event, of pairs or records.

    Parameters
    ----------
    seed : int
        The same for all.
    events : Pairs or Records
        n of them.

    Returns
    -------
    array, shape (n,)
        In (0, 1).
    """
    return uniforms(keys(seed, events.run, events.luminosityBlock, events.event), 0)


def half(run: AnyArray, luminosityBlock: AnyArray, event: AnyArray) -> IntArray:
    """Return the half of the sample that an event belongs to, whatever the seed.

    Parameters
    ----------
    run, luminosityBlock, event : int array, shape (n,)
        Identity of the events.

    Returns
    -------
    int array, shape (n,)
        0 or 1.
    """
    return (keys(0, run, luminosityBlock, event) & np.uint64(1)).astype(np.int64)
