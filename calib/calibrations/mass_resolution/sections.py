"""placeholder"""
from __future__ import annotations
def sections(*a):  # type: ignore
    return ()
