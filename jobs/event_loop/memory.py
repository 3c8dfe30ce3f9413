"""Memory of the event loop: what a chunk has freed is kept for the next one."""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_LARGEST = 32 * 1024**2
"""Bytes; the largest threshold that the allocator takes."""


@cache
def keep_freed() -> bool:
    """Let the allocator keep what is freed, up to the most that was in use; return whether it does.

    Columns of a chunk are a few MB each. Given back to the system, each page of the next chunk
    is fetched and cleared anew, which costs a fifth of the event loop. Only glibc has the switch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
